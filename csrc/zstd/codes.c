/* Tables of RFC 8878, and what the files of this room share. */
#include <stdlib.h>
#include <string.h>

#include "zstd/internal.h"

const uint32_t pk_zstd_length_base[36] = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,   9,   10,  11,   12,   13,   14,   15,    16,    18,
    20, 22, 24, 28, 32, 40, 48, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536};
const uint8_t pk_zstd_length_bits[36] = {0, 0, 0, 0, 0, 0,  0,  0,  0,  0,  0,  0,
                                         0, 0, 0, 0, 1, 1,  1,  1,  2,  2,  3,  3,
                                         4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
const uint32_t pk_zstd_match_base[53] = {
    3,  4,  5,  6,  7,  8,  9,  10,  11,  12,  13,   14,   15,   16,   17,    18,    19,   20,
    21, 22, 23, 24, 25, 26, 27, 28,  29,  30,  31,   32,   33,   34,   35,    37,    39,   41,
    43, 47, 51, 59, 67, 83, 99, 131, 259, 515, 1027, 2051, 4099, 8195, 16387, 32771, 65539};
const uint8_t pk_zstd_match_bits[53] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  0,  0,  0,  0,  0,  0, 0,
                                        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  0,  0,  0,  1,  1,  1, 1,
                                        2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
const uint8_t pk_zstd_symbols[3] = {36, 32, 53}, pk_zstd_logs[3] = {9, 8, 9};

const pk_fse pk_zstd_predefined[3] = {
    {{4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1,  1,  2,  2,
      2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1},
     36,
     6},
    {{1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1},
     29,
     5},
    {{1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,  1,  1,  1,  1,  1,  1, 1,
      1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1},
     53,
     6}};

unsigned pk_zstd_length_code(uint32_t length)
{
    if (length < 16)
        return length;
    if (length >= 64)
        return pk_high_bit(length) + 19;
    unsigned code = 16;
    while (code < 24 && pk_zstd_length_base[code + 1] <= length)
        code++;
    return code;
}

unsigned pk_zstd_match_code(uint32_t length)
{
    if (length < 35)
        return length - 3;
    if (length >= 131)
        return pk_high_bit(length - 3) + 36;
    unsigned code = 32;
    while (code < 42 && pk_zstd_match_base[code + 1] <= length)
        code++;
    return code;
}

void pk_zstd_state_frame(pk_zstd_state *state, int checksum)
{
    *state = (pk_zstd_state){.in_frame = 1, .checksum = (uint8_t)checksum, .repeats = {1, 4, 8}};
    for (unsigned table = 0; table < PK_ZSTD_TABLES; table++)
        state->tables[table].mode = PK_ZSTD_REPEATED;
}

pk_status pk_zstd_grow(void **memory, size_t *capacity, size_t wanted, size_t unit)
{
    if (wanted <= *capacity)
        return PK_OK;
    wanted += wanted / 2 + 64;
    void *moved = realloc(*memory, wanted * unit);
    if (!moved)
        return PK_NO_MEMORY;
    *memory = moved;
    *capacity = wanted;
    return PK_OK;
}

pk_zstd_segment *pk_zstd_segment_new(void)
{
    pk_zstd_segment *segment = calloc(1, sizeof *segment);
    if (segment /* so that the first of no sequences has a place, too */
        && pk_zstd_grow((void **)&segment->sequences, &segment->sequence_capacity, 1,
                        sizeof *segment->sequences)) {
        free(segment);
        return NULL;
    }
    return segment;
}

void pk_zstd_segment_free(pk_zstd_segment *segment)
{
    if (!segment)
        return;
    free(segment->plain);
    free(segment->input);
    free(segment->sequences);
    free(segment->blocks);
    pk_buffer_free(&segment->texts);
    free(segment);
}

size_t pk_zstd_most_coded(size_t plain)
{
    size_t most = 4 * plain + (64 << 10);
    return most < PK_ZSTD_MOST_INPUT ? most : PK_ZSTD_MOST_INPUT;
}

size_t pk_zstd_header(const uint8_t *in, size_t length, int *checksum, uint64_t *window,
                      uint64_t *content)
{
    static const uint8_t sizes[4] = {0, 2, 4, 8};
    if (!length || in[0] & 0x0b) /* a reserved bit, a dictionary */
        return 0;
    unsigned single = in[0] >> 5 & 1, size = sizes[in[0] >> 6];
    if (single && !size)
        size = 1;
    size_t used = 1 + !single + size;
    if (used > length)
        return 0;
    uint64_t value = 0, wide;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)in[used - size + i] << (8 * i);
    value += size == 2 ? 256 : 0;
    if (single) {
        wide = value;
    } else {
        wide = UINT64_C(1) << (10 + (in[1] >> 3));
        wide += (wide >> 3) * (in[1] & 7);
    }
    *checksum = in[0] >> 2 & 1;
    if (window)
        *window = wide;
    if (content)
        *content = size ? value : UINT64_MAX;
    return used;
}
