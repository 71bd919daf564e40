/* The walk through a segment that analysis and rebuilding share. Internal. */
#ifndef PK_TOKENS_WALK_H
#define PK_TOKENS_WALK_H

#include "deflate/inflate_codes.h"
#include "deflate/tokens_internal.h"

enum {
    CLEAR = PK_WINDOW,             /* so far behind a change an encoder knows nothing of it, */
    MARGIN = 2 * PK_MAX_MATCH + 8, /* nor so far ahead of one */
    RECENT = 32,                   /* tokens behind a wrong one that are asked about one by one */
    MOST_STEPS = 64                /* shifts that are looked through for a place, at most */
};

/* What a predicted token comes from. */
enum {
    KIND_LITERAL,
    KIND_SAME,
    KIND_MOVED,
    KIND_LONGER,
    KIND_SHORTER,
    KIND_REST,
    KIND_REST_LITERAL,
    KIND_FALL,
    KIND_LOST,
    KINDS
};

/* How a block ends. */
enum {
    ENDS_OLD = 0,      /* where the old block does */
    ENDS_COUNT = 1,    /* with as many tokens as the last block that told */
    ENDS_BYTES = 2,    /* with as many bytes as the last block that told */
    ENDS_ALL = 3,      /* with the segment */
    ENDS_AT_COUNT = 4, /* tells its tokens */
    ENDS_AT_BYTES = 5, /* tells its bytes */
    ENDS_NOW = 6,      /* is empty */
    ENDS_MODES = 7
};

/* Contexts of the coder, by what is asked. Each is an average of its own; so there are few. */
enum { ZONES = 5, CLASSES = 6 };

typedef struct contexts {
    chance right[KINDS][ZONES][4][CLASSES][3];
    chance fall[8][4][2];    /* by the length found */
    chance second[KINDS][2]; /* the fall-back's token instead */
    chance literal[KINDS];
    chance distance[KINDS]; /* the predicted distance, another length */
    chance best[2], whole[2];
    chance lengths[2][256];
    chance found;
    numbers rank;
    chance far[32];
    numbers runs;
    chance no_run;
    numbers gap, by, shifts;
    chance more, last_mode[ENDS_MODES][8], stored[2], fixed[3];
    numbers count, bytes;
    chance make[16][16];
    chance code_lengths[17][16], given_runs, given_codes, header_counts[2][32], symbols[19][32];
    chance three[PK_CODES][8], extra[3][128];
} contexts;

struct pk_tokens {
    coder main, runs; /* decisions; counts of right tokens far from any change */
    contexts is;
    finder find;
    pk_segment made; /* what verification rebuilds; its data are borrowed */
    pk_copy *copies;
    uint32_t *table;
    size_t table_capacity;
    shift *shifts;
    size_t shift_count;
    pk_writer out;
};

/* What is known at a place of a segment. */
typedef struct walker {
    coder *coder, *runs;
    contexts *is;
    finder *find;
    const pk_old *old;
    const uint8_t *data;
    uint32_t size, start;
    const shift *shifts;
    uint32_t shift_count, shift_at; /* the one that holds */
    uint32_t shift_end;
    uint32_t equal_from,
        equal_to; /* data[p] == old[p - by] there; equal_to <= p where they differ */
    old_place place;
    uint32_t recent; /* tokens since a wrong one, at most RECENT */
    uint32_t right;  /* analysis: right tokens far from changes; rebuilding: those to come */
    uint32_t last_count, last_bytes;
    uint64_t wrong, aligned;
    uint64_t most_work; /* of the fall-back, above which the walk ends */
    uint32_t headers;
} walker;

/* A predicted token, and the context of whether it is right. */
typedef struct guess {
    pk_token token;
    unsigned kind;
    chance *chance;
} guess;

/* Begin at the first byte of a segment's plaintext, with contexts that have seen nothing. */
void pk_walk_starts(pk_tokens *own, walker *with, const pk_old *old, const pk_segment *segment,
                    unsigned rule);

/* Take the alignment that was found or read. */
void pk_walk_shifts(walker *with, const shift *shifts, size_t count);

/* See how far data and old span agree around `at`. Returns whether they do there. */
int pk_walk_align(walker *with, uint32_t at);

/* Predict the token at a place. */
guess pk_walk_predict(walker *with, uint32_t at);

/* If `at` is far from changes and an old token begins there, return up to where tokens are
 * copied, else 0. */
uint32_t pk_walk_clear(walker *with, uint32_t at);

/* Where the first old block ends that ends behind `at`; the segment's end if none does. */
uint32_t pk_walk_old_end(const walker *with, uint32_t at);

/* Write a segment's decisions, or read them and make its tokens and blocks. Returns PK_OK or an
 * error. */
int pk_walk(pk_tokens *own, walker *with, pk_segment *segment);

/* Tell that `count` tokens far from changes were right before a wrong one, UINT32_MAX that
 * there is none any more, and return 0; or read how many will be. */
uint32_t pk_walk_run(walker *with, uint32_t count);

#endif
