#include "deflate/block_writer.h"

#include <stdlib.h>
#include <string.h>

#include "deflate/block_header.h"

enum { BATCH = 256, TOKEN_BYTES = 8 };

static inline void store(uint8_t *to, uint64_t value)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    memcpy(to, &value, 8);
}

/* Make room for `more` bytes, and a store behind them; return whether there is. */
static int reserve(pk_writer *to, size_t more)
{
    if (to->failed)
        return 0;
    size_t wanted = to->length + more + 2 * TOKEN_BYTES;
    if (to->length > to->most) {
        to->failed = PK_INVALID;
        return 0;
    }
    if (wanted <= to->capacity)
        return 1;
    wanted += wanted / 2;
    uint8_t *moved = realloc(to->bytes, wanted);
    if (!moved) {
        to->failed = PK_NO_MEMORY;
        return 0;
    }
    to->bytes = moved;
    to->capacity = wanted;
    return 1;
}

/* Write at most 56 bits, for which there is room. */
static inline void put(pk_writer *to, uint64_t value, unsigned count)
{
    to->bits |= value << to->count;
    to->count += count;
    store(to->bytes + to->length, to->bits);
    unsigned whole = to->count >> 3;
    to->length += whole;
    to->bits = whole == 8 ? 0 : to->bits >> (8 * whole);
    to->count &= 7;
}

void pk_writer_start(pk_writer *to, unsigned bit, size_t most)
{
    to->length = 0;
    to->most = most;
    to->bits = 0;
    to->count = bit & 7;
    to->failed = PK_OK;
}

void pk_write_bits(pk_writer *to, uint32_t value, unsigned count)
{
    if (reserve(to, TOKEN_BYTES))
        put(to, value, count);
}

void pk_write_stored(pk_writer *to, unsigned last, const uint8_t *bytes, uint32_t length)
{
    if (!reserve(to, 16 + (size_t)length))
        return;
    put(to, last, 3);
    put(to, 0, -to->count & 7);
    put(to, length | (uint32_t)(uint16_t)~length << 16, 32);
    if (length)
        memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
}

void pk_write_header(pk_writer *to, const pk_header *header)
{
    uint16_t codes[PK_CODES];
    if (!reserve(to, 64 + 3 * PK_LENGTHS))
        return;
    pk_assign_codes(codes, header->code_lengths, PK_CODES);
    put(to, header->literals - 257u, 5);
    put(to, header->distances - 1u, 5);
    put(to, header->codes - 4u, 4);
    for (unsigned at = 0; at < header->codes; at++)
        put(to, header->code_lengths[pk_code_order[at]], 3);
    for (unsigned at = 0; at < header->symbols; at++) {
        unsigned symbol = header->symbol[at];
        put(to, codes[symbol], header->code_lengths[symbol]);
        if (symbol >= 16)
            put(to, header->extra[at], symbol == 16 ? 2 : symbol == 17 ? 3 : 7);
    }
}

/* The code of a symbol, and how many bits it has with those behind it. */
typedef struct entry {
    uint32_t code;
    uint8_t bits, own; /* with extra bits; without */
} entry;

/* Codes of literals, lengths of matches, and symbols of distances. */
typedef struct table {
    entry literal[256], match[PK_MAX_MATCH + 1], distance[PK_DISTANCES];
    entry end;
} table;

static void make_table(table *to, const uint8_t lengths[PK_LENGTHS])
{
    uint16_t codes[PK_LENGTHS];
    pk_assign_codes(codes, lengths, PK_LITERALS);
    pk_assign_codes(codes + PK_LITERALS, lengths + PK_LITERALS, PK_DISTANCES);
    for (unsigned at = 0; at < 256; at++)
        to->literal[at] = (entry){codes[at], lengths[at], lengths[at]};
    to->end = (entry){codes[256], lengths[256], lengths[256]};
    for (unsigned length = 3; length <= PK_MAX_MATCH; length++) {
        unsigned at = pk_length_symbol(length), own = lengths[257 + at];
        to->match[length] = (entry){codes[257 + at] | (length - pk_length_base[at]) << own,
                                    (uint8_t)(own + pk_length_extra[at]), (uint8_t)own};
    }
    for (unsigned at = 0; at < 30; at++) {
        unsigned own = lengths[PK_LITERALS + at];
        to->distance[at] =
            (entry){codes[PK_LITERALS + at], (uint8_t)(own + pk_distance_extra[at]), (uint8_t)own};
    }
}

void pk_write_tokens(pk_writer *to, const uint8_t lengths[PK_LENGTHS], const pk_token *tokens,
                     size_t count, int ends)
{
    table with;
    make_table(&with, lengths);
    for (size_t at = 0; at < count;) {
        if (!reserve(to, BATCH * TOKEN_BYTES))
            return;
        size_t stop = count - at < BATCH ? count : at + BATCH;
        uint64_t bits = to->bits;
        unsigned held = to->count;
        uint8_t *out = to->bytes + to->length;
        for (; at < stop; at++) {
            pk_token token = tokens[at];
            if (token < 256) {
                const entry *one = &with.literal[token];
                bits |= (uint64_t)one->code << held;
                held += one->bits;
            } else {
                const entry *one = &with.match[token >> 16];
                bits |= (uint64_t)one->code << held;
                held += one->bits;
                unsigned value = token & 0xffff, symbol = pk_distance_symbol(value);
                one = &with.distance[symbol];
                bits |= (uint64_t)(one->code | (value - pk_distance_base[symbol]) << one->own)
                        << held;
                held += one->bits;
            }
            store(out, bits);
            out += held >> 3;
            bits >>= held & ~7u;
            held &= 7;
        }
        to->length = (size_t)(out - to->bytes);
        to->bits = bits;
        to->count = held;
    }
    if (ends && reserve(to, TOKEN_BYTES))
        put(to, with.end.code, with.end.bits);
}

pk_status pk_writer_end(pk_writer *to, uint64_t *bits)
{
    if (!reserve(to, TOKEN_BYTES))
        return to->failed;
    if (to->length + (to->count > 0) > to->most)
        return to->failed = PK_INVALID;
    *bits = (uint64_t)to->length * 8 + to->count;
    if (to->count)
        to->bytes[to->length] = (uint8_t)to->bits;
    return PK_OK;
}

void pk_writer_free(pk_writer *writer)
{
    free(writer->bytes);
    memset(writer, 0, sizeof *writer);
}
