/* Bits that are read from the end of a section to its start, RFC 8878, 4.1 and 4.2. Internal. */
#ifndef PK_ZSTD_BITS_H
#define PK_ZSTD_BITS_H

#include "common/bytes.h"
#include "zstd/fse.h"

/* 16 bytes before `start` can be read. */
typedef struct back_bits {
    const uint8_t *start;
    uint64_t bits; /* the next ones, the first on top */
    int64_t left;  /* bits not taken; below 0: more were taken than there are */
} back_bits;

enum { BACK_BITS = 57 }; /* so many can be taken between two fills */

/* Take up bits anew; not where more were taken than there are. */
static inline void back_fill(back_bits *from)
{
    int64_t bytes = (from->left + 7) >> 3;
    from->bits = pk_load64(from->start + bytes - 8) << (8 * bytes - from->left);
}

/* Returns PK_INVALID if the section has no end mark. */
static inline pk_status back_begin(back_bits *from, const uint8_t *start, size_t length)
{
    if (!length || !start[length - 1])
        return PK_INVALID;
    from->start = start;
    from->left = (int64_t)(8 * length) - 8 + pk_high_bit(start[length - 1]);
    back_fill(from);
    return PK_OK;
}

static inline uint32_t back_take(back_bits *from, unsigned count)
{
    uint32_t value = (uint32_t)(from->bits >> 1 >> (63 - count));
    from->bits <<= count;
    from->left -= count;
    return value;
}

#endif
