/* The match finders of zlib-ng's level 1, which zlib-rs and .NET have too, and of igzip (ISA-L).
 * Sources: zlib-ng, deflate_quick.c and fill_window; ISA-L, igzip_body.asm. Internal to the model.
 *
 * One table holds the position entered last for each hash of four bytes. Where a token begins, a
 * position is looked up and entered, and a match there is taken as far as it goes.
 *
 * zlib-ng enters one position more where its window moves. igzip looks at pairs of positions, and
 * takes a match at the second one if that is long and the one at the first is not; it enters four
 * positions of a match, and takes distances modulo 32768; a match above 258 bytes becomes several
 * tokens.
 *
 * The functions are the parts of the pk_model_... functions of the same names, and take the
 * model's positions. Used by one thread at a time. */
#ifndef PK_DEFLATE_MODEL_QUICK_H
#define PK_DEFLATE_MODEL_QUICK_H

#include <stdint.h>

#include "deflate/inflate.h"

typedef struct pk_quick {
    uint32_t seen;   /* zlib-ng: the input's end when a token was last predicted */
    uint64_t moves;  /* zlib-ng: the window moves at the first token behind this, in the stream */
    int knows_start; /* igzip: data[0] is the stream's first byte, and empty slots mean it */
    int second;      /* igzip: the next position is a pair's second, with this match: */
    uint32_t length; /* bytes that are equal, 0 if there is no match */
    uint32_t distance;
    uint32_t first;       /* the bytes of the match found at a pair's first position */
    uint32_t left;        /* igzip: bytes left of a long match */
    uint16_t crc[4][256]; /* igzip: lower bits of the CRC-32C of each byte of a string */
} pk_quick;

struct pk_model;

/* Start at `at`, having followed the bytes before that lie within model->follow. */
void pk_quick_start(struct pk_model *model, uint32_t at);

pk_token pk_quick_predict(struct pk_model *model, uint32_t at);
void pk_quick_accept(struct pk_model *model, uint32_t at, pk_token predicted, pk_token actual);

#endif
