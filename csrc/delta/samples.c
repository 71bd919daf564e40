#include "delta/samples.h"

#include "chunker/chunker.h"

static void scan(const uint8_t *data, size_t from, size_t count, unsigned log, uint64_t *bits)
{
    for (size_t i = from; i < count; i++)
        bits[i / PK_SAMPLE_WORD] |= (uint64_t)pk_is_sample(data + i, log) << i % PK_SAMPLE_WORD;
}

#if defined(__x86_64__) && !defined(PK_NO_AVX2)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

AVX2 static inline __m256i load(const uint8_t *at)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}

/* Bytes of ones in byte `part` of each four, where the bytes from there on are a sample: lane i is
 * that of position 4 i + part. */
AVX2 static inline __m256i every_fourth(const uint8_t *at, int part, __m128i rest)
{
    __m256i both =
        _mm256_xor_si256(load(at + part), _mm256_slli_epi32(load(at + part + 4), PK_SAMPLE_SHIFT));
    __m256i mixed = _mm256_mullo_epi32(both, _mm256_set1_epi32((int)PK_SAMPLE_FACTOR));
    __m256i is_sample = _mm256_cmpeq_epi32(_mm256_srl_epi32(mixed, rest), _mm256_setzero_si256());
    return _mm256_and_si256(is_sample, _mm256_set1_epi32((int)(0xffu << 8 * part)));
}

AVX2 static inline uint64_t half(const uint8_t *at, __m128i rest)
{
    __m256i even = _mm256_or_si256(every_fourth(at, 0, rest), every_fourth(at, 2, rest));
    __m256i odd = _mm256_or_si256(every_fourth(at, 1, rest), every_fourth(at, 3, rest));
    return (uint32_t)_mm256_movemask_epi8(_mm256_or_si256(even, odd));
}

AVX2 static void scan_words(const uint8_t *data, size_t words, unsigned log, uint64_t *bits)
{
    const __m128i rest = _mm_cvtsi32_si128(32 - (int)log);
    for (size_t i = 0; i < words; i++) {
        const uint8_t *at = data + i * PK_SAMPLE_WORD;
        bits[i] = half(at, rest) | half(at + 32, rest) << 32;
    }
}
#define HAS_VECTORS (pk_kernel_state(PK_AVX2) == PK_USABLE)
#else
static void scan_words(const uint8_t *data, size_t words, unsigned log, uint64_t *bits)
{
    scan(data, 0, words * PK_SAMPLE_WORD, log, bits);
}
#define HAS_VECTORS 0
#endif

void pk_samples(const uint8_t *data, size_t count, unsigned log, uint64_t *bits)
{
    size_t words = HAS_VECTORS ? count / PK_SAMPLE_WORD : 0;
    memset(bits, 0, (count + PK_SAMPLE_WORD - 1) / PK_SAMPLE_WORD * sizeof *bits);
    scan_words(data, words, log, bits);
    scan(data, words * PK_SAMPLE_WORD, count, log, bits);
}
