/* The match finder of klauspost/compress at levels 7 to 9, which Go 1.27's compress/flate shares.
 * Internal to deflate/model.c.
 *
 * It is Go's lazy one with these differences: a match may be replaced by a longer one that the
 * string behind its end leads to; long runs of literals are skipped over; level 9 weighs a
 * match by the bits that its literals would take, in codes made from the text that the encoder
 * has in its buffer. docs/deflate.md gives the steps. */
#ifndef PK_KLAUSPOST_LAZY_H
#define PK_KLAUSPOST_LAZY_H

#include <stdint.h>

#include "deflate/inflate.h"

enum { PK_KLAUSPOST_TOKENS = 32768 }; /* of a unit */

typedef struct pk_klauspost_lazy {
    uint64_t begun;    /* position in the stream where the encoder's buffer began */
    uint32_t floor;    /* no match begins before it */
    uint32_t literals; /* since the last match that was found */
    uint32_t skipped;  /* tokens up to this position are literals, without a search */
    uint32_t planned, length, distance; /* a match at a later position, if its length is not 0 */
    uint64_t turn;     /* how often the buffer had been filled when the codes were made, + 1 */
    uint8_t bits[256]; /* of each literal in these codes */
} pk_klauspost_lazy;

struct pk_model;

void pk_klauspost_lazy_start(struct pk_model *model, uint32_t at);
pk_token pk_klauspost_lazy_predict(struct pk_model *model, uint32_t at);
void pk_klauspost_lazy_accept(struct pk_model *model, uint32_t at, pk_token predicted,
                              pk_token actual);

#endif
