/* Predicts where an encoder ends a block: at its limit of tokens, at gzip's guess, for Go's
 * level 1 and klauspost's first six at its limit of bytes, or when miniz' buffer of codes is full;
 * zlib-ng's level 1 and igzip's level 0 nowhere, igzip's others when a buffer is full.
 * A block also ends where the encoder's input ends; the callers know that. Internal; inlined, as
 * it is asked once a token. */
#ifndef PK_DEFLATE_BLOCK_ENDS_H
#define PK_DEFLATE_BLOCK_ENDS_H

#include "deflate/settings.h"

enum { PK_TRUNCATION_EVERY = 4096 }; /* tokens between two of gzip's guesses */

/* A block so far. Start with zeros and the block's start. */
typedef struct pk_block_end {
    uint32_t distances;     /* its matches; igzip: units */
    uint64_t distance_bits; /* bits of their distances, each symbol taken for 5; igzip: 1 if the
                             * last unit has room for a literal */
    uint32_t start;         /* offset of its first byte in the data */
} pk_block_end;

/* Return what gzip guesses at a multiple of 4096 tokens: whether the block has become so
 * compressible that new codes will pay. Source: gzip, trees.c, ct_tally.
 *
 * count: tokens of the block. seen: bytes of the block that the match finder has passed. */
static inline int pk_truncates(const pk_block_end *state, const pk_settings *with, uint32_t count,
                               uint32_t seen)
{
    if (with->rule <= 2 || count % PK_TRUNCATION_EVERY)
        return 0;
    return state->distances < count / 2
           && (((uint64_t)count * 8 + state->distance_bits) >> 3) < seen / 2;
}

/* Count the units of igzip's buffer: a match takes one, and so do two literals. Returns whether
 * the last unit is whole. */
static inline int pk_fills_igzip(pk_block_end *state, pk_token token)
{
    const int is_second = state->distance_bits && token < 256;
    state->distances += !is_second;
    state->distance_bits = !is_second && token < 256;
    return !state->distance_bits;
}

/* Return how many tokens a block that has `count` may get before one that can end it, or be gzip's
 * moment to guess. For kinds whose blocks end at a number of tokens or bytes. */
static inline uint32_t pk_tokens_before_end(const pk_settings *with, uint32_t count)
{
    const unsigned kind = pk_kind_of(with);
    uint32_t left = UINT32_MAX;
    if (kind != PK_KLAUSPOST && kind != PK_GO_SPEED && count < with->limit)
        left = with->limit - count;
    if (with->flags & PK_FLAG_TRUNCATES) {
        const uint32_t guess = PK_TRUNCATION_EVERY - count % PK_TRUNCATION_EVERY;
        left = left < guess ? left : guess;
    }
    return left - 1;
}

/* Tell whether the block ends behind a token. Call it for each of its tokens, in order; literals
 * may be left out as pk_tokens_before_end says.
 *
 * count: tokens of the block, this one included. at: offset of the token's first byte. lazy:
 *     pk_is_lazy(with). */
static inline int pk_ends_block(pk_block_end *state, const pk_settings *with, uint32_t count,
                                pk_token token, uint32_t at, int lazy)
{
    if (pk_kind_of(with) == PK_GO_SPEED || pk_kind_of(with) == PK_KLAUSPOST)
        return at + pk_token_bytes(token) - state->start == PK_SPEED_BLOCK;
    if (pk_is_endless(with))
        return 0;
    if (pk_kind_of(with) == PK_IGZIP)
        return pk_fills_igzip(state, token) && state->distances >= with->limit;
    if (pk_kind_of(with) == PK_MINIZ) {
        state->distances += token >= 256;
        return pk_miniz_codes(count, state->distances) > PK_MINIZ_CODES;
    }
    if (count == with->limit)
        return 1;
    if (!(with->flags & PK_FLAG_TRUNCATES))
        return 0;
    if (token >= 256) {
        state->distances++;
        state->distance_bits += 5 + pk_distance_extra[pk_distance_symbol(token & 0xffff)];
    }
    return pk_truncates(state, with, count, at + (lazy ? 1 : 0) - state->start);
}

#endif
