#include "deflate/klauspost_matches.h"

/* ---- Levels 1 and 2: one table of strings of five bytes, one entry each, looked at in pairs of
 * neighbours. ---- */

static inline uint32_t *single_slot(pk_model *model, uint64_t string)
{
    return model->head + hash5(string, model->klauspost.level == 1 ? SHORT_BITS : PK_HASH_BITS);
}

void pk_klauspost_look_single(pk_model *model)
{
    pk_klauspost *with = &model->klauspost;
    const uint32_t limit = limit_of(with);
    for (;;) {
        uint32_t at = with->next, there;
        uint64_t string = pk_load64(model->data + at);
        uint32_t *slot = single_slot(model, string), entry = *slot;
        const int second = with->second;
        with->next = at + (second ? 1 : 2 + ((at - with->emitted) >> 5));
        if (!second && with->next > limit) {
            no_more(with);
            return;
        }
        with->second = !second;
        *slot = entry_of(model, at);
        if (!usable(model, entry, at, REACH, &there) || !same_four(model, there, string))
            continue;
        if (!second)
            *single_slot(model, pk_load64(model->data + with->next)) = entry_of(model, with->next);
        else if (with->level == 1)
            *slot = entry_of(
                model, with->next); /* in the slot of the string before, and so does the encoder */
        plan(model, at, there, length_at(model, at, there));
        return;
    }
}

void pk_klauspost_look_behind_single(pk_model *model, uint32_t at, uint32_t length)
{
    pk_klauspost *with = &model->klauspost;
    const uint8_t *data = model->data;
    if (at >= limit_of(with)) {
        if ((uint64_t)at + length + 8 < with->unit_end)
            *single_slot(model, pk_load64(data + at)) = entry_of(model, at);
        no_more(with);
        return;
    }
    if (with->level == 2) {
        for (uint32_t within = at - length + 2; within + 5 < at; within += 7)
            for (uint32_t shift = 0; shift <= 4; shift += 2)
                *single_slot(model, pk_load64(data + within) >> 8 * shift) =
                    entry_of(model, within + shift);
        *single_slot(model, pk_load64(data + at - 2)) = entry_of(model, at - 2);
        *single_slot(model, pk_load64(data + at - 2) >> 8) = entry_of(model, at - 1);
    } else {
        *single_slot(model, pk_load64(data + at - 2)) = entry_of(model, at - 2);
    }
    uint64_t string = pk_load64(data + at - 2) >> 16;
    uint32_t *slot = single_slot(model, string), entry = *slot, there;
    *slot = entry_of(model, at);
    if (usable(model, entry, at, PK_WINDOW, &there) && same_four(model, there, string)) {
        plan(model, at, there, length_at(model, at, there));
        return;
    }
    with->next = at + 1;
    with->second = 0;
    pk_klauspost_look_single(model);
}

/* ---- Level 3: one table of strings of five bytes, the newest two positions of each. ---- */

static inline uint32_t *pair_slot(pk_model *model, uint64_t string)
{
    return model->head + 2 * hash5(string, SHORT_BITS + 1);
}

enum { REACH_3 = PK_WINDOW - 4 };

void pk_klauspost_look_pair(pk_model *model)
{
    pk_klauspost *with = &model->klauspost;
    const uint32_t limit = limit_of(with);
    for (;;) {
        uint32_t at = with->next, one, other;
        with->next = at + 1 + ((at - with->emitted) >> 7);
        if (with->next > limit) {
            no_more(with);
            return;
        }
        uint64_t string = pk_load64(model->data + at);
        uint32_t *slot = pair_slot(model, string);
        const uint64_t pair = pair_at(slot);
        const uint32_t newest = newest_of(pair), older = older_of(pair);
        push_on(slot, pair, entry_of(model, at));
        if (!usable(model, newest, at, REACH_3, &one))
            continue;
        if (same_four(model, one, string)) {
            uint32_t length = length_at(model, at, one);
            if (usable(model, older, at, REACH_3, &other) && same_four(model, other, string)) {
                uint32_t otherwise = length_at(model, at, other);
                if (otherwise > length) {
                    length = otherwise;
                    one = other;
                }
            }
            plan(model, at, one, length);
            return;
        }
        if (usable(model, older, at, REACH_3 - 1, &other) && same_four(model, other, string)) {
            plan(model, at, other, length_at(model, at, other));
            return;
        }
    }
}

void pk_klauspost_look_behind_pair(pk_model *model, uint32_t at, uint32_t length, uint32_t end)
{
    pk_klauspost *with = &model->klauspost;
    uint32_t there = end - with->distance; /* behind what it matched */
    const uint8_t *data = model->data;
    if (at >= limit_of(with)) {
        if (there > with->floor && there < end && there + 8 < with->unit_end)
            push(pair_slot(model, pk_load64(data + there)), entry_of(model, there));
        no_more(with);
        return;
    }
    for (uint32_t within = at - length + 2; within + 5 < at; within += 6)
        push(pair_slot(model, pk_load64(data + within)), entry_of(model, within));
    push(pair_slot(model, pk_load64(data + at - 2)), entry_of(model, at - 2));
    push(pair_slot(model, pk_load64(data + at - 1)), entry_of(model, at - 1));
    uint64_t string = pk_load64(data + at);
    uint32_t *slot = pair_slot(model, string);
    const uint64_t pair = pair_at(slot);
    const uint32_t newest = newest_of(pair), older = older_of(pair);
    push_on(slot, pair, entry_of(model, at));
    if (usable(model, newest, at, REACH_3 - 1, &there)) {
        if (same_four(model, there, string)
            || (usable(model, older, at, REACH_3 - 1, &there)
                && same_four(model, there, string))) {
            plan(model, at, there, length_at(model, at, there));
            return;
        }
    }
    with->next = at + 1;
    pk_klauspost_look_pair(model);
}
