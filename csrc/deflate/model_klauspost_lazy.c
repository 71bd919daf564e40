#include "deflate/model_klauspost_lazy.h"

#include <string.h>

#include "common/bytes.h"
#include "deflate/block_header.h"
#include "deflate/model.h"

enum {
    MASK = 2 * PK_WINDOW - 1,
    LEAST = 4,   /* bytes of a match */
    AHEAD = 512, /* positions put into the chains at once */
    LOOKAHEAD = LEAST
        + PK_MAX_MATCH, /* bytes that must be in the buffer for a search, but at a flush */
    FILLED_AT = 2 * PK_WINDOW
        - LOOKAHEAD, /* last position that is searched before the buffer moves on */
    SKIPPED = 2,     /* bytes at the start of a match that one found at its end may miss */
    WEIGHED = 100    /* longest chain along which matches are not weighed */
};

static inline uint32_t load32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t position_of(const pk_model *model, uint32_t at)
{
    return model->origin + at - model->klauspost_lazy.begun;
}

/* How often the buffer was moved on, by a window each time, before `at` was searched. */
static inline uint64_t moves_before(const pk_model *model, uint32_t at)
{
    uint64_t position = position_of(model, at);
    return position > FILLED_AT ? (position - FILLED_AT - 1) / PK_WINDOW + 1 : 0;
}

/* Where the buffer ends after so many moves. */
static inline uint32_t filled_to(const pk_model *model, uint64_t moves)
{
    uint64_t end = (moves + 2) * PK_WINDOW + model->klauspost_lazy.begun - model->origin;
    return end < model->end ? (uint32_t)end : model->end;
}

static inline uint32_t lowest_for(const pk_model *model, uint32_t at)
{
    uint64_t start = moves_before(model, at) * PK_WINDOW + model->klauspost_lazy.begun;
    uint32_t lowest = start > model->origin ? (uint32_t)(start - model->origin) : 0;
    lowest = lowest > model->klauspost_lazy.floor ? lowest : model->klauspost_lazy.floor;
    return at > PK_WINDOW && at - PK_WINDOW > lowest ? at - PK_WINDOW : lowest;
}

/* ---- Chains ---- */

static void enter_before(pk_model *model, uint32_t end)
{
    const uint32_t last = model->size < LEAST ? 0 : model->size - LEAST + 1;
    const uint32_t to = end < last ? end : last;
    for (uint32_t at = model->inserted; at < to; at++) {
        uint32_t *head = &model->head[(uint32_t)pk_load64(model->data + at) * 2654435761u
                                      >> (32 - PK_HASH_BITS)];
        uint32_t entry = model->base + 1 + at, step = entry - *head;
        *head = entry;
        model->back[at & MASK] = (uint16_t)(step & (uint32_t)-(int32_t)(step <= PK_WINDOW));
    }
    if (model->inserted < end)
        model->inserted = end;
}

static inline void enter_ahead(pk_model *model, uint32_t at)
{
    if (at + LOOKAHEAD >= model->inserted)
        enter_before(model, at + LOOKAHEAD + AHEAD);
}

/* ---- Search ---- */

/* The lengths of the literals' codes, made of what is in the buffer when it was filled: from
 * release 1.20 on, and in Go, of as much of it as a unit has tokens. */
static void make_bits(pk_model *model, uint32_t at)
{
    pk_klauspost_lazy *with = &model->klauspost_lazy;
    const uint64_t moves = moves_before(model, at);
    uint32_t counts[256] = {0}, end = filled_to(model, moves);
    if (!with->turn && moves) {
        /* The model started in the midst of it. */
        uint64_t first = FILLED_AT + 1 + (moves - 1) * PK_WINDOW + with->begun;
        at = first > model->origin + with->floor ? (uint32_t)(first - model->origin) : with->floor;
    }
    with->turn = moves + 1;
    if (model->hash_bits != PK_DETAIL_FILLED && end - at > PK_KLAUSPOST_TOKENS)
        end = at + PK_KLAUSPOST_TOKENS;
    for (; at < end; at++)
        counts[model->data[at]]++;
    pk_make_lengths(with->bits, model->hash_bits == PK_DETAIL_QUEUES, counts, 256);
    for (unsigned symbol = 0; symbol < 256 && model->hash_bits == PK_DETAIL_NONE; symbol++)
        with->bits[symbol] += !with->bits[symbol];
}

/* What a match of `length` bytes saves. */
static inline int gain_of(const pk_model *model, uint32_t at, uint32_t length, uint32_t distance)
{
    int gain = -3;
    for (uint32_t byte = 0; byte < length; byte++)
        gain += model->klauspost_lazy.bits[model->data[at + byte]];
    /* The distance is taken for one greater, and the greatest for one that is small. */
    unsigned symbol = distance == PK_WINDOW ? 14 : pk_distance_symbol(distance + 1);
    return gain - pk_distance_extra[symbol] - pk_length_extra[pk_length_symbol(length)];
}

/* Search at `at`, if a longer match than one of `before` bytes may be there: in model->length,
 * 0 if there is none. */
static void search(pk_model *model, uint32_t at, uint32_t before)
{
    const pk_rules *rules = &model->rules;
    pk_klauspost_lazy *with = &model->klauspost_lazy;
    const int weighs = rules->chain > WEIGHED;
    enter_ahead(model, at);
    model->length = 0;
    if (at >= model->end)
        return;
    if (weighs && with->turn != moves_before(model, at) + 1)
        make_bits(model, at);
    const uint32_t ahead_of = model->end - at,
                   most = ahead_of < PK_MAX_MATCH ? ahead_of : PK_MAX_MATCH;
    if (ahead_of <= before || before >= rules->lazy || ahead_of < LEAST)
        return;
    const uint32_t lowest = lowest_for(model, at), nice = rules->nice < most ? rules->nice : most;
    const uint8_t *data = model->data, *here = data + at;
    uint32_t best = LEAST - 1, there = at, tail = load32(here);
    int gain = 4;
    for (uint32_t tries = rules->chain; tries; tries--) {
        uint32_t step = model->back[there & MASK];
        if (!step || there < lowest + step)
            break;
        there -= step;
        if (load32(data + there + best - 3) != tail)
            continue; /* a longer match has these four bytes as well */
        uint32_t length = (uint32_t)pk_equal_ahead(data + there, here, most);
        if (length <= best)
            continue;
        if (weighs) {
            int now = gain_of(model, at, length, at - there);
            if (now <= gain)
                continue;
            gain = now;
        }
        best = model->length = length;
        model->distance = at - there;
        if (length >= nice)
            break;
        tail = load32(here + best - 3);
    }
}

/* The match in hand at `at`, or a longer one, to which the string behind its end leads:
 * planned. */
static void plan(pk_model *model, uint32_t at, uint32_t length, uint32_t distance)
{
    pk_klauspost_lazy *with = &model->klauspost_lazy;
    const uint8_t *data = model->data;
    const uint32_t end = at + length, ahead_of = model->end - at - 1;
    with->planned = at;
    with->length = length;
    with->distance = distance;
    if (length >= PK_MAX_MATCH - SKIPPED || end + LEAST > model->end)
        return;
    uint32_t found = end,
             step; /* the last position with the string that was entered, up to `at` + 1 */
    do {
        step = model->back[found & MASK];
        if (!step || step > found)
            return;
        found -= step;
    } while (found > at + 1);
    if (found < length + lowest_for(model, at + 1) + SKIPPED + 1 || end - found == distance)
        return;
    found -= length;
    uint32_t most = ahead_of < PK_MAX_MATCH + SKIPPED ? ahead_of : PK_MAX_MATCH + SKIPPED, longer;
    if (most <= SKIPPED)
        return;
    longer = (uint32_t)pk_equal_ahead(data + found + SKIPPED, data + at + SKIPPED, most - SKIPPED);
    if (longer <= length)
        return;
    with->planned = at + SKIPPED;
    with->distance = at - found;
    while (with->planned > at && longer < PK_MAX_MATCH
           && data[with->planned - 1] == data[with->planned - 1 - with->distance]) {
        with->planned--;
        longer++;
    }
    with->length = longer;
}

/* ---- Steps ---- */

void pk_klauspost_lazy_start(pk_model *model, uint32_t at)
{
    pk_klauspost_lazy *with = &model->klauspost_lazy;
    memset(with, 0, sizeof *with);
    with->floor = model->floor;
    model->length = 0;
    if (model->follow) {
        enter_before(model, at);
        return;
    }
    /* A dictionary, in which strings that go on behind it are not entered. */
    if (at - model->floor > PK_PRIMING)
        with->floor = at - PK_PRIMING;
    with->begun = model->origin + with->floor;
    model->inserted = with->floor;
    enter_before(model, at - with->floor < LEAST ? with->floor : at - LEAST + 1);
    for (; model->inserted < at; model->inserted++)
        model->back[model->inserted & MASK] = 0;
}

pk_token pk_klauspost_lazy_predict(pk_model *model, uint32_t at)
{
    pk_klauspost_lazy *with = &model->klauspost_lazy;
    if (with->length)
        return at == with->planned ? with->length << 16 | with->distance : model->data[at];
    if (at < with->skipped)
        return model->data[at];
    if (!model->searched) {
        search(model, at, LEAST - 1);
        with->literals = model->length ? 0 : with->literals;
    }
    uint32_t length = model->length, distance = model->distance;
    search(model, at + 1, length ? length : LEAST - 1);
    if (!length || model->length > length)
        return model->data[at];
    plan(model, at, length, distance);
    return at == with->planned ? with->length << 16 | with->distance : model->data[at];
}

void pk_klauspost_lazy_accept(pk_model *model, uint32_t at, pk_token predicted, pk_token actual)
{
    pk_klauspost_lazy *with = &model->klauspost_lazy;
    model->searched = 0;
    if (actual >> 16 || actual != predicted) {
        with->literals = 0;
        with->length = with->skipped = 0;
        return;
    }
    if (with->length || at < with->skipped)
        return;
    /* The match that was found at the next position is known, unless it is skipped. */
    model->searched = 1;
    with->literals = (model->length ? 0 : with->literals) + 1;
    with->literals &= 0xffff;
    if (with->literals > model->rules.chain) {
        const uint32_t end = filled_to(model, moves_before(model, at + 1));
        uint32_t count = 1 + ((with->literals - model->rules.chain) >> 6);
        if (at + 2 + count > end - 1)
            count = end > at + 3 ? end - at - 3 : 0;
        with->skipped = at + 2 + count;
        model->searched = 0;
    }
}
