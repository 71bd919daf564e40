/* The walk through a segment that analysis and rebuilding share. Internal. */
#ifndef PK_ZSTD_WALK_H
#define PK_ZSTD_WALK_H

#include "common/range_coder.h"
#include "zstd/finder.h"
#include "zstd/internal.h"
#include "zstd/predict.h"
#include "zstd/recipe.h"
#include "zstd/search.h"

/* How a sequence's offset is told: 0 is none of the repeated ones. */
enum { CLASSES = 4, FORMATS = 9 };

/* Contexts of a prediction: right ones since a wrong one; how far behind a shift it is. */
enum { RECENT = 7, ZONES = 4 };

/* Zeros at the end of a recipe are left out: it may become shorter than it was before. */
enum { SLACK = 64 };

/* Bytes that are compared before a match is told to go on. */
enum { NEAR = 1024 };

typedef struct contexts {
    chance in_frame, checksum, more;
    numbers repeats;
    chance header[PK_ZSTD_HEADER][256];
    chance kind[4][4], last[4], same[2];
    numbers plain, sequences, rest;
    chance literals_kind[4][4], format[FORMATS][4], start_mode[4], modes[3][4][4],
        rule[PK_ZSTD_TABLES][4][4];
    numbers text_length;
    chance text[256];
    numbers literals[CLASSES], length[3];
    chance offset_class[2][CLASSES][CLASSES], found, best[2], whole[2][CLASSES], far;
    numbers rank, offset;
    /* with an old stream: */
    numbers shifts, gap, by;
    chance right[PK_ZSTD_KINDS][RECENT + 1][ZONES][4], same_literals[PK_ZSTD_KINDS];
    chance same_offset[PK_ZSTD_KINDS][2];
} contexts;

struct pk_zstd_codec {
    coder coder;
    contexts is;
    pk_zstd_finder finder;
    pk_zstd_predictor predictor;
    pk_zstd_search search;
    pk_zstd_shift *shifts;
    pk_zstd_writer *writer;
    pk_zstd_segment *made; /* what verification decodes */
    pk_buffer recipe;
    size_t most;     /* analysis: bytes of the recipe */
    int recipe_made; /* what the result is */
    uint64_t wrong;  /* sequences that the last analysis did not predict */
};

/* A place in a segment. */
typedef struct walker {
    coder *coder;
    contexts *is;
    pk_zstd_finder *finder;
    pk_zstd_segment *segment;
    const pk_zstd_segment *given; /* analysis: what is coded; else NULL */
    uint32_t at;                  /* of the plaintext */
    uint32_t repeats[3];
    uint8_t in_frame, checksum;
    uint8_t known[PK_ZSTD_TABLES]; /* whether the segment has told the table */
    uint8_t rules[PK_ZSTD_TABLES]; /* that made the last one */
    uint8_t last_kind, last_literals_kind, last_modes[3];
    uint32_t last_plain;
    size_t done; /* blocks that are coded */
    unsigned last_class;
    pk_zstd_predictor *predictor; /* NULL without an old stream */
    pk_zstd_search *search;       /* NULL with one */
    size_t searched;              /* blocks that it has gone through */
    uint32_t searched_to;         /* where they end */
    unsigned recent[2];           /* sequences predicted right since a wrong one; searched */
    uint64_t wrong;
} walker;

/* Code a segment's decisions, or decode them and make its blocks and sequences. old: for a recipe
 * of kind PK_ZSTD_FROM_OLD, whose alignment is in the codec or is decoded; else NULL. Returns
 * PK_OK or an error. */
pk_status pk_zstd_walk(pk_zstd_codec *codec, pk_zstd_segment *segment, const pk_zstd_old *old,
                       int decodes);

#endif
