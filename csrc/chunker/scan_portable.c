/* Kernel 0: the loop to read first. It is written with the vector types of GNU C, which gcc and
 * clang turn into the vector instructions every machine of their target has (SSE2, NEON), or
 * into scalar code; plain arrays of eight were not vectorised by gcc 12 or clang 14 and ran
 * ten times slower. */
#include "chunker/kernel.h"

#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define LANES 8
#define GROUPS (PK_STRIDE / LANES)

typedef uint16_t vec __attribute__((vector_size(2 * LANES)));

/* The words that end at the eight offsets end, end + 2, ... */
static inline vec words(const uint8_t *end)
{
    vec out;
    memcpy(&out, end - 2, sizeof out);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    out = out << 8 | out >> 8;
#endif
    return out;
}

static inline vec steps(const uint8_t *end)
{
    return words(end) - words(end - PK_LAG);
}

static inline vec advance(vec hash, const uint8_t *end)
{
    return hash * (uint16_t)PK_M + steps(end);
}

static inline vec larger(vec a, vec b)
{
#ifdef __SSE2__
    /* SSE2 has no unsigned maximum of words, but this; compilers take six instructions. */
    return (vec)_mm_add_epi16((__m128i)b, _mm_subs_epu16((__m128i)a, (__m128i)b));
#else
    vec mask = (vec)(a > b);
    return (a & mask) | (b & ~mask);
#endif
}

/* h of the eight offsets before those of `end`'s row, ready to be advanced to it. */
static inline vec warm(const uint8_t *end)
{
    vec hash = steps(end - 3 * PK_STRIDE);
    hash = advance(hash, end - 2 * PK_STRIDE);
    return advance(hash, end - PK_STRIDE);
}

/* Greatest hash of `rows` rows of 64 offsets. Two groups at a time keep the pipeline busy. */
static uint16_t rows_maximum(const uint8_t *cut, size_t rows)
{
    vec most = {0};
    for (size_t group = 0; group < GROUPS; group += 2) {
        /* Offsets of one parity make one group: even ones first. */
        const uint8_t *a = cut + group / 2 * 2 * LANES, *b = a + 1;
        vec hash_a = warm(a), hash_b = warm(b), most_a = {0}, most_b = {0};
        for (size_t row = 0; row < rows; row++, a += PK_STRIDE, b += PK_STRIDE) {
            hash_a = advance(hash_a, a);
            hash_b = advance(hash_b, b);
            most_a = larger(most_a, hash_a);
            most_b = larger(most_b, hash_b);
        }
        most = larger(most, larger(most_a, most_b));
    }
    uint16_t out = 0;
    for (int i = 0; i < LANES; i++)
        out = most[i] > out ? most[i] : out;
    return out;
}

static void block_maxima(const uint8_t *cut, size_t count, uint16_t *maxima)
{
    for (size_t k = 0; k < count; k++)
        maxima[k] = rows_maximum(cut + k * PK_BLOCK, PK_BLOCK / PK_STRIDE);
}

static uint16_t range_maximum(const uint8_t *cut, size_t n)
{
    uint16_t most = 0;
    if (n >= PK_STRIDE) {
        /* The last row overlaps the one before it: offsets count twice, which a maximum forgives.
         */
        uint16_t last = rows_maximum(cut + n - PK_STRIDE, 1);
        most = rows_maximum(cut, n / PK_STRIDE);
        return most > last ? most : last;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t hash = pk_hash_at(cut + i);
        most = hash > most ? hash : most;
    }
    return most;
}

static void find_equal(const uint8_t *cut, size_t n, uint16_t hash, uint64_t *bits)
{
    memset(bits, 0, PK_BLOCK / 8);
    for (size_t group = 0; group < GROUPS; group++) {
        size_t offset = group / 2 * 2 * LANES + group % 2;
        vec now = warm(cut + offset);
        for (size_t row = 0; row < n / PK_STRIDE; row++) {
            now = advance(now, cut + row * PK_STRIDE + offset);
            vec equal = (vec)(now == hash);
            uint64_t half[2];
            memcpy(half, &equal, sizeof half);
            if (half[0] | half[1]) /* rarely */
                for (int i = 0; i < LANES; i++)
                    bits[row] |= (uint64_t)(equal[i] & 1) << (offset + 2 * (size_t)i);
        }
    }
    for (size_t i = n / PK_STRIDE * PK_STRIDE; i < n; i++)
        bits[i / 64] |= (uint64_t)(pk_hash_at(cut + i) == hash) << i % 64;
}

const pk_kernel pk_kernel_portable = {block_maxima, range_maximum, find_equal};
