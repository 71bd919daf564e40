/* The length of a match, where memory behind the text can be read. Internal. */
#ifndef PK_DEFLATE_MATCH_LENGTH_H
#define PK_DEFLATE_MATCH_LENGTH_H

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "common/bytes.h"

/* As pk_equal_ahead, but PK_PAD bytes behind `most` can be read: by 16 bytes at once where the
 * processor has such words. Few matches are longer, so that the first step tells. */
static inline uint32_t pk_match_length(const uint8_t *one, const uint8_t *other, uint32_t most)
{
#ifdef __SSE2__
    for (uint32_t length = 0; length < most; length += 16) {
        const __m128i here = _mm_loadu_si128((const __m128i *)(const void *)(one + length)),
                      there = _mm_loadu_si128((const __m128i *)(const void *)(other + length));
        const unsigned differ = 0xffffu ^ (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(here, there));
        if (differ) {
            length += (uint32_t)__builtin_ctz(differ);
            return length < most ? length : most;
        }
    }
    return most;
#else
    return (uint32_t)pk_equal_ahead(one, other, most);
#endif
}

#endif
