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

enum {
    LONG_CHAIN = 256, /* positions; shorter chains are walked in less time than ranks take */
    SMALL_HASH = 11,  /* bits; in a smaller table most chains are long, whatever their limit */
    LONG_STRING = 8   /* bytes of the first rung's strings; chosen by measurement */
};

int pk_ranks_pay(const pk_rules *rules, unsigned hash_bits)
{
    if (rules->kind != PK_LAZY && rules->kind != PK_GO_LAZY)
        return 0; /* the others do not insert all positions */
    return rules->chain >= LONG_CHAIN || (rules->hash_bytes == 3 && hash_bits <= SMALL_HASH);
}

/* Return the bytes of a rung's strings: the longer ones first. */
static inline uint32_t rung_bytes(const pk_model *model, unsigned rung)
{
    return rung == 0 ? LONG_STRING : model->rules.hash_bytes + 1u;
}

/* Return a number for the next `bytes` bytes, 1..8. */
static inline uint64_t string_at(const uint8_t *at, unsigned bytes)
{
    return pk_load64(at) << (64 - 8 * bytes);
}

/* Insert positions into a rung; inlined, so that `bytes` is a constant. */
static inline void insert_rung(pk_rung *to, const pk_model *model, uint32_t at, uint32_t end,
                               unsigned bytes)
{
    const uint8_t *data = model->data;
    const uint32_t base = model->base + 1;
    for (; at < end; at++) {
        uint64_t mixed = string_at(data + at, bytes) * 0x9e3779b97f4a7c15u;
        uint32_t *head = &to->head[mixed >> (64 - PK_RUNG_BITS)];
        to->back[at & PK_RING_MASK] = pk_link(head, base + at);
    }
}

void pk_ranks_insert(pk_model *model, uint32_t from, uint32_t to)
{
    uint16_t *rank = model->rank;
    for (uint32_t at = from; at < to; at++) {
        uint32_t before = at - model->back[at & PK_RING_MASK];
        rank[at & PK_RING_MASK] = (uint16_t)(rank[before & PK_RING_MASK] + 1);
    }
    insert_rung(&model->rungs[0], model, from, to, LONG_STRING);
    if (model->rules.hash_bytes == 4)
        insert_rung(&model->rungs[1], model, from, to, 5);
    else
        insert_rung(&model->rungs[1], model, from, to, 4);
}

/* Return which of the `count` strings that begin at `at` and behind stands farthest back before.
 */
static inline uint32_t rarest(const uint16_t *back, uint32_t at, uint32_t count)
{
    uint32_t best = 0, farthest = 0;
    for (uint32_t shift = 0; shift < count; shift++) {
        uint16_t step = (uint16_t)(back[(at + shift) & PK_RING_MASK] - 1); /* 0, none: farthest */
        if (step >= farthest) {
            farthest = step;
            best = shift;
        }
    }
    return best;
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
 *     PK_TOO_MANY. */
static inline uint32_t search_rung(const pk_model *model, unsigned rung, uint32_t at,
                                   uint32_t length, uint32_t enough, const pk_reach *to,
                                   uint32_t *steps, uint32_t *distance)
{
    const uint8_t *data = model->data, *here = data + at;
    const uint16_t *back = model->rungs[rung].back;
    const uint32_t bytes = rung_bytes(model, rung);
    const uint32_t lowest = to->lowest < to->first_lowest ? to->lowest : to->first_lowest;
    uint32_t found = 0, nearest = at, there = at, step;
    uint32_t shift = rarest(back, at, length + 2 - bytes);
    while ((step = back[(there + shift) & PK_RING_MASK]) && step <= there - lowest) {
        there -= step;
        if (!--*steps)
            return PK_TOO_MANY;
        /* A longer match has the two bytes at the end of what would be longer. */
        if (there >= nearest || !pk_same_two(data + there + length - 1, here + length - 1))
            continue;
        uint32_t now = (uint32_t)pk_equal_ahead(data + there, here, to->most);
        if (now <= length)
            continue;
        if (!is_reached(model, at, there, to))
            break;
        length = found = now;
        *distance = at - there;
        if (length >= enough)
            break;
        /* Go on behind this position, in the chain of the string that is rarest now. */
        nearest = there;
        there = at;
        shift = rarest(back, at, length + 2 - bytes);
    }
    return found;
}

uint32_t pk_ranks_search(const pk_model *model, uint32_t at, uint32_t best, const pk_reach *to,
                         uint32_t *distance)
{
    uint32_t steps = to->chain, enough = to->nice;
    for (unsigned rung = 0; rung < PK_RUNGS; rung++) {
        const uint32_t bytes = rung_bytes(model, rung);
        const uint32_t length = best < bytes ? bytes - 1 : best;
        if (length < to->most) {
            uint32_t found = search_rung(model, rung, at, length, enough, to, &steps, distance);
            if (found || best >= bytes)
                return found; /* shorter strings lead to no longer match */
        }
        enough = bytes - 1; /* the rung above has no match, so there is none of its bytes */
    }
    return 0;
}
