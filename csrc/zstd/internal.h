/* What the files of frames.h and recipe.h have in common. Internal. */
#ifndef PK_ZSTD_INTERNAL_H
#define PK_ZSTD_INTERNAL_H

#include "common/buffer.h"
#include "zstd/frames.h"
#include "zstd/fse.h"
#include "zstd/huffman.h"

enum {
    PK_ZSTD_MAGIC = (int)0xfd2fb528,
    PK_ZSTD_LEAST_MATCH = 3,
    PK_ZSTD_MOST_TEXTS = 16 << 20, /* bytes of descriptions in a segment */
    PK_ZSTD_MOST_TABLE = 1 << PK_FSE_LOG
};

/* Codes of the alphabets, RFC 8878, 3.1.1.3.2.1, and how large tables may be. */
extern const uint32_t pk_zstd_length_base[36], pk_zstd_match_base[53];
extern const uint8_t pk_zstd_length_bits[36], pk_zstd_match_bits[53];
extern const uint8_t pk_zstd_symbols[3], pk_zstd_logs[3];

/* The predefined tables, RFC 8878, 3.1.1.3.2.2. */
extern const pk_fse pk_zstd_predefined[3];

/* The codes of a literals length, and of a match length. */
unsigned pk_zstd_length_code(uint32_t length);
unsigned pk_zstd_match_code(uint32_t length);

/* The state at a frame's first block. */
void pk_zstd_state_frame(pk_zstd_state *state, int checksum);

/* The offset that an Offset_Value means after so many literals, and the repeats after it. 0: none
 * that is valid. */
static inline uint32_t pk_zstd_offset(uint32_t repeats[3], uint32_t value, uint32_t literals)
{
    uint32_t offset;
    if (value > 3) {
        offset = value - 3;
    } else {
        unsigned which = value - 1 + !literals;
        if (!which)
            return repeats[0];
        offset = which == 3 ? repeats[0] - 1 : repeats[which];
        if (which == 1) {
            repeats[1] = repeats[0];
            repeats[0] = offset;
            return offset;
        }
    }
    repeats[2] = repeats[1];
    repeats[1] = repeats[0];
    repeats[0] = offset;
    return offset;
}

/* Make memory hold `wanted` units and half as many more. Returns PK_OK or PK_NO_MEMORY. */
pk_status pk_zstd_grow(void **memory, size_t *capacity, size_t wanted, size_t unit);

/* ---- Writing ---- */

typedef struct pk_zstd_writer pk_zstd_writer;

pk_zstd_writer *pk_zstd_writer_new(void);
void pk_zstd_writer_free(pk_zstd_writer *writer);

/* Begin with the state that the segment begins with, and at most `most` bytes. */
void pk_zstd_writer_begin(pk_zstd_writer *writer, size_t most);

/* Append a block, what is before it in the frame and behind it. plain: its plaintext. state:
 * before the block, its tables become those behind it. Returns PK_OK; PK_INVALID if its fields do
 * not make a block, or there are more bytes than may be; PK_NO_MEMORY. */
pk_status pk_zstd_write_block(pk_zstd_writer *writer, pk_zstd_state *state,
                              const pk_zstd_segment *segment, const pk_zstd_block *block,
                              const uint8_t *plain);

const uint8_t *pk_zstd_written(const pk_zstd_writer *writer, size_t *length);

/* Count literals of a compressed block. */
void pk_zstd_count_literals(const pk_zstd_segment *segment, const pk_zstd_block *block,
                            const uint8_t *plain, uint32_t counts[256]);

/* Count codes of its sequences, and tell the last one's. */
void pk_zstd_count_codes(const pk_zstd_segment *segment, const pk_zstd_block *block,
                         uint32_t counts[3][PK_FSE_SYMBOLS], int last[3]);

#endif
