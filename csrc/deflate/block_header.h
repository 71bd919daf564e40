/* Headers of deflate blocks as encoders make them: prefix codes from frequencies, run lengths, and
 * the choice between stored, fixed and dynamic.
 *
 * Nothing here keeps state or allocates; any number of threads. */
#ifndef PK_DEFLATE_BLOCK_HEADER_H
#define PK_DEFLATE_BLOCK_HEADER_H

#include "deflate/inflate.h"

/* Encoders that make headers in different ways: zlib and gzip; Go; Go's level 1, which has no
 * fixed codes; klauspost/compress and Go from release 1.27 on; miniz; zlib-ng's level 1, which has
 * fixed codes alone; igzip's level 0, whose codes are always the same; igzip. */
enum {
    PK_TREES_ZLIB = 0,
    PK_TREES_GO = 1,
    PK_TREES_GO_SPEED = 2,
    PK_TREES_KLAUSPOST = 3,
    PK_TREES_MINIZ = 4,
    PK_TREES_FIXED = 5,
    PK_TREES_IGZIP_USUAL = 6,
    PK_TREES_IGZIP = 7
};

/* Facts about klauspost/compress' headers, to be added to PK_TREES_KLAUSPOST. */
enum {
    PK_TREES_FILLED = 16,  /* all 286 and 30 lengths are written, but at a flush: up to 1.18.0 */
    PK_TREES_QUEUES = 32,  /* codes by merging two queues: from release 1.20.4 on */
    PK_TREES_FLUSHED = 64, /* the block, or its first unit, ends at a flush point */
    PK_TREES_LAZY = 128    /* levels 7 to 9, which do not tell apart blocks without matches */
};

/* Frequencies of the symbols of a block. */
typedef struct pk_counts {
    uint32_t symbol[PK_LENGTHS]; /* literals and lengths, then distances; without end of block */
    uint32_t extra_bits;         /* extra bits of all lengths and distances */
} pk_counts;

/* Count the symbols of a block.
 *
 * counts: overwritten. tokens, count: the block's tokens, at most PK_MAX_BLOCK_TOKENS. */
void pk_count(pk_counts *counts, const pk_token *tokens, size_t count);

/* Make code lengths of at most 15 bits, in Go's manner or by merging queues.
 *
 * lengths: `symbols` of them, at most 256, written. */
void pk_make_lengths(uint8_t *lengths, int queues, const uint32_t *counts, unsigned symbols);

/* Make the header that an encoder writes, and choose the block's type as it does.
 *
 * header: overwritten; also if the type is not PK_DYNAMIC.
 * trees: PK_TREES_..., and for klauspost's the facts.
 * counts: the block's symbols.
 * plain: bytes of the block's plaintext.
 * Returns PK_STORED, PK_FIXED or PK_DYNAMIC. */
int pk_make_header(pk_header *header, int trees, const pk_counts *counts, uint32_t plain);

/* Make the header that igzip always writes at level 0, or one from the symbols as it does at the
 * other levels; as pk_make_header. */
int pk_igzip_usual(pk_header *header);
int pk_igzip_header(pk_header *header, const pk_counts *counts);

/* Code lengths of at most `most` bits in the manner of zlib, Go, klauspost and miniz; see
 * block_lengths.c. zlib's returns the greatest symbol that has a code. */
int pk_zlib_lengths(uint8_t *lengths, const uint32_t *counts, unsigned symbols, unsigned most);
void pk_go_lengths(uint8_t *lengths, const uint32_t *counts, unsigned symbols, unsigned most);
void pk_queue_lengths(uint8_t *lengths, const uint32_t *counts, unsigned symbols, unsigned most);
void pk_miniz_lengths(uint8_t *lengths, const uint32_t *counts, unsigned symbols, unsigned most);

/* Append run-length symbols for `total` lengths to a header, and count them. zlib codes literals
 * and distances each on their own, Go both together. */
void pk_zlib_runs(pk_header *header, uint32_t *counts, const uint8_t *lengths, unsigned total);
void pk_go_runs(pk_header *header, uint32_t *counts, const uint8_t *lengths, unsigned total);

/* Assign canonical codes (RFC 1951, 3.2.2), their bits reversed as deflate writes them.
 *
 * codes: `symbols` of them, written; 0 for symbols without a code.
 * lengths: code lengths, 0..15 (the lower four bits count). */
void pk_assign_codes(uint16_t *codes, const uint8_t *lengths, unsigned symbols);

/* A symbol and how often it occurs, for the constructions of codes. */
typedef struct pk_weighted {
    uint32_t count;
    uint16_t symbol;
} pk_weighted;

/* Sort by count; symbols of equal counts stay in order. `total` is PK_LITERALS at most. */
void pk_sort_by_count(pk_weighted *list, unsigned total);

#endif
