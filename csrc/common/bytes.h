/* Loads, comparisons and bits, the same on machines of either byte order. Internal.
 *
 * Nothing here allocates or keeps state. */
#ifndef PK_COMMON_BYTES_H
#define PK_COMMON_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Return the eight bytes from `at` on as a little-endian number. */
static inline uint64_t pk_load64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    return value;
}

/* Return the four bytes from `at` on as a little-endian number. */
static inline uint32_t pk_load32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap32(value);
#endif
    return value;
}

/* Tell whether the two bytes from `one` and from `other` on are equal. */
static inline int pk_same_two(const uint8_t *one, const uint8_t *other)
{
    uint16_t left, right;
    memcpy(&left, one, sizeof left);
    memcpy(&right, other, sizeof right);
    return left == right;
}

/* Return how many bytes from `one` and from `other` on are equal, 0 to `most`: the length of a
 * match.
 *
 * Both have `most` readable bytes; they may overlap. */
static inline size_t pk_equal_ahead(const uint8_t *one, const uint8_t *other, size_t most)
{
    size_t length = 0;
    while (length + 8 <= most) {
        uint64_t differ = pk_load64(one + length) ^ pk_load64(other + length);
        if (differ)
            return length + (size_t)(__builtin_ctzll(differ) >> 3);
        length += 8;
    }
    while (length < most && one[length] == other[length])
        length++;
    return length;
}

/* Return how many bytes before `one` and before `other` are equal, 0 to `most`. */
static inline size_t pk_equal_behind(const uint8_t *one, const uint8_t *other, size_t most)
{
    size_t length = 0;
    while (length < most && one[-1 - (ptrdiff_t)length] == other[-1 - (ptrdiff_t)length])
        length++;
    return length;
}

/* Writes bits, the lowest of each byte first. Start with the output's first byte, 0 and 0. */
typedef struct pk_bit_writer {
    uint8_t *out;   /* the next whole byte goes here; owned by the caller */
    uint64_t bits;  /* bits that do not make a byte yet */
    unsigned count; /* how many: 0 to 7 between calls */
} pk_bit_writer;

/* Write the lower `count` bits of `bits`, 0 to 32 of them; the bits above must be 0. */
static inline void pk_put_bits(pk_bit_writer *to, uint64_t bits, unsigned count)
{
    to->bits |= bits << to->count;
    for (to->count += count; to->count >= 8; to->count -= 8) {
        *to->out++ = (uint8_t)to->bits;
        to->bits >>= 8;
    }
}

/* Write the bits that are left, and zeros up to a whole byte. Returns the end of the output. */
static inline uint8_t *pk_end_bits(pk_bit_writer *to)
{
    if (to->count)
        *to->out++ = (uint8_t)to->bits;
    return to->out;
}

#endif
