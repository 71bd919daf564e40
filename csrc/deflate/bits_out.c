/* Tokens, blocks and headers to the bits of a deflate stream (RFC 1951). */
#include "deflate/bits_out.h"

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

static pk_status reserve(pk_writer *to, size_t more, size_t most)
{
    if (to->length > most)
        return PK_INVALID;
    size_t wanted = to->length + more + 2 * TOKEN_BYTES;
    if (wanted <= to->capacity)
        return PK_OK;
    wanted += wanted / 2;
    uint8_t *moved = realloc(to->bytes, wanted);
    if (!moved)
        return PK_NO_MEMORY;
    to->bytes = moved;
    to->capacity = wanted;
    return PK_OK;
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

void pk_writer_begin(pk_writer *to, unsigned bit)
{
    to->length = 0;
    to->bits = 0;
    to->count = bit & 7;
}

pk_status pk_write_bits(pk_writer *to, uint32_t value, unsigned count, size_t most)
{
    pk_status failed = reserve(to, 16, most);
    if (!failed)
        put(to, value, count);
    return failed;
}

pk_status pk_write_stored(pk_writer *to, unsigned last, const uint8_t *bytes, uint32_t length,
                          size_t most)
{
    pk_status failed = reserve(to, 16 + (size_t)length, most);
    if (failed)
        return failed;
    put(to, last, 3);
    put(to, 0, -to->count & 7);
    put(to, length | (uint32_t)(uint16_t)~length << 16, 32);
    if (length)
        memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
    return PK_OK;
}

pk_status pk_write_header(pk_writer *to, const pk_header *header, size_t most)
{
    uint16_t codes[PK_CODES];
    pk_status failed = reserve(to, 64 + 3 * PK_LENGTHS, most);
    if (failed)
        return failed;
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
    return PK_OK;
}

/* The code of a symbol, and how many bits it has with those behind it. */
typedef struct entry {
    uint32_t code;
    uint8_t bits, own; /* with extra bits; without */
} entry;

pk_status pk_write_tokens(pk_writer *to, const uint8_t lengths[PK_LENGTHS], const pk_token *tokens,
                          size_t count, size_t most)
{
    uint16_t codes[PK_LENGTHS];
    entry literal[256], match[PK_MAX_MATCH + 1], distance[30];
    pk_assign_codes(codes, lengths, PK_LITERALS);
    pk_assign_codes(codes + PK_LITERALS, lengths + PK_LITERALS, PK_DISTANCES);
    for (unsigned at = 0; at < 256; at++)
        literal[at] = (entry){codes[at], lengths[at], lengths[at]};
    for (unsigned length = 3; length <= PK_MAX_MATCH; length++) {
        unsigned at = pk_length_symbol(length), own = lengths[257 + at];
        match[length] = (entry){codes[257 + at] | (length - pk_length_base[at]) << own,
                                (uint8_t)(own + pk_length_extra[at]), (uint8_t)own};
    }
    for (unsigned at = 0; at < 30; at++) {
        unsigned own = lengths[PK_LITERALS + at];
        distance[at] =
            (entry){codes[PK_LITERALS + at], (uint8_t)(own + pk_distance_extra[at]), (uint8_t)own};
    }
    for (size_t at = 0; at < count;) {
        pk_status failed = reserve(to, BATCH * TOKEN_BYTES, most);
        if (failed)
            return failed;
        size_t stop = count - at < BATCH ? count : at + BATCH;
        uint64_t bits = to->bits;
        unsigned held = to->count;
        uint8_t *out = to->bytes + to->length;
        for (; at < stop; at++) {
            pk_token token = tokens[at];
            if (token < 256) {
                const entry *one = &literal[token];
                bits |= (uint64_t)one->code << held;
                held += one->bits;
            } else {
                const entry *one = &match[token >> 16];
                bits |= (uint64_t)one->code << held;
                held += one->bits;
                unsigned value = token & 0xffff, symbol = pk_distance_symbol(value);
                one = &distance[symbol];
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
    return PK_OK;
}

pk_status pk_write_end(pk_writer *to, const uint8_t lengths[PK_LENGTHS], size_t most)
{
    uint16_t codes[PK_LITERALS];
    pk_status failed = reserve(to, TOKEN_BYTES, most);
    if (failed)
        return failed;
    pk_assign_codes(codes, lengths, PK_LITERALS);
    put(to, codes[256], lengths[256]);
    return PK_OK;
}

pk_status pk_writer_end(pk_writer *to, size_t most, uint64_t *bits)
{
    pk_status failed = reserve(to, 1, most);
    if (failed)
        return failed;
    if (to->length + (to->count > 0) > most)
        return PK_INVALID;
    *bits = (uint64_t)to->length * 8 + to->count;
    if (to->count)
        to->bytes[to->length] = (uint8_t)to->bits;
    return PK_OK;
}

pk_status pk_write_segment(pk_writer *to, const pk_segment *segment, unsigned bit, size_t most,
                           uint64_t *bits)
{
    pk_writer_begin(to, bit);
    pk_status failed = reserve(to, 64, most);
    for (size_t i = 0; i < segment->block_count && !failed; i++) {
        const pk_block *block = &segment->blocks[i];
        unsigned last = segment->last && i + 1 == segment->block_count;
        const pk_token *tokens = segment->tokens + block->first_token;
        if (block->type == PK_STORED) {
            failed = pk_write_stored(to, last, segment->data + block->start, block->plain, most);
            continue;
        }
        failed = reserve(to, 64, most);
        if (failed)
            break;
        const int is_new = i || !segment->goes_on,
                  ends = i + 1 < segment->block_count || !segment->open;
        if (is_new)
            put(to, last | (unsigned)block->type << 1, 3);
        uint8_t fixed[PK_LENGTHS];
        const uint8_t *lengths = fixed;
        if (block->type == PK_FIXED)
            pk_fixed_lengths(fixed);
        else
            lengths = block->header.lengths;
        if (is_new && block->type == PK_DYNAMIC)
            failed = pk_write_header(to, &block->header, most);
        if (!failed)
            failed = pk_write_tokens(to, lengths, tokens, block->tokens, most);
        if (!failed && ends)
            failed = pk_write_end(to, lengths, most);
    }
    return failed ? failed : pk_writer_end(to, most, bits);
}

void pk_writer_free(pk_writer *writer)
{
    free(writer->bytes);
}
