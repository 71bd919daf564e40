#include "deflate/model_klauspost.h"

#include <string.h>

#include "common/bytes.h"
#include "deflate/klauspost_matches.h"
#include "deflate/model.h"

/* ---- Tables of levels 4 to 6 ---- */

static inline uint32_t hash4(uint64_t string)
{
    return (uint32_t)string * 2654435761u >> (32 - SHORT_BITS);
}

static inline uint32_t hash7(uint64_t string)
{
    return (uint32_t)((string << 8) * 58295818150454627u >> (64 - SHORT_BITS));
}

/* The slot of a long string at level 4, which holds one entry. */
static inline uint32_t *single_slot(pk_model *model, uint64_t string)
{
    return model->head + SHORT + hash7(string);
}

/* The same at levels 5 and 6, of the newest two. */
static inline uint32_t *double_slot(pk_model *model, uint64_t string)
{
    return model->head + SHORT + 2 * hash7(string);
}

static inline void enter_short(pk_model *model, uint64_t string, uint32_t at)
{
    model->head[hash4(string)] = entry_of(model, at);
}

static inline void enter_long(pk_model *model, uint64_t string, uint32_t at)
{
    push(double_slot(model, string), entry_of(model, at));
}

static inline uint32_t compared_length(const pk_model *model, uint32_t at, uint32_t there)
{
    uint32_t most = model->klauspost.unit_end - at;
    return (uint32_t)pk_equal_ahead(model->data + there, model->data + at,
                                    most < LONGEST_COMPARED ? most : LONGEST_COMPARED);
}

/* The length of the token that a match of `length` bytes begins with: what remains must be a
 * match as well. */
static inline uint32_t piece_of(uint32_t length)
{
    return length <= PK_MAX_MATCH      ? length
           : length > PK_MAX_MATCH + 3 ? PK_MAX_MATCH
                                       : PK_MAX_MATCH - 3;
}

/* ---- Level 4: a table of strings of four bytes, and one of seven, one entry each. ---- */

/* The length of a match at `at`, four bytes of which are known, as level 4 measures it: from
 * release 1.18 on it takes the distance for a place in its buffer, and compares what is there. */
static uint32_t length_by_four(const pk_model *model, uint32_t at, uint32_t there)
{
    const pk_klauspost *with = &model->klauspost;
    if (model->rules.good)
        return length_at(model, at, there);
    const uint32_t place = at - there;
    if (place + with->unit < with->held)
        return 0; /* it is not known any more */
    return 4 + length_at(model, at + 4, with->unit - with->held + place + 4);
}

static void look_two(pk_model *model)
{
    pk_klauspost *with = &model->klauspost;
    const uint8_t *data = model->data;
    const uint32_t limit = limit_of(with);
    for (;;) {
        uint32_t at = with->next, there, later;
        with->next = at + 1 + ((at - with->emitted) >> 6);
        if (with->next > limit) {
            no_more(with);
            return;
        }
        uint64_t string = pk_load64(data + at);
        uint32_t *brief = &model->head[hash4(string)], *full = single_slot(model, string);
        uint32_t in_short = *brief, in_long = *full;
        *brief = *full = entry_of(model, at);
        if (usable(model, in_long, at, REACH, &there) && same_four(model, there, string)) {
            plan(model, at, there, length_at(model, at, there));
            return;
        }
        if (!usable(model, in_short, at, REACH, &there) || !same_four(model, there, string))
            continue;
        uint32_t length = length_at(model, at, there);
        uint64_t behind = pk_load64(data + with->next);
        if (usable(model, *single_slot(model, behind), with->next, REACH, &later)
            && same_four(model, later, behind)) {
            if (length_by_four(model, with->next, later) > length) {
                at = with->next;
                there = later;
                length = length_at(model, at, there);
            }
        }
        plan(model, at, there, length);
        return;
    }
}

static void look_behind_two(pk_model *model, uint32_t at)
{
    pk_klauspost *with = &model->klauspost;
    const uint8_t *data = model->data;
    if (at >= limit_of(with)) {
        if (at + 8 < with->unit_end) {
            enter_short(model, pk_load64(data + at), at);
            *single_slot(model, pk_load64(data + at)) = entry_of(model, at);
        }
        no_more(with);
        return;
    }
    for (uint32_t within = with->next; within + 1 < at; within += 3) {
        uint64_t string = pk_load64(data + within);
        *single_slot(model, string) = entry_of(model, within);
        *single_slot(model, string >> 8) = entry_of(model, within + 1);
        enter_short(model, string >> 8, within + 1);
    }
    uint64_t string = pk_load64(data + at - 1);
    enter_short(model, string, at - 1);
    *single_slot(model, string) = entry_of(model, at - 1);
    with->next = at;
    look_two(model);
}

/* ---- Levels 5 and 6: as level 4, with the newest two positions of long strings. ---- */

static inline void enter_next(pk_model *model, uint64_t string, uint32_t at)
{
    enter_short(model, string, at);
    enter_long(model, string, at);
}

/* A match at `at` with what strings of four bytes found; or a longer one, at the next
 * position. */
static inline void choose_longer(pk_model *model, uint32_t *at, uint32_t *there, uint32_t *length,
                                 const unsigned level)
{
    pk_klauspost *with = &model->klauspost;
    const uint8_t *data = model->data;
    const uint32_t next = with->next, start = *at;
    uint64_t behind = pk_load64(data + next);
    const uint64_t pair = pair_at(double_slot(model, behind));
    const uint32_t newest = newest_of(pair), older = older_of(pair);
    uint32_t other, longer;
    *length = compared_length(model, start, *there);
    enter_next(model, behind, next);
    if (level == 6 && with->repeated <= start + 1 - with->floor) {
        other = start + 1 - with->repeated;
        if (same_four(model, other, pk_load64(data + start) >> 8)
            && (longer = compared_length(model, start + 1, other)) > *length) {
            *at = start + 1;
            *there = other;
            *length = longer;
            return;
        }
    }
    if (!usable(model, newest, next, REACH, &other))
        return;
    if (same_four(model, other, behind)
        && (longer = compared_length(model, next, other)) > *length) {
        *at = next;
        *there = other;
        *length = longer;
        if (level == 5)
            return;
    }
    if (usable(model, older, next, REACH, &other) && same_four(model, other, behind)
        && (longer = compared_length(model, next, other)) > *length) {
        *at = next;
        *there = other;
        *length = longer;
    }
}

/* A longer match, among those that have the string behind the end of the one in hand at the
 * same place. */
static int reaches_farther(const pk_model *model, uint32_t entry, uint32_t at, uint32_t *there,
                           uint32_t *length)
{
    uint32_t found;
    if (!usable(model, entry, at + *length, REACH, &found)
        || found + SKIPPED < *length + model->klauspost.floor)
        return 0;
    found -= *length - SKIPPED;
    uint32_t longer = length_at(model, at + SKIPPED, found);
    if (longer <= *length)
        return 0;
    *there = found;
    *length = longer;
    return 1;
}

/* Plan the match at `at`, or a longer one that the string behind its end leads to. */
static inline void plan_farther(pk_model *model, uint32_t at, uint32_t there, const unsigned level)
{
    pk_klauspost *with = &model->klauspost;
    const uint32_t start = at;
    uint32_t length = length_at(model, at, there);
    if (at + length < limit_of(with) && (level == 6 || length < 30)) {
        const uint32_t end = at + length;
        const uint64_t pair = pair_at(double_slot(model, pk_load64(model->data + end)));
        const uint32_t newest = newest_of(pair);
        if (reaches_farther(model, newest, start, &there, &length))
            at = start + SKIPPED;
        /* The older one is not looked at if the newer one is too far away. */
        if (level == 6 && newest >= entry_of(model, with->floor)
            && (int32_t)(entry_of(model, end) - newest) <= REACH
            && reaches_farther(model, older_of(pair), start, &there, &length))
            at = start + SKIPPED;
    }
    plan(model, at, there, length);
}

/* `level` is constant where it is inlined. */
static inline void look_double(pk_model *model, const unsigned level)
{
    pk_klauspost *with = &model->klauspost;
    const uint8_t *data = model->data;
    const uint32_t limit = limit_of(with), emitted = with->emitted;
    const unsigned slowly = level == 5 ? 6 : 7;
    uint32_t next = with->next;
    for (;;) {
        uint32_t at = next, there, other, length;
        next = at + 1 + ((at - emitted) >> slowly);
        if (next > limit) {
            no_more(with);
            with->next = next;
            return;
        }
        uint64_t string = pk_load64(data + at);
        uint32_t *brief = &model->head[hash4(string)], *full = double_slot(model, string);
        const uint64_t pair = pair_at(full);
        const uint32_t in_short = *brief, newest = newest_of(pair), older = older_of(pair);
        *brief = entry_of(model, at);
        push_on(full, pair, entry_of(model, at));
        if (usable(model, newest, at, REACH, &there)) {
            int found = same_four(model, there, string);
            if (usable(model, older, at, REACH, &other) && same_four(model, other, string)
                && (!found
                    || compared_length(model, at, other) > compared_length(model, at, there))) {
                there = other;
                found = 1;
            }
            if (found) {
                with->next = next;
                enter_next(model, pk_load64(data + next), next);
                plan_farther(model, at, there, level);
                return;
            }
        }
        if (usable(model, in_short, at, REACH, &there) && same_four(model, there, string)) {
            with->next = next;
            choose_longer(model, &at, &there, &length, level);
            plan_farther(model, at, there, level);
            return;
        }
    }
}

/* Level 5 enters a third of the positions within a match, in turns into one table and the
 * other. */
static void look_behind_five(pk_model *model, uint32_t at, uint32_t length)
{
    pk_klauspost *with = &model->klauspost;
    const uint8_t *data = model->data;
    if (at >= limit_of(with)) {
        no_more(with);
        return;
    }
    uint32_t within = at - length + 1;
    if (within + 1 < at) {
        uint64_t string = pk_load64(data + within);
        enter_next(model, string, within);
        enter_long(model, string >> 8, within + 1);
        enter_short(model, string >> 16, within + 2);
        for (within += 4; within + 1 < at; within += 3) {
            string = pk_load64(data + within);
            enter_long(model, string, within);
            enter_short(model, string >> 8, within + 1);
        }
    }
    enter_next(model, pk_load64(data + at - 1), at - 1);
    with->next = at;
    look_double(model, 5);
}

/* Level 6 enters all into the table of long strings, every second one into that of short ones. */
static void look_behind_six(pk_model *model, uint32_t at)
{
    pk_klauspost *with = &model->klauspost;
    const uint8_t *data = model->data;
    if (at >= limit_of(with)) {
        for (uint32_t within = with->next + 1; within + 8 < with->unit_end; within += 2)
            enter_next(model, pk_load64(data + within), within);
        no_more(with);
        return;
    }
    for (uint32_t within = with->next + 1; within + 1 < at; within += 2) {
        uint64_t string = pk_load64(data + within);
        uint32_t *one = double_slot(model, string), *other = double_slot(model, string >> 8);
        enter_short(model, string, within);
        push(one, entry_of(model, within));
        push(other, entry_of(model, within + 1));
    }
    with->next = at;
    look_double(model, 6);
}

/* ---- The plan of a unit ---- */

/* Plan the next of the matches that were found ahead, if there is one left. */
static int replay(pk_model *model)
{
    pk_klauspost *with = &model->klauspost;
    if (with->replayed == with->tried)
        return 0;
    const pk_planned *found = &model->tried[with->replayed++];
    with->hit = found->hit;
    with->whole = with->left = found->whole;
    with->distance = found->distance;
    with->next = found->next;
    with->second = found->second;
    return 1;
}

static void look(pk_model *model)
{
    if (replay(model))
        return;
    switch (model->klauspost.level) {
    case 1:
    case 2:
        pk_klauspost_look_single(model);
        break;
    case 3:
        pk_klauspost_look_pair(model);
        break;
    case 4:
        look_two(model);
        break;
    case 5:
        look_double(model, 5);
        break;
    default:
        look_double(model, 6);
    }
}

/* Look on behind a match of `length` bytes that ends at `end`. */
static void look_behind(pk_model *model, uint32_t end, uint32_t length)
{
    pk_klauspost *with = &model->klauspost;
    with->emitted = with->least = end;
    with->repeated = with->distance;
    if (replay(model))
        return;
    uint32_t at = with->next >= end ? with->next + 1 : end;
    switch (with->level) {
    case 1:
    case 2:
        pk_klauspost_look_behind_single(model, at, length);
        break;
    case 3:
        pk_klauspost_look_behind_pair(model, at, length, end);
        break;
    case 4:
        look_behind_two(model, at);
        break;
    case 5:
        look_behind_five(model, at, length);
        break;
    default:
        look_behind_six(model, at);
    }
}

static uint32_t entries_of(const pk_klauspost *with)
{
    static const uint32_t entries[] = {0,         SHORT,     4 * SHORT, 4 * SHORT,
                                       2 * SHORT, 3 * SHORT, 3 * SHORT};
    return entries[with->level];
}

static void look_from_start(pk_klauspost *with)
{
    with->emitted = with->least = with->next = with->unit;
    with->second = 0;
    with->repeated = 1;
    with->hit = with->unit_end;
}

/* Whether matches save a sixteenth of the unit's bytes, a token counted as one; if not, the
 * unit is written as literals, but the positions it had were entered. If so, the matches that were
 * found are planned again one by one; the tables are ahead of them meanwhile, and are kept from
 * before, lest a token be another one than predicted. */
static int pays(pk_model *model)
{
    pk_klauspost *with = &model->klauspost;
    const uint32_t length = with->unit_end - with->unit, enough = length >> 4;
    uint32_t saved = 0, found = 0;
    with->keeps = model->sure < length;
    if (with->keeps) {
        const uint32_t entries = entries_of(with);
        memcpy(model->kept, model->head, entries * sizeof *model->kept);
        model->kept_used = entries > model->kept_used ? entries : model->kept_used;
    }
    for (look(model); with->hit < with->unit_end;) {
        for (uint32_t left = with->whole; left; left -= piece_of(left))
            saved += piece_of(left) - 1;
        model->tried[found++] =
            (pk_planned){with->hit, with->whole, with->distance, with->next, with->second};
        model->tried_used = found > model->tried_used ? found : model->tried_used;
        if (saved >= enough) {
            look_from_start(with);
            with->tried = found;
            return 1;
        }
        look_behind(model, with->hit + with->whole, with->whole);
    }
    return 0;
}

/* The token at `at` is not the one that was predicted, and matches were found ahead of it: let the
 * tables be as they are there. */
static void take_back(pk_model *model, uint32_t at)
{
    pk_klauspost *with = &model->klauspost;
    with->tried = with->replayed = 0;
    if (with->keeps)
        memcpy(model->head, model->kept, entries_of(with) * sizeof *model->kept);
    look_from_start(with);
    look(model);
    for (uint32_t from = with->unit; from < at;) {
        pk_token token = pk_klauspost_predict(model, from);
        pk_klauspost_accept(model, from, token, token);
        from += pk_token_bytes(token);
    }
}

static void begin_unit(pk_model *model, uint32_t at)
{
    pk_klauspost *with = &model->klauspost;
    const uint32_t length = model->end - at < PK_UNIT ? model->end - at : PK_UNIT;
    with->unit = at;
    with->unit_end = at + length;
    look_from_start(with);
    with->literal = 1;
    with->tried = with->replayed = 0;
    with->held += with->unit_length;
    if (with->held + length > BUFFER)
        with->held = PK_WINDOW;
    with->unit_length = length;
    with->blind = length < LEAST_UNIT;
    if (length < SMALL_UNIT && !with->keeps_small) {
        with->blind = 1;
        with->floor = with->unit_end;
        with->held = with->unit_length = 0;
    }
    if (!with->blind && pays(model)) {
        with->literal = 0;
        look(model);
    }
}

/* Follow the units in data[from, to). */
static void follow(pk_model *model, uint32_t from, uint32_t to)
{
    const uint32_t end = model->end, sure = model->sure;
    model->end = to;
    model->sure = UINT32_MAX;
    while (from < to) {
        pk_token token = pk_klauspost_predict(model, from);
        pk_klauspost_accept(model, from, token, token);
        from += pk_token_bytes(token);
    }
    model->end = end;
    model->sure = sure;
}

/* How much the buffer holds before a position of the stream, if there was no flush: it keeps a
 * window when it is full. */
static uint32_t held_at(uint64_t position)
{
    const uint64_t units = position / PK_UNIT, first = BUFFER / PK_UNIT,
                   then = (BUFFER - PK_WINDOW) / PK_UNIT;
    if (units <= first)
        return (uint32_t)units * PK_UNIT;
    return PK_WINDOW + ((uint32_t)((units - first - 1) % then) + 1) * PK_UNIT;
}

void pk_klauspost_start(pk_model *model, uint32_t at)
{
    pk_klauspost *with = &model->klauspost;
    const uint32_t known = at - model->floor;
    memset(with, 0, sizeof *with);
    with->level = model->rules.chain;
    with->floor = model->floor;
    with->keeps_small = !model->follow || model->hash_bits == PK_DETAIL_QUEUES;
    if (!model->follow) {
        if (known > PK_PRIMING)
            with->floor = at - PK_PRIMING;
        follow(model, with->floor, at);
    } else {
        const uint32_t reach = known < model->follow ? known : model->follow;
        const uint32_t from = reach < PK_UNIT ? at - reach : at - reach / PK_UNIT * PK_UNIT;
        with->held = held_at(model->origin + from);
        follow(model, from, at);
    }
    with->keeps_small = model->hash_bits == PK_DETAIL_QUEUES;
    with->unit_end = at; /* the next token begins a unit */
}

pk_token pk_klauspost_predict(pk_model *model, uint32_t at)
{
    pk_klauspost *with = &model->klauspost;
    if (at >= with->unit_end)
        begin_unit(model, at);
    if (at != with->hit)
        return model->data[at];
    return piece_of(with->left) << 16 | with->distance;
}

void pk_klauspost_accept(pk_model *model, uint32_t at, pk_token predicted, pk_token actual)
{
    pk_klauspost *with = &model->klauspost;
    const uint32_t length = actual >> 16;
    if (with->blind)
        return;
    if (actual != predicted && with->replayed < with->tried)
        take_back(model, at);
    if (!length) {
        if (actual == predicted || with->literal)
            return;
        /* It did not find the match: it looked on. */
        if (with->left != with->whole)
            with->emitted = at;
        with->least = at + 1;
        look(model);
        return;
    }
    if (actual != predicted) {
        /* The match is as long as it can be, and this its first token, or what the plaintext
         * does not explain. */
        const uint32_t distance = actual & 0xffff;
        with->literal = 0;
        with->whole = with->left = length;
        with->distance = distance;
        with->next = at + 1;
        if (distance <= at && at + length <= with->unit_end) {
            uint32_t longest = length_at(model, at, at - distance);
            if (piece_of(longest) == length)
                with->whole = with->left = longest;
        }
    }
    with->left -= length;
    if (with->left)
        with->hit = at + length;
    else
        look_behind(model, at + length, with->whole);
}
