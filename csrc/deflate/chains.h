/* Hash chains, and the searches of zlib and Go that walk them. Internal to the model; chains.c
 * states the algorithm. */
#ifndef PK_DEFLATE_CHAINS_H
#define PK_DEFLATE_CHAINS_H

#include "deflate/model.h"

enum {
    PK_TOO_FAR = 4096
}; /* bytes; a shortest match from farther costs more bits than it saves */

/* Insert all positions before `end` that are not yet inserted. Positions without enough bytes
 * behind them to be hashed are passed over. */
void pk_chains_insert(pk_model *model, uint32_t end);

/* As pk_chains_insert_ahead, which calls it when positions are missing. */
void pk_chains_insert_more(pk_model *model, uint32_t at);

/* Insert all positions that a search at `at` looks at, and some more, with their ranks if the
 * model climbs. For kinds that insert every position. */
static inline void pk_chains_insert_ahead(pk_model *model, uint32_t at)
{
    if (at + PK_MAX_MATCH >= model->inserted)
        pk_chains_insert_more(model, at);
}

/* Find the match that zlib takes at `at`.
 *
 * at: inserted, with all positions before it.
 * best: length that a match must exceed, 2 or more.
 * distance: set if there is a match.
 * Returns its length, 0 if there is none. */
uint32_t pk_chains_search_zlib(const pk_model *model, uint32_t at, uint32_t best,
                               uint32_t *distance);

/* Find the match that Go takes at `at`: chains reach a full window back, but not before the start
 * of Go's buffer. Arguments and result as for zlib; `best` is 3 or more, and less than what ends a
 * search. (Go looks for the longest match of any length, and compares it with `best` then.) */
uint32_t pk_chains_search_go(const pk_model *model, uint32_t at, uint32_t best,
                             uint32_t *distance);

/* Count positions from `at` on, at most `most`, at which a search for any match finds none. The
 * count ends where there may be one: only the search itself tells. For lazy kinds, and text that
 * is not compressible.
 *
 * most: four bytes from each of the positions on lie within the encoder's input. */
uint32_t pk_chains_without_match(pk_model *model, uint32_t at, uint32_t most);

/* Insert `at`, and find the match that a fast kind takes there, zlib's or Go's: one call for what
 * the fast kinds do at each token. Result as above. */
uint32_t pk_chains_enter_and_search(pk_model *model, uint32_t at, uint32_t *distance);

#endif
