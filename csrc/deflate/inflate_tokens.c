/* The tokens of a block with codes: a fast loop, and a careful reader where input, memory or a
 * segment may end within a token, or a symbol is rare. Both read the same.
 */
#include <string.h>

#include "deflate/inflate_codes.h"

/* Copy a match; may write 15 bytes behind it. */
static inline void copy_match(uint8_t *out, unsigned distance, unsigned length)
{
    const uint8_t *in = out - distance, *end = out + length;
    if (distance >= 16) {
        do {
            memcpy(out, in, 16);
            in += 16;
            out += 16;
        } while (out < end);
    } else if (distance == 1) {
        uint64_t word = *in * UINT64_C(0x0101010101010101);
        do {
            memcpy(out, &word, 8);
            memcpy(out + 8, &word, 8);
            out += 16;
        } while (out < end);
    } else {
        /* The first `step` bytes of each word are right. */
        const unsigned step = distance < 8 ? distance : 8;
        do {
            uint64_t word;
            memcpy(&word, in, 8);
            memcpy(out, &word, 8);
            in += step;
            out += step;
        } while (out < end);
    }
}

/* Return the extra bits of an entry: the upper ones of those that it takes. */
static inline unsigned extra_of(pk_entry entry, uint64_t bits)
{
    const uint64_t all = bits & ((UINT64_C(1) << (uint8_t)entry) - 1);
    return (unsigned)(all >> pk_entry_code(entry));
}

/* Where the fast loop is. */
typedef struct place {
    const uint8_t *in;
    uint64_t bits;
    unsigned count; /* of bits; there are more behind them, which the next load gives again */
    uint8_t *out;
    pk_token *token;
} place;

/* Have 56 bits at least, and behind them some that `count` does not count. */
static inline void fill(place *is)
{
    is->bits |= pk_load64(is->in) << is->count;
    is->in += (63 - is->count) >> 3;
    is->count |= 56;
}

static inline pk_entry look_up(const place *is, const pk_decoders *with)
{
    return with->literals[is->bits & ((1 << PK_LITERAL_ROOT) - 1)];
}

/* Write a literal, and return the entry behind it. */
static inline pk_entry put_literal(place *is, const pk_decoders *with, pk_entry entry)
{
    *is->token++ = *is->out++ = (uint8_t)(entry >> 16);
    is->bits >>= (uint8_t)entry;
    is->count -= (uint8_t)entry;
    return look_up(is, with);
}

/* Write a match whose length `entry` tells, unless its distance is wrong, and set `entry` to
 * the one behind it. Returns whether it did. */
static inline int put_match(place *is, const pk_decoders *with, pk_entry *entry,
                            const uint8_t *data)
{
    const unsigned length = (*entry >> 16) + extra_of(*entry, is->bits);
    const uint64_t rest = is->bits >> (uint8_t)*entry;
    pk_entry second = with->distances[rest & ((1 << PK_DISTANCE_ROOT) - 1)];
    if (second & PK_ENTRY_LONGER)
        second = pk_longer(with->distances, second, rest, PK_DISTANCE_ROOT);
    const unsigned distance = (second >> 16) + extra_of(second, rest);
    if ((second & PK_ENTRY_OTHER) || distance > (size_t)(is->out - data))
        return 0;
    is->bits = rest >> (uint8_t)second;
    is->count -= (uint8_t)*entry + (uint8_t)second;
    *entry = look_up(is, with);
    fill(is);
    *is->token++ = length << 16 | distance;
    copy_match(is->out, distance, length);
    is->out += length;
    return 1;
}

/* Read tokens as long as neither input nor memory may end within one, and all goes well; the next
 * one is for `read_token` in any case.
 *
 * A load is enough for three short literals or one match, the longest of which has 48 bits, and to
 * look up what comes next. */
static void read_most_tokens(pk_reader *from, pk_segment *to, const pk_decoders *with,
                             size_t most_bytes, size_t most_tokens)
{
    enum {
        ROOM = PK_MAX_MATCH + 32, /* bytes that one turn may write; a match comes last */
        AHEAD = 24,               /* bytes of input that one turn may load */
        LITERALS = 3              /* before a match, or one more, in a turn */
    };
    if (most_tokens > to->token_capacity)
        most_tokens = to->token_capacity;
    if (from->at + AHEAD > from->length || to->capacity < ROOM + PK_PAD || most_tokens < LITERALS)
        return;
    const size_t room = to->capacity - ROOM - PK_PAD;
    const uint8_t *const in_end = from->in + from->length - AHEAD, *const data = to->data;
    const uint8_t *const out_end = data + (room < most_bytes ? room : most_bytes);
    const pk_token *const token_end = to->tokens + most_tokens - LITERALS;
    place is = {from->in + from->at, from->bits, from->count, to->data + to->size,
                to->tokens + to->token_count};
    fill(&is);
    pk_entry entry = look_up(&is, with);
    while (is.in <= in_end && is.out + LITERALS < out_end && is.token < token_end) {
        if (entry & PK_ENTRY_LITERAL) {
            entry = put_literal(&is, with, entry);
            if (entry & PK_ENTRY_LITERAL) {
                entry = put_literal(&is, with, entry);
                if (entry & PK_ENTRY_LITERAL)
                    entry = put_literal(&is, with, entry);
            }
            fill(&is);
            if (entry & PK_ENTRY_LITERAL)
                continue;
        }
        if (entry & PK_ENTRY_OTHER) {
            if (!(entry & PK_ENTRY_LONGER))
                break;
            entry = pk_longer(with->literals, entry, is.bits, PK_LITERAL_ROOT);
            if (entry & PK_ENTRY_LITERAL) {
                entry = put_literal(&is, with, entry);
                fill(&is);
                continue;
            }
            if (entry & PK_ENTRY_OTHER)
                break;
        }
        if (!put_match(&is, with, &entry, data))
            break;
    }
    from->at = (size_t)(is.in - from->in);
    from->bits = is.bits & ((UINT64_C(1) << is.count) - 1);
    from->count = is.count;
    to->size = (size_t)(is.out - data);
    to->token_count = (size_t)(is.token - to->tokens);
}

/* What follows a token. */
enum { END_OF_BLOCK = 2, CUT = 3 };

/* Have memory for one more token. */
static pk_status have_room(const pk_reader *from, pk_segment *to)
{
    if (to->size + PK_MAX_MATCH + PK_PAD > to->capacity) {
        const size_t expected = pk_segment_expected(from, to, to->size);
        const size_t least = to->size + (1 << 16);
        if (pk_segment_grow((void **)&to->data, &to->capacity,
                            (expected > least ? expected : least) + PK_PAD, 1))
            return PK_NO_MEMORY;
    }
    if (to->token_count == to->token_capacity) {
        const size_t expected = pk_segment_expected(from, to, to->token_count);
        const size_t least = to->token_count + (1 << 14);
        if (pk_segment_grow((void **)&to->tokens, &to->token_capacity,
                            expected > least ? expected : least, sizeof *to->tokens))
            return PK_NO_MEMORY;
    }
    return PK_OK;
}

/* Read one token. Returns a pk_status, or END_OF_BLOCK. */
static int read_token(pk_reader *from, pk_segment *to, const pk_decoders *with)
{
    if (have_room(from, to))
        return PK_NO_MEMORY;
    pk_entry entry = pk_decode(from, with->literals, PK_LITERAL_ROOT);
    if (from->over)
        return PK_NEED_MORE;
    if (entry & PK_ENTRY_LITERAL) {
        to->tokens[to->token_count++] = to->data[to->size++] = (uint8_t)(entry >> 16);
        return PK_OK;
    }
    unsigned length = entry >> 16, extra = (uint8_t)entry - pk_entry_code(entry);
    if (entry & PK_ENTRY_OTHER) {
        if (length == 256)
            return END_OF_BLOCK;
        if (length != 257 + PK_LONGEST_BUT_ONE)
            return PK_INVALID;
        length = pk_length_base[PK_LONGEST_BUT_ONE];
        extra = pk_length_extra[PK_LONGEST_BUT_ONE];
    }
    const int longest = length == PK_MAX_MATCH;
    length += pk_take(from, extra);
    entry = pk_decode(from, with->distances, PK_DISTANCE_ROOT);
    if (from->over)
        return PK_NEED_MORE;
    if (entry & PK_ENTRY_OTHER)
        return PK_INVALID;
    unsigned distance = (entry >> 16) + pk_take(from, (uint8_t)entry - pk_entry_code(entry));
    if (from->over)
        return PK_NEED_MORE;
    if (distance > to->size || (length == PK_MAX_MATCH && !longest))
        return PK_INVALID;
    to->tokens[to->token_count++] = length << 16 | distance;
    copy_match(to->data + to->size, distance, length);
    to->size += length;
    return PK_OK;
}

enum { MOST_OF_BLOCK = PK_MAX_BLOCK_PLAIN - PK_MAX_MATCH };

/* Whether a segment ends within a block of which it has so much. */
static int is_long(size_t bytes, size_t tokens)
{
    return bytes >= MOST_OF_BLOCK || (bytes >= PK_SEGMENT_PLAIN && tokens >= PK_CUT_TOKENS);
}

/* Whether a block ends here: OK, or END_OF_BLOCK, which is read. */
static int read_end(pk_reader *from, const pk_decoders *with)
{
    const pk_reader before = *from;
    const pk_entry entry = pk_decode(from, with->literals, PK_LITERAL_ROOT);
    const int is_over = from->over;
    if (!is_over && (entry & PK_ENTRY_OTHER) && entry >> 16 == 256)
        return END_OF_BLOCK;
    *from = before;
    return is_over ? PK_NEED_MORE : CUT;
}

pk_status pk_read_tokens(pk_reader *from, pk_segment *to, pk_block *block, const pk_decoders *with)
{
    const size_t start = to->size, first = block->first_token;
    size_t most_bytes = start + PK_SEGMENT_PLAIN, most_tokens = SIZE_MAX;
    int status = PK_OK;
    while (status == PK_OK) {
        read_most_tokens(from, to, with, most_bytes, most_tokens);
        if (is_long(to->size - start, to->token_count - first)) {
            status = read_end(from, with);
            break;
        }
        if (to->size >= most_bytes) { /* but few tokens */
            most_bytes = start + MOST_OF_BLOCK;
            most_tokens = first + PK_CUT_TOKENS;
        }
        const pk_reader before = *from;
        status = read_token(from, to, with);
        if (status == PK_NEED_MORE)
            *from = before; /* what is whole may be wanted: `end_early` */
    }
    block->tokens = (uint32_t)(to->token_count - first);
    block->plain = (uint32_t)(to->size - start);
    if (status != END_OF_BLOCK && status != CUT)
        return (pk_status)status;
    to->open = status == CUT;
    return PK_OK;
}
