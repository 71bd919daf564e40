/* The short cut for long chains.
 *
 * At its highest levels an encoder walks a chain of up to 4096 positions for every byte, most of
 * which share three bytes with the position searched and nothing more. The model has to find the
 * same match, but need not look at the same positions.
 *
 * Algorithm --------- The encoder's walk looks at the positions of one chain, the nearest first,
 * takes the longest match, of equal ones the nearest, and stops after `chain` positions, at a
 * distance, or at a match of `nice` bytes. Three things replace it:
 *
 * - Ranks. Each position has its number within its chain. Two positions of one chain are as many
 * steps
 *   apart as their ranks differ, so one subtraction tells whether the walk would have come to a
 *   position.
 * - Rungs. Besides the encoder's chains, of 3 or 4 bytes, there are two sets of chains of longer
 * strings:
 *   of 8 bytes, and of one byte more than the encoder hashes. A match of 8 bytes or more stands in
 *   the first, another one that is longer than the shortest in the second. These chains are short.
 *   They are climbed down from the long strings to the short ones: if the first rung has a match,
 *   the second cannot have a longer one.
 * - The rarest string. Once a match of L bytes is found, a longer one shares all L + 1 - n + 1
 * strings of
 *   n bytes among the next L + 1 bytes, and any of their chains leads to it, at the same distance.
 *   The search goes on along the one whose next position is farthest back.
 *
 * Why it is exact --------------- A match longer than the shortest shares the bytes that the
 * encoder hashes, so its position is in the chain that the encoder walks. A rung has all positions
 * with a string, nearest first (others with the same hash only cost time: each candidate is
 * compared in full). So candidates come in the order in which the walk would meet them, and none
 * is left out that could be taken. The first one that the walk would not reach ends the search:
 * those behind it are farther still. Ranks are kept modulo 2^16, which is exact, as a chain has at
 * most 32768 positions in a window. Matches of the shortest length are left to the walk, which
 * then may stop at the first one (chains.c).
 *
 * The search gives up after as many positions as the walk would look at. csrc/tests/test_model.c
 * compares both, for every rule that has ranks.
 */
#include "deflate/ranks.h"

#include "common/bytes.h"
#include "deflate/match_length.h"

enum {
    /* Positions; shorter chains are walked in less time than ranks take. Those of three bytes hold
     * more that is not longer than the shortest match. */
    LONG_CHAIN = 256,
    LONG_CHAIN_OF_THREE = 128,
    SMALL_HASH = 11, /* bits; in a smaller table most chains are long, whatever their limit */
    LONG_STRING = 8  /* bytes of the first rung's strings; chosen by measurement */
};

int pk_ranks_pay(const pk_rules *rules, unsigned hash_bits)
{
    if (rules->kind != PK_LAZY && rules->kind != PK_GO_LAZY)
        return 0; /* the others do not insert all positions */
    if (rules->hash_bytes == 3)
        return rules->chain >= LONG_CHAIN_OF_THREE || hash_bits <= SMALL_HASH;
    return rules->chain >= LONG_CHAIN;
}

static inline void insert_into(pk_rung *to, uint32_t at, uint64_t string)
{
    const uint64_t mixed = string * 0x9e3779b97f4a7c15u;
    to->back[at & PK_RING_MASK] = pk_link(&to->head[mixed >> (64 - PK_RUNG_BITS)], at);
}

/* Inlined, so that `bytes`, the second rung's, is a constant. */
static inline void insert_all(pk_model *model, uint32_t from, uint32_t to, unsigned bytes)
{
    const uint8_t *data = model->data;
    const uint16_t *back = model->back;
    uint16_t *rank = model->rank;
    pk_rung *rungs = model->rungs;
    for (uint32_t at = from; at < to; at++) {
        const uint64_t string = pk_load64(data + at);
        const uint32_t before = at - back[at & PK_RING_MASK];
        insert_into(&rungs[0], at, string);
        insert_into(&rungs[1], at, string << (64 - 8 * bytes));
        rank[at & PK_RING_MASK] = (uint16_t)(rank[before & PK_RING_MASK] + 1);
    }
}

void pk_ranks_insert(pk_model *model, uint32_t from, uint32_t to)
{
    if (model->rules.hash_bytes == 4)
        insert_all(model, from, to, 5);
    else
        insert_all(model, from, to, 4);
}

/* Tell whether the encoder's walk from `at` comes to `there`, a position of the same chain. */
static inline int is_reached(const pk_model *model, uint32_t at, uint32_t there,
                             const pk_reach *to)
{
    uint32_t rank = (uint16_t)(model->rank[at & PK_RING_MASK] - model->rank[there & PK_RING_MASK]);
    return rank <= to->chain && (there >= to->lowest || (rank == 1 && there >= to->first_lowest));
}

/* Find the walk's match longer than `length` bytes among the positions of one rung.
 *
 * length: at least the rung's bytes less one. enough: a match this long ends the search. steps:
 *     positions that may be looked at before giving up; counted down. Returns the length, 0 or
 *     PK_TOO_MANY. Inlined, so that `bytes`, the rung's, is a constant. */
static inline uint32_t search_rung(const pk_model *model, const uint16_t *back, uint32_t bytes,
                                   uint32_t at, uint32_t length, uint32_t enough,
                                   const pk_reach *to, uint32_t *steps, uint32_t *distance)
{
    const uint8_t *data = model->data, *here = data + at;
    const uint32_t lowest = to->lowest < to->first_lowest ? to->lowest : to->first_lowest;
    const unsigned unused = 64 - 8 * bytes;
    const uint64_t head = pk_load64(here);
    uint32_t found = 0, there = at, nearest = at, last = length + 1 - bytes;
    uint32_t shift = pk_rarest(back, at, last);
    uint64_t tail = pk_load64(here + last);
    for (;;) {
        uint32_t step = back[(there + shift) & PK_RING_MASK];
        /* 0, none, is farthest. */
        if ((uint16_t)(step - 1) >= there - lowest)
            break;
        there -= step;
        if (!--*steps)
            return PK_TOO_MANY;
        /* A longer match has the first bytes, and those at the end of what would be longer. The
         * chain followed has one of them only. */
        const uint64_t differ =
            (pk_load64(data + there) ^ head) | (pk_load64(data + there + last) ^ tail);
        if (differ << unused || there >= nearest)
            continue;
        uint32_t now = pk_match_length(data + there, here, to->most);
        if (now <= length)
            continue;
        if (!is_reached(model, at, there, to))
            break;
        length = found = now;
        *distance = at - there;
        if (length >= enough)
            break;
        /* Go on behind this position. It has the same strings but for the last one, whose chain
         * is followed from the start. */
        nearest = there;
        last = length + 1 - bytes;
        shift = pk_rarest(back, at, last);
        if (shift == last)
            there = at;
        tail = pk_load64(here + last);
    }
    return found;
}

uint32_t pk_ranks_search(const pk_model *model, uint32_t at, uint32_t best, const pk_reach *to,
                         uint32_t *distance)
{
    uint32_t steps = to->chain, enough = to->nice, length = best, found;
    if (length < LONG_STRING)
        length = LONG_STRING - 1;
    if (length < to->most) {
        found = search_rung(model, model->rungs[0].back, LONG_STRING, at, length, enough, to,
                            &steps, distance);
        if (found || best >= LONG_STRING)
            return found; /* shorter strings lead to no longer match */
    }
    const uint32_t bytes = model->rules.hash_bytes + 1u;
    length = best < bytes ? bytes - 1 : best;
    if (length >= to->most)
        return 0;
    /* The rung above has no match, so there is none of its bytes. */
    enough = LONG_STRING - 1;
    const uint16_t *back = model->rungs[1].back;
    return bytes == 5 ? search_rung(model, back, 5, at, length, enough, to, &steps, distance)
                      : search_rung(model, back, 4, at, length, enough, to, &steps, distance);
}
