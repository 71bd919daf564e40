/* The search of fast encoders, as a predictor of sequences. Internal.
 *
 * Encoders with two tables, of places by five bytes and by eight, take the first match they find:
 * zstd_dfast.c of libzstd, and enc_dfast.go of klauspost/compress, whose order of steps this is.
 * It sees one segment only, so what is before it is told in the recipe. */
#ifndef PK_ZSTD_SEARCH_H
#define PK_ZSTD_SEARCH_H

#include "zstd/frames.h"

enum {
    PK_ZSTD_LONGS = 17,  /* bits of the table of places by eight bytes */
    PK_ZSTD_SHORTS = 15, /* the same of those by five */
    PK_ZSTD_MARGIN = 10, /* the last bytes of a block are not searched */
    PK_ZSTD_TRIED = 2048 /* entries that one search may make */
};

/* An entry that a search made. */
typedef struct pk_zstd_entry {
    uint32_t *slot, was, place;
} pk_zstd_entry;

typedef struct pk_zstd_search {
    const uint8_t *data;
    uint32_t end;         /* of the block */
    uint32_t next;        /* where the last search would look next */
    uint32_t steps;       /* how many are left in the block: a stranger decides what is asked */
    uint32_t count;       /* sequences in the block */
    uint8_t repeats;      /* whether the last offset is tried: behind the first matches */
    uint8_t behind_match; /* whether the offset before the last one is tried first */
    uint32_t tried;
    pk_zstd_entry entries[PK_ZSTD_TRIED];
    uint32_t longs[1 << PK_ZSTD_LONGS]; /* the last place entered, + 1 */
    uint32_t shorts[1 << PK_ZSTD_SHORTS];
} pk_zstd_search;

/* Begin a frame of a segment with this plaintext. */
void pk_zstd_search_frame(pk_zstd_search *with, const uint8_t *data);

/* Begin a block, from `at` to `end`, of the plaintext. */
void pk_zstd_search_block(pk_zstd_search *with, uint32_t at, uint32_t end);

/* Predict literals and Offset_Value of the sequence that begins at `at`; returns 0 if none is
 * found. `pk_zstd_search_took` follows, or the block's end. */
int pk_zstd_search_next(pk_zstd_search *with, uint32_t at, const uint32_t repeats[3],
                        pk_zstd_sequence *to);

/* Tell the sequence that begins at `at`, and whether it was found so. */
void pk_zstd_search_took(pk_zstd_search *with, uint32_t at, const pk_zstd_sequence *sequence,
                         int found);

/* Go through a raw block: what it holds was searched, too. */
void pk_zstd_search_raw(pk_zstd_search *with, uint32_t at, uint32_t end,
                        const uint32_t repeats[3]);

#endif
