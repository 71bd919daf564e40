/* The match finders of klauspost/compress at levels 1 to 6, which Go 1.27's compress/flate
 * shares. Internal to deflate/model.c.
 *
 * Each takes its input in units of 65535 bytes, or what there is at a flush. It keeps one or
 * two positions for each hash, in one table of short strings or in a second one of long
 * strings as well, looks at fewer and fewer positions the longer it finds nothing, and extends
 * a match forward as far as it goes and back to the match before. So the model holds a plan:
 * the next match, up to which all tokens are literals. docs/deflate.md gives the steps. */
#ifndef PK_KLAUSPOST_H
#define PK_KLAUSPOST_H

#include <stdint.h>

#include "deflate/inflate.h"

/* Releases of these encoders, given to the model as the bits of its hash: Go's, or klauspost's
 * that make headers so. */
enum { PK_DETAIL_NONE = 0, PK_DETAIL_QUEUES = 1, PK_DETAIL_FILLED = 2 };

enum {
    PK_UNIT = 65535,   /* bytes that the encoder is given at once */
    PK_PRIMING = 16384 /* bytes of a dictionary that pgzip gives it behind a flush point */
};

typedef struct pk_klauspost {
    unsigned level;
    int keeps_small; /* a last unit of fewer than 128 bytes is searched as well */
    uint32_t unit, unit_end, unit_length;
    uint32_t held;        /* bytes before the unit in the encoder's buffer */
    uint32_t floor;       /* no match begins before it */
    uint32_t emitted;     /* behind the last match, or where the unit begins */
    uint32_t least;       /* a match is not extended back before this */
    uint32_t next;        /* where it looks next */
    int second;           /* levels 1 and 2: the next look is the second of a pair */
    uint32_t hit;         /* where the next match begins, or the unit's end */
    uint32_t whole, left; /* its length, before it is cut into tokens, and what remains of it */
    uint32_t distance, repeated; /* of it, and of the match before */
    int literal;                 /* the unit has no matches: they would not pay */
    int blind;                   /* it is too short to be searched */
    uint32_t tried, replayed;    /* matches found ahead in the unit; how many were planned */
    int keeps;                   /* the tables from before them are kept */
    int lost; /* the model is of no use any more: a token that was promised right was wrong */
} pk_klauspost;

/* A match that was found ahead, and where the look goes on. */
typedef struct pk_planned {
    uint32_t hit, whole, distance, next;
    int second;
} pk_planned;

/* Matches of four bytes or more that save a sixteenth of a unit. */
enum { PK_MOST_TRIED = PK_UNIT / 16 / 3 + 1 };

struct pk_model;

/* Start at `at`, having followed the units before it, or a dictionary. */
void pk_klauspost_start(struct pk_model *model, uint32_t at);

pk_token pk_klauspost_predict(struct pk_model *model, uint32_t at);
void pk_klauspost_accept(struct pk_model *model, uint32_t at, pk_token predicted, pk_token actual);

/* Predict and accept tokens from `*at` on without being asked for each, within the unit at hand.
 *
 * at: where the last accepted token ended; moved on. last: none ends behind it; `*at` or more.
 *     most: greatest number of tokens. actual: as many tokens, with which they must agree, or
 *     NULL. out: written. Returns how many they are; there may be more. */
uint32_t pk_klauspost_run(struct pk_model *model, uint32_t *at, uint32_t last, uint64_t most,
                          const pk_token *actual, pk_token *out);

#endif
