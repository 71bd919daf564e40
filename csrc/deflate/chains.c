/* Hash chains, and the searches of zlib and Go that walk them.
 *
 * Algorithm --------- Each position is inserted into the chain of the 3 or 4 bytes that begin
 * there: `head` has the last position of each hash, `back` the distance from each position to the
 * one before in its chain. A search walks from the position back through its chain, the nearest
 * first, compares the strings, and keeps the longest match, of equal ones the nearest. It ends
 * after `chain` positions, at its greatest distance, or at a match of `nice` bytes. All of these
 * limits decide which match is found, so the searches follow zlib's (deflate.c, longest_match) and
 * Go's (compress/flate, findMatch) to the position.
 *
 * Optimisations, and why each is exact
 * ------------------------------------
 * - Heads hold positions modulo 2^16: half the memory, of which the processor's cache holds most.
 *   A sweep of the table, before a window of positions goes by, moves entries that are farther
 *   back than a window, so that none of them looks near again.
 * - Lazy kinds insert every position sooner or later, so it does not matter when: the model
 *   inserts some hundred at once, chain by chain, without a search between them. A search follows
 *   only `back` of its own position and earlier ones, which later insertions do not change: `back`
 *   remembers two windows.
 * - Before a string is compared, its two bytes at the end of the best match are, in Go's manner
 *   four: a longer match has them.
 * - Text that is not compressible has hardly a match, and hardly a chain: four bytes of it stand
 *   once in a window. Where no position that a search looks at has the first bytes of the position
 *   searched, it finds nothing, whatever its other limits; a loop tells that for position after
 *   position.
 * - Once Go's walk has a match, a longer one has all strings of four bytes of the match. The chain
 *   of the rarest of them is followed, as in ranks.c, and the walk goes on to what it leads to. No
 *   ranks are kept for that: most chains end without a longer match, and the walk with them. Lazy
 *   kinds only, as each position must be in its chain.
 * - Long chains are not walked: see ranks.c. If that finds no match that is longer than the
 *   shortest, all that is left is whether there is a shortest one. So the walk stops at the
 *   first.
 */
#include "deflate/chains.h"

#include "common/bytes.h"
#include "deflate/match_length.h"
#include "deflate/ranks.h"

enum {
    ZLIB_REACH = PK_WINDOW - PK_MAX_MATCH - 3 - 1, /* bytes; zlib's greatest distance, 32506 */
    AHEAD = 512,          /* positions inserted beyond those needed: amortises the loops' start */
    NONE = PK_WINDOW + 1, /* how far back an entry is that counts as none */
    SWEEP_EVERY = PK_WINDOW - 2 * 512, /* positions; entries are never a whole 2^16 back then */
    FEW = 16, /* positions compared before a search is left to tell whether there is a match */
    /* Position in Go's buffer, of two windows, from which on it is moved by one: too little is
     * left behind it. */
    GO_MOVES_AT = PK_RING - (4 + PK_MAX_MATCH)
};

/* Return the hash of the next four bytes: the factor's product, of which the upper bits count. */
static inline uint32_t hash_four(const uint8_t *at, uint32_t factor)
{
    uint32_t string = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
    return string * factor >> (32 - PK_HASH_BITS);
}

/* Return zlib's hash of the next three bytes. */
static inline uint32_t hash_three(const uint8_t *at, unsigned bits, unsigned shift)
{
    uint32_t hash = (uint32_t)at[0] << 2 * shift ^ (uint32_t)at[1] << shift ^ at[2];
    return hash & ((1u << bits) - 1);
}

/* Return the first position that has too few bytes behind it to be hashed. */
static inline uint32_t hashed_end(const pk_model *model)
{
    return model->size < model->rules.hash_bytes ? 0 : model->size - model->rules.hash_bytes + 1;
}

/* Make entries that are farther than a window before `at` stay so until the next sweep. */
static void sweep(uint16_t *heads, size_t count, uint32_t at)
{
    const uint16_t before = (uint16_t)(at - 1), none = NONE - 1;
    for (size_t entry = 0; entry < count; entry++) {
        /* An entry that is a whole 2^16 back is far as well. */
        const uint16_t less = (uint16_t)(before - heads[entry]);
        heads[entry] = (uint16_t)(before - (less < none ? less : none));
    }
}

static void forget(uint16_t *heads, size_t count, uint32_t at)
{
    for (size_t entry = 0; entry < count; entry++)
        heads[entry] = (uint16_t)(at - NONE);
}

/* Make the heads fit for the positions from `at` up to model->swept + SWEEP_EVERY. */
static void freshen(pk_model *model, uint32_t at)
{
    void (*const work)(uint16_t *, size_t, uint32_t) = model->stale ? forget : sweep;
    const unsigned bits = model->rules.hash_bytes == 4 ? PK_HASH_BITS : model->hash_bits;
    if (!model->stale && at - model->swept < SWEEP_EVERY)
        return;
    work(model->last, (size_t)1 << bits, at);
    for (unsigned rung = 0; rung < PK_RUNGS && model->climbs; rung++)
        work(model->rungs[rung].head, 1 << PK_RUNG_BITS, at);
    model->stale = 0;
    model->swept = at;
}

/* Insert the positions from..to into the encoder's chains. */
static inline void link_all(pk_model *model, uint32_t at, uint32_t to)
{
    const uint8_t *data = model->data;
    uint16_t *head = model->last;
    if (model->rules.hash_bytes == 4) {
        const int go = model->rules.kind == PK_GO_FAST || model->rules.kind == PK_GO_LAZY;
        const uint32_t factor = go ? 0x1e35a7bdu : 0x9e3779b1u;
        for (; at < to; at++)
            model->back[at & PK_RING_MASK] = pk_link(&head[hash_four(data + at, factor)], at);
    } else {
        const unsigned bits = model->hash_bits, shift = (bits + 2) / 3;
        for (; at < to; at++)
            model->back[at & PK_RING_MASK] =
                pk_link(&head[hash_three(data + at, bits, shift)], at);
    }
}

/* Insert all positions before `end`, with their ranks if the model climbs. */
static inline void insert(pk_model *model, uint32_t end)
{
    const uint32_t last = hashed_end(model), to = end < last ? end : last;
    while (model->inserted < to) {
        const uint32_t from = model->inserted;
        freshen(model, from);
        const uint32_t most = model->swept + SWEEP_EVERY, stop = to < most ? to : most;
        link_all(model, from, stop);
        if (model->climbs)
            pk_ranks_insert(model, from, stop);
        model->inserted = stop;
    }
    if (model->inserted < end)
        model->inserted = end;
}

void pk_chains_insert(pk_model *model, uint32_t end)
{
    insert(model, end);
}

void pk_chains_insert_more(pk_model *model, uint32_t at)
{
    uint32_t to = hashed_end(model);
    if (model->inserted >= to)
        return;
    if (to > at + PK_MAX_MATCH + AHEAD)
        to = at + PK_MAX_MATCH + AHEAD;
    insert(model, to);
}

static inline uint32_t lesser(uint32_t one, uint32_t other)
{
    return one < other ? one : other;
}

/* Let a search look for a shortest match only: it ends at the first, and at the distance beyond
 * which one is not taken. */
static inline void seek_shortest(const pk_model *model, pk_reach *to, uint32_t at, uint32_t length)
{
    to->nice = length;
    if (model->rules.kind == PK_LAZY && length == 4)
        return; /* no distance is too far there */
    if (at > PK_TOO_FAR && to->lowest < at - PK_TOO_FAR)
        to->lowest = at - PK_TOO_FAR;
}

/* Walk the chain as zlib does; `first` is its first position, not before to->first_lowest. */
static uint32_t walk_zlib(const pk_model *model, uint32_t at, uint32_t first, uint32_t best,
                          const pk_reach *to, uint32_t *distance)
{
    const uint8_t *data = model->data, *here = data + at;
    uint32_t found = 0, there = first;
    for (uint32_t left = to->chain;;) {
        if (pk_same_two(data + there + best - 1, here + best - 1)) {
            uint32_t length = pk_match_length(data + there, here, to->most);
            if (length > best) {
                best = found = length;
                *distance = at - there;
                if (length >= to->nice)
                    break;
            }
        }
        uint32_t step = model->back[there & PK_RING_MASK];
        if (!step || there < to->lowest + step || !--left)
            break;
        there -= step;
    }
    return found;
}

static inline uint32_t search_zlib(const pk_model *model, uint32_t at, uint32_t best,
                                   uint32_t *distance)
{
    const pk_rules *rules = &model->rules;
    const uint32_t ahead = model->end - at, most = lesser(ahead, PK_MAX_MATCH);
    if (ahead < rules->hash_bytes || best >= most)
        return 0;
    /* The first position of a stream is never found: its number means "none" in zlib. Positions
     * behind the first one searched must be nearer by one. */
    pk_reach to = {most, lesser(rules->nice, most),
                   best >= rules->good ? rules->chain >> 2 : rules->chain, model->floor + 1,
                   model->floor + (model->origin + model->floor == 0)};
    if (at - model->floor > ZLIB_REACH) {
        to.lowest = at - ZLIB_REACH + 1;
        to.first_lowest = at - ZLIB_REACH;
    }
    const uint32_t step = model->back[at & PK_RING_MASK];
    if (!step || at < to.first_lowest + step)
        return 0;
    if (model->climbs) {
        uint32_t found = pk_ranks_search(model, at, best, &to, distance);
        if (found != PK_TOO_MANY && (found || best >= rules->hash_bytes))
            return found;
        if (!found)
            seek_shortest(model, &to, at, rules->hash_bytes);
    }
    return walk_zlib(model, at, at - step, best, &to, distance);
}

uint32_t pk_chains_search_zlib(const pk_model *model, uint32_t at, uint32_t best,
                               uint32_t *distance)
{
    return search_zlib(model, at, best, distance);
}

/* What find_longer returns if there is no such position, or if it gave up. */
enum { NOWHERE = INT32_MAX, UNKNOWN = NOWHERE - 1 };

/* Return the nearest position before `there` from which on more than `best` bytes are those at
 * `at`.
 *
 * there: `at`, or a position from which on `best` bytes are. best: 4 or more; less than to->most.
 */
static uint32_t find_longer(const pk_model *model, uint32_t at, uint32_t there, uint32_t best,
                            const pk_reach *to)
{
    const uint8_t *data = model->data, *here = data + at;
    const uint32_t last = best - 3, head = pk_load32(here), tail = pk_load32(here + last),
                   shift = pk_rarest(model->back, at, last);
    /* Both have the same strings but for the last one. */
    uint32_t from = shift == last ? at : there;
    for (uint32_t left = to->chain; left; left--) {
        const uint32_t step = model->back[(from + shift) & PK_RING_MASK];
        if ((uint16_t)(step - 1) >= from - to->lowest) /* 0, none, is farthest */
            return NOWHERE;
        from -= step;
        if (pk_load32(data + from + last) == tail && pk_load32(data + from) == head
            && pk_match_length(data + from, here, to->most) > best)
            return from;
    }
    return UNKNOWN;
}

/* Walk the chain as Go does. Once there is a match, find_longer looks for the next one, and the
 * chain only tells whether the walk would come to it. */
static uint32_t walk_go(const pk_model *model, uint32_t at, uint32_t best, const pk_reach *to,
                        uint32_t *distance)
{
    const uint8_t *data = model->data, *here = data + at;
    uint32_t found = 0, there = at, tail = pk_load32(here + best - 3), longer = UNKNOWN;
    if (model->seeks && best > 3 && (longer = find_longer(model, at, there, best, to)) == NOWHERE)
        return 0;
    for (uint32_t left = to->chain; left; left--) {
        uint32_t step = model->back[there & PK_RING_MASK];
        if (!step || there < to->lowest + step)
            break;
        there -= step;
        if (there > longer || pk_load32(data + there + best - 3) != tail)
            continue;
        uint32_t length = pk_match_length(data + there, here, to->most);
        if (length > best && (length > 4 || at - there <= PK_TOO_FAR)) {
            best = found = length;
            *distance = at - there;
            if (length >= to->nice)
                break;
            tail = pk_load32(here + best - 3);
            if (model->seeks && (longer = find_longer(model, at, there, best, to)) == NOWHERE)
                break;
        }
    }
    return found;
}

/* Return the first position that is still in Go's buffer when it searches at `at`. The buffer has
 * two windows, and moves on by one whenever little is left in it. */
static uint32_t go_buffer_start(const pk_model *model, uint32_t at)
{
    uint64_t position = model->origin + at;
    uint64_t moves = position > GO_MOVES_AT ? (position - GO_MOVES_AT - 1) / PK_WINDOW + 1 : 0;
    uint64_t start = moves * PK_WINDOW;
    return start > model->origin ? (uint32_t)(start - model->origin) : 0;
}

static inline uint32_t search_go(const pk_model *model, uint32_t at, uint32_t best,
                                 uint32_t *distance)
{
    const pk_rules *rules = &model->rules;
    const uint32_t ahead = model->end - at, most = lesser(ahead, PK_MAX_MATCH);
    if (ahead < 4)
        return 0;
    uint32_t lowest = go_buffer_start(model, at);
    if (lowest < model->floor)
        lowest = model->floor;
    if (at > PK_WINDOW && at - PK_WINDOW > lowest)
        lowest = at - PK_WINDOW;
    pk_reach to = {most, lesser(rules->nice, most), rules->chain, lowest, lowest};
    if (model->climbs) {
        uint32_t found = pk_ranks_search(model, at, best, &to, distance);
        if (found != PK_TOO_MANY && (found || best >= 4))
            return found;
        if (!found)
            seek_shortest(model, &to, at, 4);
    }
    return walk_go(model, at, best, &to, distance);
}

uint32_t pk_chains_search_go(const pk_model *model, uint32_t at, uint32_t best, uint32_t *distance)
{
    return search_go(model, at, best, distance);
}

uint32_t pk_chains_without_match(pk_model *model, uint32_t at, uint32_t most)
{
    const uint8_t *data = model->data;
    const int zlib = model->rules.kind == PK_LAZY, all = model->rules.chain <= FEW;
    const uint32_t farthest = zlib ? ZLIB_REACH : PK_WINDOW, bytes = zlib ? 0xffffff : UINT32_MAX,
                   looks = all ? model->rules.chain : FEW, end = at + most, start = at;
    while (at < end) {
        pk_chains_insert_ahead(model, at);
        const uint32_t stop = lesser(end, model->inserted);
        for (; at < stop; at++) {
            const uint32_t string = pk_load32(data + at),
                           reach = lesser(at - model->floor, farthest);
            uint32_t far = 0, left = looks;
            for (; left; left--) {
                const uint32_t step = model->back[(at - far) & PK_RING_MASK];
                if (step - 1 >= reach - far) /* 0, none, is farthest */
                    break;
                far += step;
                if (!((pk_load32(data + at - far) ^ string) & bytes))
                    return at - start;
            }
            if (!left && !all)
                return at - start;
        }
    }
    return at - start;
}

uint32_t pk_chains_enter_and_search(pk_model *model, uint32_t at, uint32_t *distance)
{
    insert(model, at + 1);
    return model->rules.kind == PK_FAST ? search_zlib(model, at, 2, distance)
                                        : search_go(model, at, 3, distance);
}
