/* Kernel 1: AVX2. */
#include "chunker/kernel.h"

#ifdef PK_HAVE_AVX2
#include <immintrin.h>

#define PK_KERNEL pk_kernel_avx2
#define PK_TARGET __attribute__((target("avx2")))
#define VEC __m256i
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define MUL _mm256_mullo_epi16
#define ADD _mm256_add_epi16
#define SUB _mm256_sub_epi16
#define MAX _mm256_max_epu16
#define SET1(x) _mm256_set1_epi16((short)(x))
#define ZERO _mm256_setzero_si256
#define EQUAL equal_lanes
#define REDUCE reduce

PK_TARGET static inline uint32_t equal_lanes(__m256i a, __m256i b)
{
    /* Signed saturation turns lanes of ones into bytes of ones; packing works within 128-bit
     * halves. */
    __m256i same = _mm256_packs_epi16(_mm256_cmpeq_epi16(a, b), _mm256_setzero_si256());
    uint32_t mask = (uint32_t)_mm256_movemask_epi8(same);
    return (mask & 0xff) | (mask >> 8 & 0xff00);
}

PK_TARGET static inline uint16_t reduce(__m256i v)
{
    /* phminposuw finds the least lane, so look at complements. */
    __m128i half = _mm_max_epu16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    __m128i least = _mm_minpos_epu16(_mm_xor_si128(half, _mm_set1_epi32(-1)));
    return (uint16_t)~_mm_cvtsi128_si32(least);
}

#include "chunker/scan_vector.h"
#else
typedef int pk_not_built; /* ISO C wants a declaration in every file */
#endif
