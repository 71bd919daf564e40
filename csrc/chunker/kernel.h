/* Shared by the chunker's source files: constants of the format, and the interface of a kernel. */
#ifndef PK_CHUNKER_KERNEL_H
#define PK_CHUNKER_KERNEL_H

#include "chunker/chunker.h"

/* Constants of the format: a change moves every cut point (docs/chunking.md).
 *
 * Hash of cut offset c, over 16-bit integers, w(c) = the little-endian word of the two bytes
 * before c:
 *
 *     a(c) = w(c) - w(c - 48) h(c) = M * h(c - 64) + a(c)    =  a(c) + M a(c-64) + M^2 a(c-128) +
 *     M^3 a(c-192)   (mod 2^16)
 *
 * M is 16 times an odd number, so M^4 = 0 mod 2^16: bytes roll out of the hash by themselves after
 * four steps. Rolling with a stride of 64 makes one hash of each of 64 neighbouring offsets, which
 * are the lanes of vector registers: no byte is ever moved between lanes, and a vector of 16-bit
 * lanes is advanced by one subtraction, one multiplication and one addition. All data of period 1,
 * 2, 3, 4, 6, 8, 12, 16, 24 or 48 has a(c) = 0, hence h(c) = 0, the worst rank: runs of equal
 * bytes, pixels or records never win against anything that changes.
 */
#define PK_STRIDE 64
#define PK_LAG 48
#define PK_STEPS 4
#define PK_M 0x9E30u
#define PK_WINDOW (PK_STRIDE * (PK_STEPS - 1) + PK_LAG + 2) /* 242 bytes */

/* Wide hash, compared where h ties: with v(c) = u ^ u >> 32, u the little-endian 64-bit word
 * before c,
 *
 *     H(c) = sum over j < 64 of N^j * v(c - 8 j)
 *          = N * H(c - 8) + v(c) - N^64 * v(c - 512)    (mod 2^64)
 *
 * The shift lets the upper bytes of a word reach more than the upper bits of the sum. */
#define PK_WIDE 512
#define PK_N UINT64_C(0x9E3779B97F4A7C15)

/* Offsets of a block: the greatest hash of each block is remembered. */
#define PK_BLOCK 2048

/* A kernel: three loops over the hashes of a range of offsets. All kernels return the same.
 *
 * In all of them `cut` points at the range's first offset, and at least 242 bytes before it can be
 * read. The last byte read is the one before the range's last offset. No state; any number of
 * threads, on a CPU that has the kernel's instructions (pk_kernel_get). */
typedef struct {
    /* Write the greatest hash of each of `count` consecutive blocks of PK_BLOCK offsets. */
    void (*block_maxima)(const uint8_t *cut, size_t count, uint16_t *maxima);
    /* Return the greatest hash of n offsets; n is 1 or more. */
    uint16_t (*range_maximum)(const uint8_t *cut, size_t n);
    /* Set bit i of `bits` where offset i has this hash, i < n <= PK_BLOCK. All other bits of the
     * PK_BLOCK / 64 words are cleared. */
    void (*find_equal)(const uint8_t *cut, size_t n, uint16_t hash, uint64_t *bits);
} pk_kernel;

extern const pk_kernel pk_kernel_portable;

#if (defined(__x86_64__) || defined(__i386__)) && !defined(PK_NO_AVX2)
#define PK_HAVE_AVX2 1
extern const pk_kernel pk_kernel_avx2;
#endif
#if defined(__x86_64__) && !defined(PK_NO_AVX512)
#define PK_HAVE_AVX512 1
extern const pk_kernel pk_kernel_avx512;
#endif
#if defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && !defined(PK_NO_NEON)
#define PK_HAVE_NEON 1
extern const pk_kernel pk_kernel_neon;
#endif

/* Return kernel `id`, or NULL unless it is usable. */
const pk_kernel *pk_kernel_get(int id);

/* Return w(end). */
static inline uint16_t pk_word(const uint8_t *end)
{
    return (uint16_t)(end[-2] | end[-1] << 8);
}

/* Return a(end). */
static inline uint16_t pk_step(const uint8_t *end)
{
    return (uint16_t)(pk_word(end) - pk_word(end - PK_LAG));
}

/* Return h(end), computed from scratch. The arithmetic is 32-bit: uint16_t would be promoted to
 * int, which could overflow. */
static inline uint16_t pk_hash_at(const uint8_t *end)
{
    uint32_t h = 0;
    for (int back = PK_STRIDE * (PK_STEPS - 1); back >= 0; back -= PK_STRIDE)
        h = h * PK_M + pk_step(end - back);
    return (uint16_t)h;
}

#endif
