/* Kernel 2: AVX-512 with 16-bit lanes (F and BW). */
#include "chunker/kernel.h"

#ifdef PK_HAVE_AVX512
#include <immintrin.h>

#define PK_KERNEL pk_kernel_avx512
#define PK_TARGET __attribute__((target("avx512f,avx512bw")))
#define VEC __m512i
#define LOAD(p) _mm512_loadu_si512((const void *)(p))
#define MUL _mm512_mullo_epi16
#define ADD _mm512_add_epi16
#define SUB _mm512_sub_epi16
#define MAX _mm512_max_epu16
#define SET1(x) _mm512_set1_epi16((short)(x))
#define ZERO _mm512_setzero_si512
#define EQUAL(a, b) ((uint32_t)_mm512_cmpeq_epi16_mask(a, b))
#define REDUCE reduce

PK_TARGET static inline uint16_t reduce(__m512i v)
{
    __m256i half = _mm256_max_epu16(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    __m128i quarter =
        _mm_max_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    __m128i least = _mm_minpos_epu16(_mm_xor_si128(quarter, _mm_set1_epi32(-1)));
    return (uint16_t)~_mm_cvtsi128_si32(least);
}

#include "chunker/scan_vector.h"
#else
typedef int pk_not_built; /* ISO C wants a declaration in every file */
#endif
