/* The match finder of Go's level 1, BestSpeed. Source: compress/flate, deflatefast.go. Internal to
 * the model.
 *
 * It takes its input in blocks of 65535 bytes, or of the bytes there are at a flush, and remembers
 * one position for each hash of four bytes. While it finds nothing it looks at fewer and fewer
 * positions. So the model keeps how far the encoder has looked, which is beyond the token that is
 * predicted next.
 *
 * The functions are the parts of the pk_model_... functions of the same names, and take the
 * model's positions. Used by one thread at a time. */
#ifndef PK_DEFLATE_MODEL_GO_SPEED_H
#define PK_DEFLATE_MODEL_GO_SPEED_H

#include <stdint.h>

#include "deflate/inflate.h"

enum { PK_SPEED_BLOCK = 65535 }; /* bytes of a block */

typedef struct pk_speed {
    uint32_t block;     /* the block that is predicted starts here, */
    uint32_t block_end; /* and ends here */
    uint32_t previous;  /* the block before starts here: no match goes on before it */
    uint32_t oldest;    /* positions before this are forgotten */
    uint32_t next;      /* the next position to look at */
    uint32_t skip;      /* 32 times the distance to the one after that */
    uint32_t hit;       /* position of the next match, or the block's end */
    uint32_t from;      /* the position that it matches */
    int literal;        /* the block has no matches: they would not pay */
} pk_speed;

struct pk_model;

/* Start at `at`, having followed the blocks before that lie within model->follow. */
void pk_speed_start(struct pk_model *model, uint32_t at);

/* Return the token predicted at `at`; begins a new block if the last one has ended. */
pk_token pk_speed_predict(struct pk_model *model, uint32_t at);

/* Tell the model which token the encoder wrote, and look for the next match if that changes it. */
void pk_speed_accept(struct pk_model *model, uint32_t at, pk_token predicted, pk_token actual);

#endif
