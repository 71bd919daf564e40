#include "deflate/model.h"

#include <stddef.h>
#include <string.h>

enum {
    MASK = 2 * PK_WINDOW - 1,
    REACH = PK_WINDOW - PK_MAX_MATCH - 3 - 1, /* zlib's greatest distance, 32506 */
    TOO_FAR = 4096,                           /* shortest matches from farther are not worth it */
    LONG_CHAIN = 256, /* chains of so many steps are not walked, but climbed */
    SMALL_HASH = 11,  /* nor are those of a hash of so few bits, that most strings share */
    AHEAD = 512,      /* positions put into the chains at once */
    GO_SHIFT_AT = 2 * PK_WINDOW - (4 + PK_MAX_MATCH)
};

/* zlib's levels 1 to 9 (deflate.c, configuration_table), the same with a hash of four bytes as in its
 * forks, Go's levels 2 to 9 (compress/flate), encoders without a table, Go's level 1. */
const pk_rules pk_rule_table[] = {
    {PK_NONE, 3, 0, 0, 0, 0},
    {PK_FAST, 3, 4, 4, 8, 4},
    {PK_FAST, 3, 4, 5, 16, 8},
    {PK_FAST, 3, 4, 6, 32, 32},
    {PK_LAZY, 3, 4, 4, 16, 16},
    {PK_LAZY, 3, 8, 16, 32, 32},
    {PK_LAZY, 3, 8, 16, 128, 128},
    {PK_LAZY, 3, 8, 32, 128, 256},
    {PK_LAZY, 3, 32, 128, 258, 1024},
    {PK_LAZY, 3, 32, 258, 258, 4096},
    {PK_FAST, 4, 4, 4, 8, 4},
    {PK_FAST, 4, 4, 5, 16, 8},
    {PK_FAST, 4, 4, 6, 32, 32},
    {PK_LAZY, 4, 4, 4, 16, 16},
    {PK_LAZY, 4, 8, 16, 32, 32},
    {PK_LAZY, 4, 8, 16, 128, 128},
    {PK_LAZY, 4, 8, 32, 128, 256},
    {PK_LAZY, 4, 32, 128, 258, 1024},
    {PK_LAZY, 4, 32, 258, 258, 4096},
    {PK_GO_FAST, 4, 4, 5, 16, 8},
    {PK_GO_FAST, 4, 4, 6, 32, 32},
    {PK_GO_LAZY, 4, 4, 4, 16, 16},
    {PK_GO_LAZY, 4, 8, 16, 32, 32},
    {PK_GO_LAZY, 4, 8, 16, 128, 128},
    {PK_GO_LAZY, 4, 8, 32, 128, 256},
    {PK_GO_LAZY, 4, 32, 128, 258, 1024},
    {PK_GO_LAZY, 4, 32, 258, 258, 4096},
    {PK_RUNS, 3, 0, 0, 258, 0},
    {PK_GO_SPEED, 4, 0, 0, 258, 1},
};
const unsigned pk_rule_count = sizeof pk_rule_table / sizeof *pk_rule_table;

static inline uint32_t load32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* A number for the next `bytes` bytes. */
static inline uint64_t string_at(const uint8_t *at, unsigned bytes)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return value >> (64 - 8 * bytes);
#else
    return value << (64 - 8 * bytes);
#endif
}

static inline uint16_t load16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint32_t hash_four(const uint8_t *data, uint32_t multiplier)
{
    return load32(data) * multiplier >> (32 - PK_HASH_BITS);
}

static inline uint32_t hash_three(const uint8_t *data, unsigned bits, unsigned shift)
{
    uint32_t hash = (uint32_t)data[0] << 2 * shift ^ (uint32_t)data[1] << shift ^ data[2];
    return hash & ((1u << bits) - 1);
}

/* Make a position the last one of its hash; returns how far back the one before is. Those of older starts are
 * farther than a window. */
static inline uint16_t chained(uint32_t *head, uint32_t entry)
{
    uint32_t step = entry - *head;
    *head = entry;
    /* A mask, as a branch would often be mispredicted. */
    return (uint16_t)(step & (uint32_t)-(int32_t)(step <= PK_WINDOW));
}

/* Bytes of the rungs' strings, the longer ones first: chosen by measurement. The shortest match, of as many
 * bytes as are hashed, is found in the encoder's chain. */
static inline uint32_t rung_bytes(const pk_model *model, unsigned rung)
{
    return rung == 0 ? 8 : model->rules.hash_bytes + 1u;
}

static inline void insert_rung(pk_rung *to, const pk_model *model, uint32_t at, uint32_t end,
                               unsigned bytes)
{
    const uint8_t *data = model->data;
    const uint32_t base = model->base + 1;
    for (; at < end; at++) {
        uint32_t hash =
            (uint32_t)(string_at(data + at, bytes) * 0x9e3779b97f4a7c15u >> (64 - PK_RUNG_BITS));
        to->back[at & MASK] = chained(&to->head[hash], base + at);
    }
}

/* Positions before this have enough bytes behind them to be in a chain. */
static inline uint32_t last_of(const pk_model *model)
{
    return model->size < model->rules.hash_bytes ? 0 : model->size - model->rules.hash_bytes + 1;
}

/* Insert all positions before `end`. */
static inline void insert_before(pk_model *model, uint32_t end)
{
    uint32_t last = last_of(model), to = end < last ? end : last;
    const uint32_t base = model->base + 1;
    const uint8_t *data = model->data;
    uint32_t at = model->inserted;
    if (model->rules.hash_bytes == 4) {
        const uint32_t multiplier =
            model->rules.kind == PK_GO_FAST || model->rules.kind == PK_GO_LAZY ? 0x1e35a7bdu
                                                                               : 0x9e3779b1u;
        for (; at < to; at++)
            model->back[at & MASK] =
                chained(&model->head[hash_four(data + at, multiplier)], base + at);
    } else {
        const unsigned bits = model->hash_bits, shift = (bits + 2) / 3;
        for (; at < to; at++)
            model->back[at & MASK] =
                chained(&model->head[hash_three(data + at, bits, shift)], base + at);
    }
    if (model->inserted < end)
        model->inserted = end;
}

/* Where every position is inserted it does not matter when: insert all that a search at `at` looks at, and
 * some more, chain by chain. */
static void insert_ahead(pk_model *model, uint32_t at)
{
    uint32_t from = model->inserted, to = last_of(model);
    if (at + PK_MAX_MATCH < from || from >= to)
        return;
    if (to > at + PK_MAX_MATCH + AHEAD)
        to = at + PK_MAX_MATCH + AHEAD;
    insert_before(model, to);
    if (!model->climbs)
        return;
    for (at = from; at < to; at++)
        model->rank[at & MASK] = (uint16_t)(model->rank[(at - model->back[at & MASK]) & MASK] + 1);
    insert_rung(&model->rungs[0], model, from, to, 8);
    if (model->rules.hash_bytes == 4)
        insert_rung(&model->rungs[1], model, from, to, 5);
    else
        insert_rung(&model->rungs[1], model, from, to, 4);
}

static inline uint32_t match_length(const uint8_t *one, const uint8_t *other, uint32_t most)
{
    uint32_t length = 0;
    while (length + 8 <= most) {
        uint64_t left, right;
        memcpy(&left, one + length, 8);
        memcpy(&right, other + length, 8);
        if (left != right) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
            return length + (uint32_t)(__builtin_clzll(left ^ right) >> 3);
#else
            return length + (uint32_t)(__builtin_ctzll(left ^ right) >> 3);
#endif
        }
        length += 8;
    }
    while (length < most && one[length] == other[length])
        length++;
    return length;
}

/* How far a search goes. */
typedef struct reach {
    uint32_t most, nice, chain;
    uint32_t lowest, first_lowest; /* the chain's first position may lie a little farther back */
} reach;

enum { TOO_MANY = PK_MAX_MATCH + 1 };

/* Which of the strings from `at` on, so many of them, is met last when one goes back. */
static inline uint32_t rarest(const uint16_t *back, uint32_t at, uint32_t count)
{
    uint32_t best = 0, farthest = 0;
    for (uint32_t shift = 0; shift < count; shift++) {
        uint16_t step = (uint16_t)(back[(at + shift) & MASK] - 1); /* 0: never */
        if (step >= farthest) {
            farthest = step;
            best = shift;
        }
    }
    return best;
}

/* A match longer than the shortest, found without walking the encoder's chain. It would walk it, the nearest
 * position first, for so many steps, and take the longest match. A position's rank tells at once whether the
 * walk comes to it, and if not, it comes to none behind it. So the match is looked for among the positions
 * that share a longer string; and once there is one, among those that share a string of what would be longer:
 * these are few.
 *
 * Returns the length, 0 if there is none that is longer than `best`, or TOO_MANY: the chain must be walked. */
static uint32_t climb(const pk_model *model, uint32_t at, uint32_t best, const reach *to,
                      uint32_t *distance)
{
    const uint8_t *data = model->data, *here = data + at;
    const uint32_t lowest = to->lowest < to->first_lowest ? to->lowest : to->first_lowest;
    uint32_t steps = to->chain;
    for (unsigned rung = 0; rung < PK_RUNGS; rung++) {
        const uint32_t bytes = rung_bytes(model, rung);
        const uint16_t *back = model->rungs[rung].back;
        const uint32_t enough = rung ? rung_bytes(model, rung - 1) - 1 : to->nice;
        uint32_t length = best < bytes ? bytes - 1 : best, found = 0, nearest = at, there = at,
                 step;
        if (length >= to->most)
            continue;
        uint32_t shift =
            rarest(back, at, length + 2 - bytes); /* of those that a longer match has */
        while ((step = back[(there + shift) & MASK]) && step <= there - lowest) {
            there -= step;
            if (!--steps)
                return TOO_MANY;
            if (there >= nearest || load16(data + there + length - 1) != load16(here + length - 1))
                continue;
            uint32_t now = match_length(data + there, here, to->most);
            if (now <= length)
                continue;
            uint32_t rank = (uint16_t)(model->rank[at & MASK] - model->rank[there & MASK]);
            if (rank > to->chain
                || !(there >= to->lowest || (rank == 1 && there >= to->first_lowest)))
                break;
            length = found = now;
            *distance = at - there;
            if (length >= enough)
                break;
            nearest = there;
            there = at;
            shift = rarest(back, at, length + 2 - bytes);
        }
        if (found || best >= bytes)
            return found;
    }
    return 0;
}

/* There is no longer match: the nearest will do, and none from farther away than it is worth. */
static inline void only_shortest(const pk_model *model, reach *to, uint32_t at, uint32_t length)
{
    to->nice = length;
    if (model->rules.kind == PK_LAZY && length == 4)
        return; /* no distance is too far there */
    if (at > TOO_FAR && to->lowest < at - TOO_FAR)
        to->lowest = at - TOO_FAR;
}

/* The best match at `at` longer than `best`, in the manner of zlib: 0 if there is none. */
static uint32_t search_zlib(const pk_model *model, uint32_t at, uint32_t best, uint32_t *distance)
{
    const pk_rules *rules = &model->rules;
    uint32_t ahead = model->end - at;
    uint32_t most = ahead < PK_MAX_MATCH ? ahead : PK_MAX_MATCH;
    if (ahead < rules->hash_bytes || best >= most)
        return 0;
    /* The first position of a stream is never found: its number means "none" there. Positions behind the
     * first one searched must be nearer by one. */
    reach to = {most, rules->nice < most ? rules->nice : most,
                best >= rules->good ? rules->chain >> 2 : rules->chain, model->floor + 1,
                model->floor + (model->origin + model->floor == 0)};
    if (at - model->floor > REACH) {
        to.lowest = at - REACH + 1;
        to.first_lowest = at - REACH;
    }
    uint32_t step = model->back[at & MASK];
    if (!step || step > at - to.first_lowest)
        return 0;
    if (model->climbs) {
        uint32_t found = climb(model, at, best, &to, distance);
        if (found != TOO_MANY && (found || best >= rules->hash_bytes))
            return found;
        if (!found)
            only_shortest(model, &to, at, rules->hash_bytes);
    }
    const uint8_t *data = model->data, *here = data + at;
    uint32_t found = 0, there = at - step;
    uint16_t tail = load16(here + best - 1);
    for (uint32_t left = to.chain;;) {
        if (load16(data + there + best - 1) == tail) {
            uint32_t length = match_length(data + there, here, most);
            if (length > best) {
                best = found = length;
                *distance = at - there;
                if (length >= to.nice)
                    break;
                tail = load16(here + best - 1);
            }
        }
        step = model->back[there & MASK];
        if (!step || there < to.lowest + step || !--left)
            break;
        there -= step;
    }
    return found;
}

/* The same in the manner of Go: chains reach a full window back, but not before the buffer's start. */
static uint32_t search_go(const pk_model *model, uint32_t at, uint32_t *distance)
{
    const pk_rules *rules = &model->rules;
    uint32_t ahead = model->end - at;
    uint32_t most = ahead < PK_MAX_MATCH ? ahead : PK_MAX_MATCH;
    uint32_t best = 3, found = 0;
    if (ahead < 4)
        return 0;
    /* The buffer moves on by a window whenever little is left in it. */
    uint64_t position = model->origin + at;
    uint64_t buffer = position > GO_SHIFT_AT ? (position - GO_SHIFT_AT - 1) / PK_WINDOW + 1 : 0;
    uint64_t start = buffer * PK_WINDOW;
    uint32_t lowest = start > model->origin ? (uint32_t)(start - model->origin) : 0;
    if (lowest < model->floor)
        lowest = model->floor;
    if (at > PK_WINDOW && at - PK_WINDOW > lowest)
        lowest = at - PK_WINDOW;
    reach to = {most, rules->nice < most ? rules->nice : most, rules->chain, lowest, lowest};
    if (model->climbs) {
        found = climb(model, at, best, &to, distance);
        if (found && found != TOO_MANY)
            return found;
        if (!found)
            only_shortest(model, &to, at, 4);
        found = 0;
    }
    const uint8_t *data = model->data, *here = data + at;
    uint32_t there = at, step;
    for (uint32_t tries = to.chain; tries; tries--) {
        step = model->back[there & MASK];
        if (!step || there < to.lowest + step)
            break;
        there -= step;
        if (data[there + best] == here[best]) {
            uint32_t length = match_length(data + there, here, most);
            if (length > best && (length > 4 || at - there <= TOO_FAR)) {
                best = found = length;
                *distance = at - there;
                if (length >= to.nice)
                    break;
            }
        }
    }
    return found;
}

void pk_model_clear(pk_model *model)
{
    const size_t heads = model->heads_used, backs = model->backs_used;
    memset(model->head, 0, heads * sizeof *model->head);
    memset(model->back, 0, backs * sizeof *model->back);
    memset(model->rank, 0, backs * sizeof *model->rank);
    for (unsigned rung = 0; rung < PK_RUNGS && model->rungs_used; rung++) {
        memset(model->rungs[rung].head, 0, sizeof model->rungs[rung].head);
        memset(model->rungs[rung].back, 0, backs * sizeof *model->rungs[rung].back);
    }
    memset(model, 0, offsetof(pk_model, head));
}

/* Note which parts of the tables the rules will write to: a short segment's are a tenth of them. */
static void note_use(pk_model *model)
{
    const uint32_t heads = 1u << (model->rules.hash_bytes == 4 ? PK_HASH_BITS : model->hash_bits);
    const uint32_t backs = model->size < MASK + 1 ? model->size : MASK + 1;
    model->heads_used = heads > model->heads_used ? heads : model->heads_used;
    model->backs_used = backs > model->backs_used ? backs : model->backs_used;
    model->rungs_used |= model->climbs;
}

void pk_model_start(pk_model *model, const pk_rules *rules, unsigned hash_bits,
                    const uint8_t *data, uint32_t start, uint32_t size, uint64_t origin,
                    uint32_t follow)
{
    model->rules = *rules;
    model->hash_bits = hash_bits;
    model->climbs =
        (rules->kind == PK_LAZY || rules->kind == PK_GO_LAZY)
        && (rules->chain >= LONG_CHAIN || (rules->hash_bytes == 3 && hash_bits <= SMALL_HASH));
    model->data = data;
    model->size = model->end = size;
    model->origin = origin;
    note_use(model);
    const uint32_t reach = follow > PK_WINDOW ? follow : PK_WINDOW;
    model->follow = follow;
    model->floor = start > reach ? start - reach : 0;
    pk_model_restart(model, start);
    model->follow =
        follow ? PK_WINDOW
               : 0; /* a recipe can have many restarts, each in a few bytes: they stay cheap */
}

void pk_model_restart(pk_model *model, uint32_t at)
{
    /* Clearing the table would cost more than a short segment does. */
    if (model->base > UINT32_MAX / 2) {
        memset(model->head, 0, sizeof model->head);
        for (unsigned rung = 0; rung < PK_RUNGS; rung++)
            memset(model->rungs[rung].head, 0, sizeof model->rungs[rung].head);
        model->base = PK_WINDOW;
    } else {
        model->base +=
            model->used + 1 + PK_WINDOW; /* more than a window behind the last start's positions */
    }
    model->used = model->size;
    model->searched = 0;
    const int fast =
        model->follow && (model->rules.kind == PK_FAST || model->rules.kind == PK_GO_FAST);
    const uint32_t window = fast ? model->follow : PK_WINDOW;
    model->inserted = at - model->floor > window ? at - window : model->floor;
    if (model->rules.kind == PK_GO_SPEED)
        pk_speed_start(model, at);
    if (fast) {
        /* These do not insert everything: what they would have done with the window tells what. */
        uint32_t position = model->inserted;
        int entered = 1; /* the last token's bytes did */
        while (position < at) {
            pk_token token = pk_model_predict(model, position);
            pk_model_accept(model, position, token, token);
            position += token >> 16 ? token >> 16 : 1;
            entered = token >> 16 <= model->rules.lazy;
        }
        /* What is inserted twice would be found at distance 0. */
        if (model->inserted < at)
            model->inserted = at;
        /* A long match may have gone on behind `at`: there is no chain where it did. */
        for (position = at; position < model->inserted && !entered; position++)
            model->back[position & MASK] = 0;
    }
}

void pk_model_see(pk_model *model, uint32_t end)
{
    model->end = end;
}

static void search(pk_model *model, uint32_t at, uint32_t before)
{
    const pk_rules *rules = &model->rules;
    insert_ahead(model, at);
    model->length = 0;
    if (at >= model->end)
        return;
    if (rules->kind == PK_LAZY) {
        if (before < rules->lazy)
            model->length = search_zlib(model, at, before > 2 ? before : 2, &model->distance);
        if (model->length == 3 && model->distance > TOO_FAR)
            model->length = 0;
    } else if (before < rules->lazy && model->end - at > before) {
        model->length = search_go(model, at, &model->distance);
    }
}

static inline pk_token literal_at(const pk_model *model, uint32_t at)
{
    return model->data[at];
}

pk_token pk_model_predict(pk_model *model, uint32_t at)
{
    uint32_t length, distance = 0;
    switch (model->rules.kind) {
    case PK_LAZY:
    case PK_GO_LAZY:
        if (!model->searched)
            search(model, at, model->rules.kind == PK_LAZY ? 2 : 3);
        length = model->length;
        distance = model->distance;
        search(model, at + 1, length ? length : model->rules.kind == PK_LAZY ? 2 : 3);
        if (length && model->length <= length)
            return length << 16 | distance;
        break;
    case PK_FAST:
    case PK_GO_FAST:
        insert_before(model, at + 1);
        length = model->rules.kind == PK_FAST ? search_zlib(model, at, 2, &distance)
                                              : search_go(model, at, &distance);
        if (length)
            return length << 16 | distance;
        break;
    case PK_GO_SPEED:
        return pk_speed_predict(model, at);
    case PK_RUNS:
        if (at) {
            uint32_t ahead = model->end - at;
            length = match_length(model->data + at - 1, model->data + at,
                                  ahead < PK_MAX_MATCH ? ahead : PK_MAX_MATCH);
            if (length >= 3)
                return length << 16 | 1;
        }
        break;
    default:
        break;
    }
    return literal_at(model, at);
}

void pk_model_accept(pk_model *model, uint32_t at, pk_token predicted, pk_token actual)
{
    uint32_t length = actual >> 16;
    switch (model->rules.kind) {
    case PK_LAZY:
    case PK_GO_LAZY:
        /* A literal leaves behind the search at the next position; a match does not, and a literal
         * against the prediction was none that this search would explain. */
        model->searched = !length && predicted == actual;
        break;
    case PK_FAST:
    case PK_GO_FAST:
        if (!length)
            break;
        if (length <= model->rules.lazy)
            insert_before(model, at + length);
        else
            model->inserted = at + length;
        break;
    case PK_GO_SPEED:
        pk_speed_accept(model, at, predicted, actual);
        break;
    default:
        break;
    }
}
