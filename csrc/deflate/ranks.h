/* The short cut for long chains: finds what walking the encoder's chain would find. Internal to
 * the model; ranks.c states the algorithm. */
#ifndef PK_DEFLATE_RANKS_H
#define PK_DEFLATE_RANKS_H

#include "deflate/model.h"

/* How far an encoder's search goes. */
typedef struct pk_reach {
    uint32_t most;   /* greatest length of a match here, in bytes */
    uint32_t nice;   /* the search ends at a match this long */
    uint32_t chain;  /* positions that it looks at */
    uint32_t lowest; /* it looks at no position before this, */
    uint32_t
        first_lowest; /* except at the chain's first one, which may lie a little farther back */
} pk_reach;

/* Link a position to the one before in its chain, and make it the last one.
 *
 * head: of the position's hash. Returns how far back the one before is; more than a window if it
 *     is farther, as all from before the last start are. */
static inline uint16_t pk_link(uint16_t *head, uint32_t at)
{
    const uint16_t step = (uint16_t)(at - *head);
    *head = (uint16_t)at;
    return step;
}

enum { PK_ASKED = 5 }; /* strings that are asked how rare they are */

/* Return which of the strings that begin at `at` and behind, up to `most` bytes on, stands
 * farthest back before. Of many only some are asked: any of them leads to the match. Always as
 * many, of few some twice, as the processor would often guess wrong how many they are. */
static inline uint32_t pk_rarest(const uint16_t *back, uint32_t at, uint32_t most)
{
    uint32_t best = 0;
    if (!most)
        return 0;
    for (uint32_t turn = 0; turn < PK_ASKED; turn++) {
        const uint32_t shift = most * turn / (PK_ASKED - 1);
        uint16_t step = (uint16_t)(back[(at + shift) & PK_RING_MASK] - 1); /* 0, none: farthest */
        uint32_t key = (uint32_t)step << 16 | shift;
        best = key > best ? key : best;
    }
    return best & 0xffff;
}

/* Tell whether ranks pay for these rules: they cost two more chains, and save long walks. */
int pk_ranks_pay(const pk_rules *rules, unsigned hash_bits);

/* Give the positions from..to their ranks, and insert them into the rungs. They are the next ones,
 * and in the encoder's chains already. */
void pk_ranks_insert(pk_model *model, uint32_t from, uint32_t to);

/* What pk_ranks_search returns if it gave up. */
enum { PK_TOO_MANY = PK_MAX_MATCH + 1 };

/* Find the match that the encoder's walk would take, if it is longer than the shortest match.
 *
 * at: the position, with all before it, and the PK_MAX_MATCH behind, inserted.
 * best: length that a match must exceed.
 * to: how far the walk goes.
 * distance: set if there is a match.
 * Returns its length; 0 if no match is longer than both `best` and the shortest match; PK_TOO_MANY
 * if that is not cheaper than walking. */
uint32_t pk_ranks_search(const pk_model *model, uint32_t at, uint32_t best, const pk_reach *to,
                         uint32_t *distance);

#endif
