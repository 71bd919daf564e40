#include "delta/copies.h"

#include "common/bytes.h"

enum {
    SAMPLE = 48,    /* bytes of a fingerprint */
    SAMPLE_LOG = 5, /* log: a fingerprint is taken of one position in 32; the content selects it */
    LEAST = 256,    /* bytes; a shorter stretch is left to zstd, which codes it in fewer bytes */
    LEAST_NEAR = 96,  /* bytes; the same for a stretch that goes on near the last copy's source */
    NEAR_SPAN = 96,   /* bytes behind a copy in which such a stretch may begin */
    NEAR_STEP = 24,   /* bytes between the positions tried there */
    NEAR_SHIFT = 192, /* bytes that may have been inserted or removed before it */
    REFUSED_LOG = 8,  /* log: stretches remembered as too short */
    WAYS = 8,         /* places remembered for one fingerprint, the newest ones */
    BATCH = 512       /* positions looked through at once: about 16 fingerprints */
};

/* Tell whether a fingerprint is taken where these bytes stand. Not where bytes repeat within 8, as
 * zeros do: they would be found everywhere. */
static inline unsigned may_be_sample(uint64_t value)
{
    return value * 0x9fb21c651e98df25u >> (64 - SAMPLE_LOG) == 0;
}

/* Return the index of a fingerprint's ways in the table. */
static inline size_t bucket_of(const uint8_t *at, unsigned log)
{
    uint64_t value = 0;
    for (size_t word = 0; word < SAMPLE; word += sizeof value)
        value = ((value ^ value >> 32) + pk_load64(at + word)) * 0x9e3779b97f4a7c15u;
    return (size_t)(value >> (64 - log)) * WAYS;
}

/* Remember a position; it displaces the oldest one with the same fingerprint. */
static inline void note(uint32_t *ways, size_t at)
{
    for (int way = WAYS - 1; way > 0; way--)
        ways[way] = ways[way - 1];
    ways[0] = (uint32_t)at + 1;
}

/* The next fingerprints of the buffer, in order, with their places in the table. They are taken a
 * batch at a time: the first pass has no branch that depends on the data, and by the time a
 * fingerprint is used, its place in the table has come to the cache. */
typedef struct samples {
    const uint8_t *data;
    uint32_t *table;
    unsigned log;
    size_t end;  /* behind the last position that may be taken */
    size_t next; /* the first position that was not looked at */
    unsigned used, count;
    uint32_t at[BATCH];
    uint32_t *ways[BATCH];
} samples;

/* Look through the next positions, from `at` on if that is further. */
static void take(samples *in, size_t at)
{
    if (in->next < at)
        in->next = at;
    size_t left = in->end > in->next ? in->end - in->next : 0;
    unsigned length = left < BATCH ? (unsigned)left : BATCH, found = 0;
    const uint8_t *data = in->data + in->next;
    for (unsigned i = 0; i < length; i++) {
        in->at[found] = (uint32_t)in->next + i;
        found += may_be_sample(pk_load64(data + i));
    }
    in->used = in->count = 0;
    for (unsigned i = 0; i < found; i++) {
        const uint8_t *here = in->data + in->at[i];
        if (pk_load64(here) == pk_load64(here + 8))
            continue;
        uint32_t *ways = in->table + bucket_of(here, in->log);
        __builtin_prefetch(ways, 1);
        in->at[in->count] = in->at[i];
        in->ways[in->count++] = ways;
    }
    in->next += length;
}

/* Go to the first fingerprint at `at` or behind. Returns 0 if there is none. */
static inline int seek(samples *in, size_t at)
{
    for (;;) {
        for (; in->used < in->count; in->used++)
            if (in->at[in->used] >= at)
                return 1;
        if (in->next >= in->end || at >= in->end)
            return 0;
        take(in, at);
    }
}

/* Return the longest stretch around `at` that also stands around `from`. The text starts at
 * `floor` or behind; the source lies wholly in the older bytes or wholly in the text before. */
static pk_copy stretch(const uint8_t *data, size_t prefix, size_t size, size_t floor, size_t at,
                       size_t from)
{
    size_t first = from < prefix ? 0 : prefix;
    size_t back = at - floor < from - first ? at - floor : from - first;
    if (from >= prefix && back > at - from)
        back = at - from; /* or the source would reach into the copy */
    back = pk_equal_behind(data + at, data + from, back);
    size_t end = from < prefix ? prefix : at - back;
    size_t most = size - at < end - from ? size - at : end - from;
    size_t length = back + pk_equal_ahead(data + at, data + from, most);
    return (pk_copy){(uint32_t)(at - back), (uint32_t)(from - back), (uint32_t)length};
}

/* Find the text near the end of the last copy's source, where it goes on behind a small change.
 * Length 0: it is not there. */
static pk_copy resumed(const uint8_t *data, size_t prefix, size_t size, size_t floor,
                       size_t source)
{
    pk_copy best = {0, 0, 0};
    ptrdiff_t low = source <= prefix ? 0 : (ptrdiff_t)prefix,
              high = (ptrdiff_t)(source <= prefix ? prefix : floor);
    for (size_t step = 0; step < NEAR_SPAN && floor + step + sizeof(uint64_t) <= size;
         step += NEAR_STEP) {
        uint64_t here = pk_load64(data + floor + step);
        for (int turn = 0; turn <= 2 * NEAR_SHIFT; turn++) {
            ptrdiff_t from =
                (ptrdiff_t)(source + step) + (turn & 1 ? (turn + 1) / 2 : -(turn / 2));
            if (from < low || from + (ptrdiff_t)sizeof here > high
                || pk_load64(data + from) != here)
                continue;
            pk_copy one = stretch(data, prefix, size, floor, floor + step, (size_t)from);
            if (one.length >= LEAST_NEAR && one.length > best.length)
                best = one;
        }
        if (best.length)
            break;
    }
    return best;
}

/* A stretch that turned out too short, which need not be compared again at each of its bytes. */
typedef struct refusal {
    size_t shift, end;
} refusal;

static refusal *refusal_of(refusal *refused, size_t at, size_t from)
{
    return refused + ((uint32_t)(at - from) * 0x9e3779b1u >> (32 - REFUSED_LOG));
}

/* Return the longest stretch around `at` among the places with the same fingerprint; length 0 if
 * all are too short. */
static pk_copy elsewhere(const uint8_t *data, size_t prefix, size_t size, size_t floor, size_t at,
                         const uint32_t *ways, refusal *refused)
{
    pk_copy best = {0, 0, 0};
    for (int way = 0; way < WAYS && ways[way]; way++) {
        size_t from = ways[way] - 1;
        refusal *row = refusal_of(refused, at, from);
        if ((row->shift == at - from && at < row->end) || memcmp(data + at, data + from, SAMPLE))
            continue;
        pk_copy one = stretch(data, prefix, size, floor, at, from);
        if (one.length > best.length && one.length >= LEAST)
            best = one;
        if (one.length < LEAST)
            *row = (refusal){at - from, (size_t)one.at + one.length};
    }
    return best;
}

size_t pk_delta_find_fresh(const uint8_t *data, size_t prefix, size_t size, size_t most_fresh,
                           uint32_t *table, unsigned table_log, pk_copy *copies, size_t capacity)
{
    memset(table, 0, sizeof *table << table_log);
    samples in = {.data = data, .table = table, .log = table_log - 3};
    in.end = prefix < SAMPLE ? 0 : prefix - SAMPLE + 1;
    for (size_t at = 0; seek(&in, at); at = in.at[in.used] + 1)
        note(in.ways[in.used], in.at[in.used]);
    in.next = prefix;
    in.end = size < SAMPLE ? 0 : size - SAMPLE + 1;
    in.used = in.count = 0;
    refusal refused[1 << REFUSED_LOG] = {{0, 0}};
    size_t count = 0, floor = prefix, at = prefix, fresh = 0;
    pk_copy found = resumed(data, prefix, size, floor, 0);
    while (at + SAMPLE <= size && count < capacity) {
        if (!found.length) {
            if (!seek(&in, at))
                break;
            at = in.at[in.used];
            found = elsewhere(data, prefix, size, floor, at, in.ways[in.used], refused);
            if (!found.length) { /* what a copy covers stands elsewhere already */
                note(in.ways[in.used], at++);
                continue;
            }
        }
        fresh += found.at - floor + (found.from < prefix ? found.length : 0);
        if (fresh > most_fresh)
            return PK_TOO_FRESH;
        copies[count++] = found;
        floor = at = (size_t)found.at + found.length;
        found = resumed(data, prefix, size, floor, (size_t)found.from + found.length);
    }
    return count;
}

size_t pk_delta_find(const uint8_t *data, size_t prefix, size_t size, uint32_t *table,
                     unsigned table_log, pk_copy *copies, size_t capacity)
{
    return pk_delta_find_fresh(data, prefix, size, SIZE_MAX, table, table_log, copies, capacity);
}

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
