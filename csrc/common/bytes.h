/* Eight bytes at a time, the same on machines of either byte order. Internal. */
#ifndef PK_BYTES_H
#define PK_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t load64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    return value;
}

/* How many bytes are equal from `one` and `other` on, at most `most`. */
static inline size_t ahead(const uint8_t *one, const uint8_t *other, size_t most)
{
    size_t length = 0;
    while (length + 8 <= most) {
        uint64_t differ = load64(one + length) ^ load64(other + length);
        if (differ)
            return length + (size_t)(__builtin_ctzll(differ) >> 3);
        length += 8;
    }
    while (length < most && one[length] == other[length])
        length++;
    return length;
}

/* How many bytes are equal before `one` and `other`, at most `most`. */
static inline size_t behind(const uint8_t *one, const uint8_t *other, size_t most)
{
    size_t length = 0;
    while (length < most && one[-1 - (ptrdiff_t)length] == other[-1 - (ptrdiff_t)length])
        length++;
    return length;
}

/* Bits written from the lowest of each byte on. */
typedef struct bit_writer {
    uint8_t *out;
    uint64_t bits;
    unsigned count;
} bit_writer;

/* Write the lower `count` bits of `bits`, whose others are 0; count <= 32. */
static inline void put_bits(bit_writer *to, uint64_t bits, unsigned count)
{
    to->bits |= bits << to->count;
    for (to->count += count; to->count >= 8; to->count -= 8) {
        *to->out++ = (uint8_t)to->bits;
        to->bits >>= 8;
    }
}

/* Write what is left, and zeros up to a whole byte. Returns where the bytes end. */
static inline uint8_t *end_bits(bit_writer *to)
{
    if (to->count)
        *to->out++ = (uint8_t)to->bits;
    return to->out;
}

#endif
