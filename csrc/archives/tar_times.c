#include "archives/tar_times.h"

#include <string.h>

#include "common/bytes.h"

enum {
    NAME_BYTES = 96, /* of the name that are hashed: those of the field but the last four */
    TIME_AT = 136,
    CHECKSUM_AT = 148,
    MAGIC_AT = 257,
    TIME_DIGITS = 11,
    CHECKSUM_DIGITS = 6
};

/* Return the value of octal digits; -1 if something else is among them. */
static int64_t octal(const uint8_t *at, int digits)
{
    int64_t value = 0;
    for (int i = 0; i < digits; i++) {
        if (at[i] < '0' || at[i] > '7')
            return -1;
        value = value << 3 | (at[i] - '0');
    }
    return value;
}

static void write_octal(uint8_t *at, int digits, uint64_t value)
{
    while (digits--) {
        at[digits] = (uint8_t)('0' + (value & 7));
        value >>= 3;
    }
}

/* Return the time of a header; -1 if a block is none, or one that is not written so. */
static int64_t time_of(const uint8_t *block)
{
    if (memcmp(block + MAGIC_AT, "ustar", 5) != 0)
        return -1;
    const uint8_t *told = block + CHECKSUM_AT;
    if (told[6] != 0 || told[7] != ' ')
        return -1;
    unsigned sum = 8 * ' ';
    for (int i = 0; i < PK_TAR_BLOCK; i++)
        sum += block[i];
    for (int i = 0; i < 8; i++)
        sum -= told[i];
    return octal(told, CHECKSUM_DIGITS) == sum ? octal(block + TIME_AT, TIME_DIGITS) : -1;
}

size_t pk_tar_times(const uint8_t *data, size_t length, pk_header_time *out, size_t capacity)
{
    size_t count = 0;
    for (size_t at = 0; length - at >= PK_TAR_BLOCK && count < capacity; at += PK_TAR_BLOCK) {
        int64_t time = time_of(data + at);
        if (time < 0)
            continue;
        uint64_t name = data[at + PK_TAR_TYPE];
        for (size_t word = 0; word < NAME_BYTES; word += sizeof name)
            name = ((name ^ name >> 32) + pk_load64(data + at + word)) * 0x9e3779b97f4a7c15u;
        out[count++] = (pk_header_time){name, (uint64_t)time};
    }
    return count;
}

size_t pk_tar_retime(uint8_t *data, size_t length, const uint64_t *pairs, size_t count)
{
    size_t changed = 0;
    for (size_t at = 0; length - at >= PK_TAR_BLOCK; at += PK_TAR_BLOCK) {
        uint8_t *block = data + at;
        int64_t time = time_of(block);
        size_t pair = 0;
        while (time >= 0 && pair < count && pairs[2 * pair] != (uint64_t)time)
            pair++;
        if (time < 0 || pair == count)
            continue;
        int64_t sum = octal(block + CHECKSUM_AT, CHECKSUM_DIGITS);
        for (int i = 0; i < TIME_DIGITS; i++)
            sum -= block[TIME_AT + i];
        write_octal(block + TIME_AT, TIME_DIGITS, pairs[2 * pair + 1]);
        for (int i = 0; i < TIME_DIGITS; i++)
            sum += block[TIME_AT + i];
        write_octal(block + CHECKSUM_AT, CHECKSUM_DIGITS, (uint64_t)sum);
        changed++;
    }
    return changed;
}
