#include "archives/signature.h"

enum { BLOCK = 64 }; /* bytes looked at together: the width of the widest vector registers */

/* Tell whether a signature begins here, with `left` bytes to the end. */
static int begins(const uint8_t *at, size_t left)
{
    if (left >= 3 && at[0] == 0x1f && at[1] == 0x8b && at[2] == 8)
        return 1;
    if (left >= 4 && at[0] == 'B' && at[1] == 'Z' && at[2] == 'h' && at[3] >= '1' && at[3] <= '9')
        return 1;
    return left >= 4 && at[0] == 0x50 && at[1] == 0x4b && at[2] == 3 && at[3] == 4;
}

/* Tell whether the first two bytes of a signature stand anywhere in a block. Compilers make vector
 * instructions of this loop. */
static int is_candidate(const uint8_t *at)
{
    uint8_t found = 0;
    for (int i = 0; i < BLOCK; i++)
        found |= (uint8_t)((at[i] == 0x1f) & (at[i + 1] == 0x8b))
                 | (uint8_t)((at[i] == 0x50) & (at[i + 1] == 0x4b))
                 | (uint8_t)((at[i] == 'B') & (at[i + 1] == 'Z'));
    return found;
}

size_t pk_find_signature(const uint8_t *data, size_t length)
{
    size_t at = 0;
    for (; at + BLOCK < length; at += BLOCK)
        if (is_candidate(data + at))
            for (size_t i = at; i < at + BLOCK; i++)
                if (begins(data + i, length - i))
                    return i;
    for (; at < length; at++)
        if (begins(data + at, length - at))
            return at;
    return length;
}

static int begins_zstd(const uint8_t *at, size_t left)
{
    return left >= 4 && at[0] == 0x28 && at[1] == 0xb5 && at[2] == 0x2f && at[3] == 0xfd;
}

size_t pk_find_zstd(const uint8_t *data, size_t length)
{
    size_t at = 0;
    for (; at + BLOCK < length; at += BLOCK) {
        uint8_t found = 0; /* vector instructions, as in `is_candidate` */
        for (int i = 0; i < BLOCK; i++)
            found |= (uint8_t)((data[at + i] == 0x28) & (data[at + i + 1] == 0xb5));
        if (found)
            for (size_t i = at; i < at + BLOCK; i++)
                if (begins_zstd(data + i, length - i))
                    return i;
    }
    for (; at < length; at++)
        if (begins_zstd(data + at, length - at))
            return at;
    return length;
}
