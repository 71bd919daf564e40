#include "archives/tar_header.h"

#include <string.h>

enum {
    SIZE = 4, /* fields by number */
    MTIME = 5,
    CHECKSUM = 6,
    FIELDS = 15,
    RAW_SIZE = 1 << 15,
    RAW_MTIME = 1 << 16,
    DIGITS = 11, /* of sizes and times as they are mostly written, one more byte behind them */
    CHECKSUM_AT = 148
};

static const uint16_t starts[FIELDS + 1] = {0,   100, 108, 116, 124, 136, 148, 156,
                                            157, 257, 265, 297, 329, 337, 345, PK_TAR_BLOCK};

/* Return the sum of all bytes; the bytes of the checksum itself count as spaces. */
static unsigned checksum_of(const uint8_t *block)
{
    unsigned sum = 8 * ' ';
    for (int i = 0; i < PK_TAR_BLOCK; i++)
        sum += block[i];
    for (int i = 0; i < 8; i++)
        sum -= block[CHECKSUM_AT + i];
    return sum;
}

static void write_octal(uint8_t *at, int digits, uint64_t value)
{
    while (digits--) {
        at[digits] = (uint8_t)('0' + (value & 7));
        value >>= 3;
    }
}

/* The number of a field: spaces, octal digits, and NULs or spaces to its end; -1 for anything
 * else. */
static int64_t octal_of(const uint8_t *field, int length)
{
    int at = 0;
    int64_t value = 0;
    while (at < length && field[at] == ' ')
        at++;
    for (; at < length && field[at] >= '0' && field[at] <= '7'; at++)
        value = value << 3 | (field[at] - '0');
    for (; at < length; at++)
        if (field[at] && field[at] != ' ')
            return -1;
    return value;
}

int pk_tar_is_header(const uint8_t *block)
{
    if (!block[0])
        return 0;
    uint8_t told[8];
    memcpy(told, block + CHECKSUM_AT, 8);
    for (int i = 0; i < 8 && !told[i]; i++)
        told[i] = ' '; /* NULs before the digits are seen now and then */
    return octal_of(told, 8) == checksum_of(block);
}

int64_t pk_tar_size(const uint8_t *block)
{
    const uint8_t *field = block + starts[SIZE];
    if (block[PK_TAR_TYPE] >= '1' && block[PK_TAR_TYPE] <= '6')
        return 0; /* links, devices, directories, fifos */
    if (field[0] != 0x80)
        return octal_of(field, 12);
    int64_t value = 0; /* GNU: binary, for 8 GiB and more */
    for (int i = 1; i < 12; i++) {
        if (value >> 55)
            return -1;
        value = value << 8 | field[i];
    }
    return value;
}

int pk_tar_next(const uint8_t *data, size_t length, uint64_t left, int64_t least,
                uint32_t *headers, uint64_t *at, int64_t *size)
{
    while (*headers && *at <= left && left - *at >= PK_TAR_BLOCK) {
        if (*at > length || length - *at < PK_TAR_BLOCK)
            return PK_TAR_MORE;
        const uint8_t *block = data + *at;
        --*headers;
        *size = pk_tar_is_header(block) ? pk_tar_size(block) : -1;
        if (*size < 0 || (uint64_t)*size > left - *at - PK_TAR_BLOCK)
            return PK_TAR_END;
        if (*size >= least)
            return PK_TAR_FOUND;
        *at +=
            PK_TAR_BLOCK + (((uint64_t)*size + PK_TAR_BLOCK - 1) & ~(uint64_t)(PK_TAR_BLOCK - 1));
    }
    return PK_TAR_END;
}

/* Return the number of a field of 11 octal digits and this last byte; -1 for any other field. */
static int64_t canonical(const uint8_t *field, uint8_t last)
{
    int64_t value = 0;
    for (int i = 0; i < DIGITS; i++) {
        if (field[i] < '0' || field[i] > '7')
            return -1;
        value = value << 3 | (field[i] - '0');
    }
    return field[DIGITS] == last ? value : -1;
}

static uint8_t *put_number(uint8_t *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *out++ = (uint8_t)(value | 0x80);
    *out++ = (uint8_t)value;
    return out;
}

size_t pk_tar_encode(const uint8_t *block, const uint8_t *previous, uint8_t *out, int64_t *size)
{
    if (!pk_tar_is_header(block) || (*size = pk_tar_size(block)) < 0)
        return 0;
    uint32_t mask = 0;
    uint8_t fields[PK_TAR_CODED], *end = fields, right[8] = {0};
    write_octal(right, 6, checksum_of(block));
    right[7] = ' ';
    for (int field = 0; field < FIELDS; field++) {
        size_t start = starts[field], length = starts[field + 1] - start;
        if (!memcmp(block + start, field == CHECKSUM ? right : previous + start, length))
            continue;
        mask |= 1u << field;
        if (field == SIZE || field == MTIME) {
            uint8_t last = previous[start + DIGITS];
            int64_t value = canonical(block + start, last);
            if (value >= 0) {
                if (field == MTIME) {
                    int64_t before = canonical(previous + start, last);
                    value -= before > 0 ? before : 0;
                    value = value >= 0 ? value * 2 : -value * 2 - 1;
                }
                end = put_number(end, (uint64_t)value);
                continue;
            }
            mask |= field == SIZE ? RAW_SIZE : RAW_MTIME;
        }
        while (length && !block[start + length - 1])
            length--;
        end = put_number(end, length);
        memcpy(end, block + start, length);
        end += length;
    }
    uint8_t *at = put_number(out, mask), again[PK_TAR_BLOCK];
    memcpy(at, fields, (size_t)(end - fields));
    size_t coded = (size_t)(at - out) + (size_t)(end - fields);
    size_t taken;
    if (pk_tar_decode(out, coded, previous, again, &taken) != PK_OK || taken != coded
        || memcmp(again, block, PK_TAR_BLOCK) != 0)
        return 0;
    return coded;
}

/* Read a number. Returns its end, or NULL if there is none below 2^63. */
static const uint8_t *get_number(const uint8_t *in, const uint8_t *end, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; in < end && shift < 63; shift += 7) {
        *value |= (uint64_t)(*in & 0x7f) << shift;
        if (*in++ < 0x80)
            return in;
    }
    return NULL;
}

pk_status pk_tar_decode(const uint8_t *in, size_t length, const uint8_t *previous, uint8_t *block,
                        size_t *taken)
{
    const uint8_t *at = in, *end = in + length;
    uint64_t mask, value;
    if (!(at = get_number(at, end, &mask)))
        return PK_CUT_OFF;
    memmove(block, previous, PK_TAR_BLOCK); /* they may be one */
    for (int field = 0; field < FIELDS; field++) {
        if (!(mask >> field & 1))
            continue;
        uint8_t *place = block + starts[field];
        size_t room = starts[field + 1] - (size_t)starts[field];
        if (!(at = get_number(at, end, &value)))
            return PK_CUT_OFF;
        if ((field == SIZE && !(mask & RAW_SIZE)) || (field == MTIME && !(mask & RAW_MTIME))) {
            int64_t number = (int64_t)value;
            if (field == MTIME) {
                int64_t before = canonical(place, place[DIGITS]);
                number =
                    (value & 1 ? -(number >> 1) - 1 : number >> 1) + (before > 0 ? before : 0);
            }
            if (number < 0 || number >> 3 * DIGITS)
                return PK_OUT_OF_RANGE;
            write_octal(place, DIGITS, (uint64_t)number);
            continue;
        }
        if (value > (uint64_t)(end - at))
            return PK_CUT_OFF;
        if (value > room)
            return PK_TOO_LONG;
        memset(place, 0, room);
        memcpy(place, at, value);
        at += value;
    }
    if (!(mask >> CHECKSUM & 1)) {
        uint8_t *place = block + CHECKSUM_AT;
        unsigned sum = checksum_of(block);
        write_octal(place, 6, sum);
        place[6] = 0;
        place[7] = ' ';
    }
    *taken = (size_t)(at - in);
    return PK_OK;
}
