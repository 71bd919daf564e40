/* The vector kernels, written once. The including file defines, before including:
 *
 *   PK_KERNEL                    name of the pk_kernel to define
 *   PK_TARGET                    the target attribute of every function, if one is needed
 *   VEC                          a register of LANES lanes of 16 bits
 *   LOAD(p) MUL ADD SUB MAX SET1(x) ZERO()   lane-wise; LOAD is unaligned
 *   EQUAL(a, b)                  LANES-bit integer: bit i tells whether lanes i are equal
 *   REDUCE(v)                    greatest unsigned lane
 *
 * A row is PK_STRIDE offsets: PARTS registers of even and PARTS of odd offsets. Loops over PARTS
 * have a constant bound and are unrolled, so that the arrays live in registers.
 */
#include "chunker/kernel.h"

#include <string.h>

#define LANES ((int)(sizeof(VEC) / 2))
#define PARTS (PK_STRIDE / 2 / LANES)
#define INLINE static inline __attribute__((always_inline)) PK_TARGET

typedef struct {
    VEC even[PARTS], odd[PARTS];
} row;

INLINE VEC step(const uint8_t *end)
{
    return SUB(LOAD(end - 2), LOAD(end - 2 - PK_LAG));
}

INLINE void advance(row *hash, const uint8_t *cut)
{
    const VEC m = SET1(PK_M);
    for (int i = 0; i < PARTS; i++) {
        hash->even[i] = ADD(MUL(hash->even[i], m), step(cut + 2 * LANES * i));
        hash->odd[i] = ADD(MUL(hash->odd[i], m), step(cut + 2 * LANES * i + 1));
    }
}

/* The hashes of the row before `cut`. */
INLINE void warm(row *hash, const uint8_t *cut)
{
    for (int i = 0; i < PARTS; i++)
        hash->even[i] = hash->odd[i] = ZERO();
    for (int back = PK_STEPS - 1; back > 0; back--)
        advance(hash, cut - PK_STRIDE * back);
}

INLINE void keep_larger(row *most, const row *hash)
{
    for (int i = 0; i < PARTS; i++) {
        most->even[i] = MAX(most->even[i], hash->even[i]);
        most->odd[i] = MAX(most->odd[i], hash->odd[i]);
    }
}

INLINE void clear(row *most)
{
    for (int i = 0; i < PARTS; i++)
        most->even[i] = most->odd[i] = ZERO();
}

INLINE uint16_t greatest(const row *most)
{
    VEC all = MAX(most->even[0], most->odd[0]);
    for (int i = 1; i < PARTS; i++)
        all = MAX(all, MAX(most->even[i], most->odd[i]));
    return REDUCE(all);
}

/* How far ahead to prefetch, in bytes. The hardware starts anew after each skip to a chunk's
 * minimum; with 512 the AVX2 kernel reads DRAM at 9 GB/s, with 1024 at 11 (Sapphire Rapids,
 * docs/chunking.md). */
#define PREFETCH 1024

PK_TARGET static void block_maxima(const uint8_t *cut, size_t count, uint16_t *maxima)
{
    row hash;
    warm(&hash, cut);
    for (size_t k = 0; k < count; k++) {
        row most;
        clear(&most);
        for (int i = 0; i < PK_BLOCK / PK_STRIDE; i++, cut += PK_STRIDE) {
            __builtin_prefetch((const void *)((uintptr_t)cut + PREFETCH) /* may lie outside */);
            advance(&hash, cut);
            keep_larger(&most, &hash);
        }
        maxima[k] = greatest(&most);
    }
}

PK_TARGET static uint16_t range_maximum(const uint8_t *cut, size_t n)
{
    if (n < PK_STRIDE) {
        uint16_t most = 0;
        for (size_t i = 0; i < n; i++) {
            uint16_t hash = pk_hash_at(cut + i);
            most = hash > most ? hash : most;
        }
        return most;
    }
    row hash, most;
    clear(&most);
    warm(&hash, cut);
    const uint8_t *last = cut + n - PK_STRIDE;
    for (; cut <= last; cut += PK_STRIDE) {
        advance(&hash, cut);
        keep_larger(&most, &hash);
    }
    /* The last row overlaps the one before it: offsets count twice, which a maximum forgives. */
    warm(&hash, last);
    advance(&hash, last);
    keep_larger(&most, &hash);
    return greatest(&most);
}

PK_TARGET static void find_equal(const uint8_t *cut, size_t n, uint16_t wanted, uint64_t *bits)
{
    const VEC target = SET1(wanted);
    row hash;
    memset(bits, 0, PK_BLOCK / 8);
    if (n >= PK_STRIDE)
        warm(&hash, cut);
    for (size_t at = 0; at + PK_STRIDE <= n; at += PK_STRIDE) {
        advance(&hash, cut + at);
        for (int i = 0; i < PARTS; i++) {
            uint32_t even = EQUAL(hash.even[i], target), odd = EQUAL(hash.odd[i], target);
            for (; even; even &= even - 1) /* rarely any */
                bits[at / 64] |= UINT64_C(1) << (2 * LANES * i + 2 * __builtin_ctz(even));
            for (; odd; odd &= odd - 1)
                bits[at / 64] |= UINT64_C(2) << (2 * LANES * i + 2 * __builtin_ctz(odd));
        }
    }
    for (size_t i = n / PK_STRIDE * PK_STRIDE; i < n; i++)
        bits[i / 64] |= (uint64_t)(pk_hash_at(cut + i) == wanted) << i % 64;
}

const pk_kernel PK_KERNEL = {block_maxima, range_maximum, find_equal};
