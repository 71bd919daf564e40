#include "pk_match.h"

#include <string.h>

enum {
    MASK = PK_WINDOW - 1,
    REACH = PK_WINDOW - PK_MAX_MATCH - 3 - 1, /* zlib's greatest distance, 32506 */
    TOO_FAR = 4096,                           /* shortest matches from farther are not worth it */
    GO_SHIFT_AT = 2 * PK_WINDOW - (4 + PK_MAX_MATCH)
};

/* zlib's levels 1 to 9 (deflate.c, configuration_table), the same with a hash of four bytes as in its
 * forks, Go's levels 2 to 9 (compress/flate), and encoders without a table. */
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
};
const unsigned pk_rule_count = sizeof pk_rule_table / sizeof *pk_rule_table;

static inline uint32_t load32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline uint16_t load16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint32_t hash_at(const pk_model *model, uint32_t at)
{
    const uint8_t *data = model->data + at;
    if (model->rules.kind == PK_GO_FAST || model->rules.kind == PK_GO_LAZY)
        return load32(data) * 0x1e35a7bdu >> (32 - PK_HASH_BITS);
    if (model->rules.hash_bytes == 4)
        return load32(data) * 0x9e3779b1u >> (32 - PK_HASH_BITS);
    unsigned shift = (model->hash_bits + 2) / 3;
    uint32_t hash = (uint32_t)data[0] << 2 * shift ^ (uint32_t)data[1] << shift ^ data[2];
    return hash & ((1u << model->hash_bits) - 1);
}

static inline void insert(pk_model *model, uint32_t at)
{
    uint32_t hash = hash_at(model, at);
    model->previous[at & MASK] = model->head[hash];
    model->head[hash] = model->base + at + 1;
}

/* Insert all positions before `end` that have enough bytes behind them. */
static inline void insert_before(pk_model *model, uint32_t end)
{
    uint32_t limit = model->size < model->rules.hash_bytes ? 0 : model->size - model->rules.hash_bytes + 1;
    uint32_t to = end < limit ? end : limit;
    for (uint32_t at = model->inserted; at < to; at++)
        insert(model, at);
    if (model->inserted < end)
        model->inserted = end;
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

/* The best match at `at` longer than `best`, in the manner of zlib: 0 if there is none. */
static uint32_t search_zlib(pk_model *model, uint32_t at, uint32_t best, uint32_t *distance)
{
    const pk_rules *rules = &model->rules;
    uint32_t ahead = model->end - at;
    uint32_t most = ahead < PK_MAX_MATCH ? ahead : PK_MAX_MATCH;
    if (ahead < rules->hash_bytes || best >= most)
        return 0;
    const uint32_t first = model->base + 1; /* the entry of position 0 */
    uint32_t entry = model->previous[at & MASK];
    /* The first position of a stream is never found: its number means "none" there. */
    uint32_t none = model->origin == 0 ? first : model->base;
    if (entry <= none || at - (entry - first) > REACH)
        return 0;
    uint32_t chain = best >= rules->good ? rules->chain >> 2 : rules->chain;
    uint32_t nice = rules->nice < most ? rules->nice : most;
    /* Positions behind the first one searched must be above this. */
    uint32_t limit = first + (at > REACH ? at - REACH : 0);
    const uint8_t *data = model->data, *here = data + at;
    uint32_t found = 0;
    uint16_t tail = load16(here + best - 1);
    do {
        const uint8_t *there = data + (entry - first);
        if (load16(there + best - 1) != tail)
            continue;
        uint32_t length = match_length(there, here, most);
        if (length > best) {
            best = found = length;
            *distance = at - (entry - first);
            if (length >= nice)
                break;
            tail = load16(here + best - 1);
        }
    } while ((entry = model->previous[(entry - first) & MASK]) > limit && --chain);
    return found;
}

/* The same in the manner of Go: chains reach a full window back, but not before the buffer's start. */
static uint32_t search_go(pk_model *model, uint32_t at, uint32_t *distance)
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
    if (at > PK_WINDOW && at - PK_WINDOW > lowest)
        lowest = at - PK_WINDOW;
    const uint32_t first = model->base + 1; /* the entry of position 0 */
    uint32_t entry = model->previous[at & MASK];
    uint32_t nice = rules->nice < most ? rules->nice : most;
    const uint8_t *data = model->data, *here = data + at;
    for (uint32_t tries = rules->chain; tries && entry >= first + lowest; tries--) {
        const uint8_t *there = data + (entry - first);
        if (there[best] == here[best]) {
            uint32_t length = match_length(there, here, most);
            if (length > best && (length > 4 || at - (entry - first) <= TOO_FAR)) {
                best = found = length;
                *distance = at - (entry - first);
                if (length >= nice)
                    break;
            }
        }
        if (at - (entry - first) == PK_WINDOW)
            break; /* its place in the chain has been taken by `at` */
        entry = model->previous[(entry - first) & MASK];
    }
    return found;
}

void pk_model_start(pk_model *model, const pk_rules *rules, unsigned hash_bits, const uint8_t *data,
                    uint32_t start, uint32_t size, uint64_t origin)
{
    model->rules = *rules;
    model->hash_bits = hash_bits;
    model->data = data;
    model->size = model->end = size;
    model->origin = origin;
    pk_model_restart(model, start);
}

void pk_model_restart(pk_model *model, uint32_t at)
{
    /* Clearing the table would cost more than a short segment does. */
    if (model->base > UINT32_MAX / 2) {
        memset(model->head, 0, sizeof model->head);
        memset(model->previous, 0, sizeof model->previous);
        model->base = 0;
    } else {
        model->base += model->used + 1;
    }
    model->used = model->size;
    model->searched = 0;
    model->inserted = at > PK_WINDOW ? at - PK_WINDOW : 0;
    if (model->rules.kind == PK_LAZY || model->rules.kind == PK_GO_LAZY) {
        insert_before(model, at);
    } else if (model->rules.kind == PK_FAST || model->rules.kind == PK_GO_FAST) {
        /* These do not insert everything: what they would have done with the window tells what. */
        uint32_t position = model->inserted;
        while (position < at) {
            pk_token token = pk_model_predict(model, position);
            pk_model_accept(model, position, token, token);
            position += token >> 16 ? token >> 16 : 1;
        }
        /* A match may have gone on behind `at`; what is inserted twice would be found at distance 0. */
        if (model->inserted < at)
            model->inserted = at;
    }
}

void pk_model_see(pk_model *model, uint32_t end)
{
    model->end = end;
}

static void search(pk_model *model, uint32_t at, uint32_t before)
{
    const pk_rules *rules = &model->rules;
    insert_before(model, at + 1);
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
        insert_before(model, at + length);
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
    default:
        break;
    }
}
