/* Copies and rests: taken from a text, put together to one, and coded as columns. */
#include "delta/copies.h"

#include "common/bytes.h"

size_t pk_delta_copied(const pk_copy *copies, size_t count, size_t end)
{
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        if (copies[i].from < end)
            length += copies[i].length;
    return length;
}

size_t pk_delta_rest(const uint8_t *data, size_t prefix, size_t size, const pk_copy *copies,
                     size_t count, uint8_t *out)
{
    size_t at = prefix, length = 0;
    for (size_t i = 0; i < count; i++) {
        memcpy(out + length, data + at, copies[i].at - at);
        length += copies[i].at - at;
        at = copies[i].at + copies[i].length;
    }
    memcpy(out + length, data + at, size - at);
    return length + (size - at);
}

/* Tell whether a copy is sound, and may follow text up to `done`. */
static int is_sound(const pk_copy *copy, size_t prefix, size_t size, size_t done)
{
    size_t at = copy->at, from = copy->from, length = copy->length;
    return length > 0 && at >= done && at <= size && length <= size - at && from <= at
           && length <= at - from && (from >= prefix || length <= prefix - from);
}

pk_status pk_delta_apply(const uint8_t *older, size_t prefix, size_t size, const pk_copy *copies,
                         size_t count, const uint8_t *rest, size_t rest_length, uint8_t *text)
{
    size_t done = prefix;
    for (size_t i = 0; i < count; i++) {
        if (!is_sound(&copies[i], prefix, size, done))
            return PK_INVALID;
        size_t gap = copies[i].at - done;
        if (gap > rest_length)
            return PK_INVALID;
        memcpy(text + (done - prefix), rest, gap);
        rest += gap;
        rest_length -= gap;
        const uint8_t *from =
            copies[i].from < prefix ? older + copies[i].from : text + (copies[i].from - prefix);
        memcpy(text + (copies[i].at - prefix), from, copies[i].length);
        done = (size_t)copies[i].at + copies[i].length;
    }
    if (rest_length != size - done)
        return PK_INVALID;
    memcpy(text + (done - prefix), rest, rest_length);
    return PK_OK;
}

pk_status pk_delta_check(const uint8_t *older, size_t prefix, size_t size, const pk_copy *copies,
                         size_t count, const uint8_t *rest, size_t rest_length,
                         const uint8_t *text)
{
    size_t done = prefix;
    for (size_t i = 0; i < count; i++) {
        if (!is_sound(&copies[i], prefix, size, done))
            return PK_INVALID;
        size_t gap = copies[i].at - done;
        const uint8_t *from =
            copies[i].from < prefix ? older + copies[i].from : text + (copies[i].from - prefix);
        if (gap > rest_length || memcmp(text + (done - prefix), rest, gap)
            || memcmp(text + (copies[i].at - prefix), from, copies[i].length))
            return PK_INVALID;
        rest += gap;
        rest_length -= gap;
        done = (size_t)copies[i].at + copies[i].length;
    }
    return rest_length == size - done && !memcmp(text + (done - prefix), rest, rest_length)
               ? PK_OK
               : PK_INVALID;
}

/* Numbers are coded as a class, a byte, and extra bits: those below DIRECT are their class; of
 * others the class tells the length in bits and the SUB bits behind the first one, the rest is
 * extra. */
enum {
    DIRECT_LOG = 5,
    DIRECT = 1 << DIRECT_LOG,
    SUB = 2,
    MOST_BITS = 26,
    CLASSES = DIRECT + ((MOST_BITS - DIRECT_LOG) << SUB),
    IN_TEXT = 0x80 /* set in the class of a place if the source lies in the text */
};

static uint8_t put_number(pk_bit_writer *extra, uint32_t value)
{
    if (value < DIRECT)
        return (uint8_t)value;
    unsigned length = 32 - (unsigned)__builtin_clz(value), rest = length - 1 - SUB;
    pk_put_bits(extra, value & ((1u << rest) - 1), rest);
    return (uint8_t)(DIRECT + ((length - 1 - DIRECT_LOG) << SUB)
                     + (value >> rest & ((1u << SUB) - 1)));
}

size_t pk_delta_encode(const pk_copy *copies, size_t count, size_t prefix, uint8_t *classes,
                       uint8_t *extra)
{
    pk_bit_writer writer = {extra, 0, 0};
    size_t done = prefix;
    for (size_t i = 0; i < count; i++) {
        classes[i] = put_number(&writer, (uint32_t)(copies[i].at - done));
        done = (size_t)copies[i].at + copies[i].length;
    }
    for (size_t i = 0; i < count; i++)
        classes[count + i] = put_number(&writer, copies[i].length);
    uint32_t shifts[2] = {(uint32_t)prefix, 0};
    for (size_t i = 0; i < count; i++) {
        int in_text = copies[i].from >= prefix;
        uint32_t shift = copies[i].at - copies[i].from, moved = shift - shifts[in_text];
        shifts[in_text] = shift;
        uint8_t class = put_number(&writer, moved << 1 ^ (moved >> 31 ? UINT32_MAX : 0));
        classes[2 * count + i] = class | (in_text ? IN_TEXT : 0);
    }
    return (size_t)(pk_end_bits(&writer) - extra);
}

typedef struct bit_reader {
    const uint8_t *in, *end;
    uint64_t bits;
    unsigned count;
} bit_reader;

/* Read a number. Returns 0, or -1: the class is unknown, or the bits are used up. */
static int get_number(bit_reader *extra, uint8_t class, uint32_t *value)
{
    *value = class;
    if (class < DIRECT)
        return 0;
    if (class >= CLASSES)
        return -1;
    unsigned above = class - DIRECT, rest = (above >> SUB) + DIRECT_LOG - SUB;
    for (; extra->count < rest; extra->count += 8) {
        if (extra->in == extra->end)
            return -1;
        extra->bits |= (uint64_t)*extra->in++ << extra->count;
    }
    uint32_t top = 1u << SUB | (above & ((1u << SUB) - 1));
    *value = top << rest | (uint32_t)(extra->bits & ((1u << rest) - 1));
    extra->bits >>= rest;
    extra->count -= rest;
    return 0;
}

pk_status pk_delta_decode(const uint8_t *classes, size_t count, const uint8_t *extra,
                          size_t extra_length, size_t prefix, size_t size, pk_copy *copies)
{
    bit_reader reader = {extra, extra + extra_length, 0, 0};
    for (size_t i = 0; i < count; i++)
        if (get_number(&reader, classes[i], &copies[i].at))
            return PK_INVALID;
    for (size_t i = 0; i < count; i++)
        if (get_number(&reader, classes[count + i], &copies[i].length))
            return PK_INVALID;
    uint32_t shifts[2] = {(uint32_t)prefix, 0};
    size_t done = prefix;
    for (size_t i = 0; i < count; i++) {
        uint32_t coded;
        uint8_t class = classes[2 * count + i];
        int in_text = class >= IN_TEXT;
        if (get_number(&reader, class & (IN_TEXT - 1), &coded) || copies[i].at > size - done)
            return PK_INVALID;
        copies[i].at += (uint32_t)done;
        shifts[in_text] += coded >> 1 ^ (coded & 1 ? UINT32_MAX : 0);
        copies[i].from = copies[i].at - shifts[in_text];
        if (!is_sound(&copies[i], prefix, size, done) || in_text != (copies[i].from >= prefix))
            return PK_INVALID;
        done = (size_t)copies[i].at + copies[i].length;
    }
    return reader.in == reader.end && !reader.bits ? PK_OK : PK_INVALID;
}
