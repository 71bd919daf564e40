/* The match finder of miniz and miniz_oxide at level 1. Source: miniz_oxide, deflate/core.rs,
 * compress_fast. Internal to the model.
 *
 * It takes its input in pieces of 4096 bytes and ends each match with the piece. One table holds
 * the last position of each hash of three bytes, modulo 65536; only where a token begins does it
 * look and enter. When a block's output does not fit the caller's buffer, it refills its input
 * behind the block, so that a new piece begins there. Nothing in the stream says so; the model
 * takes it for granted, and moves the pieces where a match shows that they end elsewhere.
 *
 * The functions are the parts of the pk_model_... functions of the same names, and take the
 * model's positions. Used by one thread at a time. */
#ifndef PK_DEFLATE_MODEL_MINIZ_H
#define PK_DEFLATE_MODEL_MINIZ_H

#include <stdint.h>

#include "deflate/inflate.h"

enum {
    PK_MINIZ_PIECE = 4096,        /* bytes of input that it takes at once */
    PK_MINIZ_CODES = 65536 - 8,   /* a block ends above so many bytes of its code buffer */
    PK_MINIZ_NOWHERE = UINT32_MAX /* no end of a piece is known */
};

typedef struct pk_miniz {
    uint32_t piece_end; /* the piece at hand ends here, or where the input ends */
    uint32_t other_end; /* or here, if nothing was refilled behind the last block */
    uint32_t seen;      /* the input's end when a token was last predicted */
    uint32_t count;     /* tokens of the block */
    uint32_t matches;   /* of these */
    int knows_start;    /* data[0] is the stream's first byte: empty slots mean it */
} pk_miniz;

/* Return the bytes of the code buffer that tokens take: a flag byte for each eight, a byte for a
 * literal, three for a match. */
static inline uint64_t pk_miniz_codes(uint32_t count, uint32_t matches)
{
    return 1 + (uint64_t)count + count / 8 + 2 * (uint64_t)matches;
}

struct pk_model;

/* Start at `at`, having followed the bytes before that lie within model->follow. */
void pk_miniz_start(struct pk_model *model, uint32_t at);

pk_token pk_miniz_predict(struct pk_model *model, uint32_t at);
void pk_miniz_accept(struct pk_model *model, uint32_t at, pk_token predicted, pk_token actual);

#endif
