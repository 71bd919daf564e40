/* The length of a match, where memory behind the text can be read. Internal. */
#ifndef PK_DEFLATE_MATCH_LENGTH_H
#define PK_DEFLATE_MATCH_LENGTH_H

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "common/bytes.h"

/* Return how many of the next 16 bytes from `one` and from `other` on are equal, up to the first
 * that is not. No branch depends on them. */
static inline uint32_t pk_equal_of_sixteen(const uint8_t *one, const uint8_t *other)
{
#ifdef __SSE2__
    const __m128i here = _mm_loadu_si128((const __m128i *)(const void *)one),
                  there = _mm_loadu_si128((const __m128i *)(const void *)other);
    const unsigned same = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(here, there));
    return (uint32_t)__builtin_ctz(~same);
#else
    const uint64_t low = pk_load64(one) ^ pk_load64(other),
                   high = pk_load64(one + 8) ^ pk_load64(other + 8);
    const uint32_t in_high = high ? (uint32_t)__builtin_ctzll(high) >> 3 : 8;
    return low ? (uint32_t)__builtin_ctzll(low) >> 3 : 8 + in_high;
#endif
}

/* As pk_equal_ahead, but PK_PAD bytes behind `most` can be read: by 16 bytes at once. Few matches
 * are longer, so that the first step tells. */
static inline uint32_t pk_match_length(const uint8_t *one, const uint8_t *other, uint32_t most)
{
    for (uint32_t length = 0; length < most; length += 16) {
        const uint32_t same = pk_equal_of_sixteen(one + length, other + length);
        if (same < 16)
            return length + same < most ? length + same : most;
    }
    return most;
}

#endif
