/* Literals and sequences of a compressed block. Internal. */
#ifndef PK_ZSTD_SECTIONS_H
#define PK_ZSTD_SECTIONS_H

#include "zstd/internal.h"

/* Memory and tables of a parser. */
typedef struct pk_zstd_tables {
    pk_fse_cell cells[3][PK_ZSTD_MOST_TABLE];
    uint8_t logs[3];
    uint8_t built[PK_ZSTD_TABLES]; /* whether they are those of the state's texts */
    uint16_t huffman[1 << PK_HUFFMAN_BITS];
    uint8_t huffman_bits;
    uint8_t literals[PK_ZSTD_BLOCK + PK_ZSTD_PAD];
} pk_zstd_tables;

/* Parse a compressed block's `length` bytes, before which 16 can be read, but for its plaintext:
 * literals into `tables`, sequences and texts behind the segment's. Fills the block's fields.
 * Returns PK_OK, PK_INVALID or PK_NO_MEMORY. */
pk_status pk_zstd_read_sections(pk_zstd_tables *tables, pk_zstd_state *state,
                                pk_zstd_segment *segment, pk_zstd_block *block, const uint8_t *in,
                                size_t length);

#endif
