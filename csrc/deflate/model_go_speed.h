/* The match finder of Go's level 1, BestSpeed (compress/flate, deflatefast.go). Internal to
 * deflate/model.c.
 *
 * It takes its input in blocks of 65535 bytes, or what there is at a flush, and remembers one
 * position for each hash of four bytes. Where it looks depends on how long it has found nothing,
 * so the model keeps how far it has looked, beyond the token it predicts next. */
#ifndef PK_SPEED_H
#define PK_SPEED_H

#include <stdint.h>

#include "deflate/inflate.h"

enum { PK_SPEED_BLOCK = 65535 };

typedef struct pk_speed {
    uint32_t block, block_end; /* what it is given at once */
    uint32_t previous;         /* where the block before begins: no match goes on before it */
    uint32_t oldest;           /* positions before it are forgotten */
    uint32_t next, skip;       /* where it looks next, and 32 times how far it moves on then */
    uint32_t hit, from;        /* the next match, and what it matches; or the block's end */
    int literal;               /* the block has no matches: they would not pay */
} pk_speed;

struct pk_model;

/* Start at `at`, having followed the blocks before. */
void pk_speed_start(struct pk_model *model, uint32_t at);

pk_token pk_speed_predict(struct pk_model *model, uint32_t at);
void pk_speed_accept(struct pk_model *model, uint32_t at, pk_token predicted, pk_token actual);

#endif
