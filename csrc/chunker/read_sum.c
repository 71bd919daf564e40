/* The ceiling the benchmarks compare with: reading memory and doing nothing else of note. */
#include "chunker/kernel.h"

#include <string.h>

static uint64_t sum_portable(const uint8_t *data, size_t length)
{
    uint64_t sum[32] = {0}, total = 0;
    for (size_t at = 0; at + 256 <= length; at += 256) {
        uint64_t words[32];
        memcpy(words, data + at, sizeof words);
        for (int i = 0; i < 32; i++)
            sum[i] += words[i];
    }
    for (int i = 0; i < 32; i++)
        total += sum[i];
    return total;
}

#ifdef PK_HAVE_AVX512
#include <immintrin.h>

__attribute__((target("avx512f"))) static uint64_t sum_avx512(const uint8_t *data, size_t length)
{
    __m512i sum[4];
    for (int i = 0; i < 4; i++)
        sum[i] = _mm512_setzero_si512();
    for (size_t at = 0; at + 256 <= length; at += 256)
        for (int i = 0; i < 4; i++)
            sum[i] = _mm512_add_epi64(sum[i], _mm512_loadu_si512(data + at + 64 * i));
    __m512i all =
        _mm512_add_epi64(_mm512_add_epi64(sum[0], sum[1]), _mm512_add_epi64(sum[2], sum[3]));
    uint64_t lanes[8], total = 0;
    _mm512_storeu_si512(lanes, all);
    for (int i = 0; i < 8; i++)
        total += lanes[i];
    return total;
}
#endif

uint64_t pk_read_sum(const uint8_t *data, size_t length)
{
#ifdef PK_HAVE_AVX512
    if (pk_kernel_state(PK_AVX512) == PK_USABLE)
        return sum_avx512(data, length);
#endif
    return sum_portable(data, length);
}
