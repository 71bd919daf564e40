#include "deflate/klauspost_matches.h"

/* ---- Tables ---- */

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
    return pk_match_length(model->data + there, model->data + at,
                           most < LONGEST_COMPARED ? most : LONGEST_COMPARED);
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

void pk_klauspost_look_two(pk_model *model)
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

void pk_klauspost_look_behind_two(pk_model *model, uint32_t at)
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
    pk_klauspost_look_two(model);
}

/* ---- Levels 5 and 6: as level 4, with the newest two positions of long strings. ---- */

static inline void enter_next(pk_model *model, uint64_t string, uint32_t at)
{
    enter_short(model, string, at);
    enter_long(model, string, at);
}

/* A match in hand: `length` bytes from `at` and from `there` on. */
typedef struct match {
    uint32_t at, there, length;
} match;

/* The greatest distance of a match at `at`; floor: first position that is known. */
static inline uint32_t most_back(uint32_t floor, uint32_t at)
{
    return at - floor < REACH ? at - floor : REACH;
}

/* How far back an entry is, or 0, and all bits, if no match may begin there. So its string can be
 * read without a branch, which the processor would guess wrong half of the time. */
typedef struct back {
    uint32_t by, beyond;
} back;

/* most: the greatest distance. By a shift, as compilers may make a branch of a comparison. */
static inline back back_of(uint32_t by, uint32_t most)
{
    const uint64_t within = (uint64_t)((int64_t)((uint64_t)(by - 1) - most) >> 63);
    return (back){by & (uint32_t)within, (uint32_t)~within};
}

/* 0 if a match of four bytes begins there. */
static inline uint32_t differs_at(const uint8_t *here, uint64_t string, back with)
{
    return (load32(here - with.by) ^ (uint32_t)string) | with.beyond;
}

/* Take a match at `at` and `by` bytes before instead, if it is longer. */
static inline int take_longer(const pk_model *model, match *hand, uint32_t at, uint32_t by)
{
    const uint32_t length = compared_length(model, at, at - by);
    if (length <= hand->length)
        return 0;
    *hand = (match){at, at - by, length};
    return 1;
}

/* Of a match that strings of four bytes found make a longer one, at the next position. */
static inline void choose_longer(pk_model *model, match *hand, const unsigned level)
{
    pk_klauspost *with = &model->klauspost;
    const uint8_t *data = model->data;
    const uint32_t next = with->next, start = hand->at, entry = entry_of(model, next);
    uint64_t behind = pk_load64(data + next);
    const uint64_t pair = pair_at(double_slot(model, behind));
    enter_next(model, behind, next);
    if (level == 6 && with->repeated <= start + 1 - with->floor
        && same_four(model, start + 1 - with->repeated, pk_load64(data + start) >> 8)
        && take_longer(model, hand, start + 1, with->repeated))
        return;
    const uint32_t most = most_back(with->floor, next);
    const back one = back_of(entry - newest_of(pair), most),
               other = back_of(entry - older_of(pair), most);
    if (!differs_at(data + next, behind, one) && take_longer(model, hand, next, one.by)
        && level == 5)
        return;
    if (!(differs_at(data + next, behind, other) | one.beyond))
        take_longer(model, hand, next, other.by);
}

/* Take a longer match instead, that has the string behind the end of the one in hand at the same
 * place, `by` bytes before it. start: of the match that is looked from. */
static inline void take_farther(const pk_model *model, match *hand, uint32_t start, uint32_t by)
{
    const uint32_t at = start + SKIPPED;
    /* A longer one has these four bytes as well. */
    const uint8_t *last = model->data + start + hand->length - SKIPPED;
    if (differs_at(last, load32(last), back_of(by, most_back(model->klauspost.floor, at))))
        return;
    const uint32_t longer = length_at(model, at, at - by);
    if (longer > hand->length)
        *hand = (match){at, at - by, longer};
}

/* Plan the match in hand, or a longer one that the string behind its end leads to. */
static inline void plan_farther(pk_model *model, match hand, const unsigned level)
{
    pk_klauspost *with = &model->klauspost;
    const uint32_t start = hand.at;
    if (hand.length == LONGEST_COMPARED)
        hand.length = length_at(model, start, hand.there);
    if (start + hand.length < limit_of(with) && (level == 6 || hand.length < 30)) {
        const uint32_t end = start + hand.length, entry = entry_of(model, end);
        const uint64_t pair = pair_at(double_slot(model, pk_load64(model->data + end)));
        const uint32_t newest = newest_of(pair);
        take_farther(model, &hand, start, entry - newest);
        /* The older one is not looked at if the newer one is too far away. */
        if (level == 6 && newest >= entry_of(model, with->floor)
            && (int32_t)(entry - newest) <= REACH)
            take_farther(model, &hand, start,
                         entry_of(model, start + hand.length) - older_of(pair));
    }
    plan(model, hand.at, hand.there, hand.length);
}

/* Plan a match that strings of four bytes found, `by` bytes back, or a longer one. Neither this
 * function nor take_long is inlined, so that the search keeps its variables in registers. */
static __attribute__((noinline)) void take_short(pk_model *model, uint32_t at, uint32_t by)
{
    match hand = {at, at - by, compared_length(model, at, at - by)};
    choose_longer(model, &hand, model->klauspost.level);
    plan_farther(model, hand, model->klauspost.level);
}

/* Plan the longer one of two matches that long strings found, so many bytes back each, 0 for none;
 * or a still longer one. */
static __attribute__((noinline)) void take_long(pk_model *model, uint32_t at, uint32_t by_one,
                                                uint32_t by_other)
{
    const uint32_t next = model->klauspost.next;
    match hand = {at, at - by_one, 0};
    if (by_one)
        hand.length = compared_length(model, at, at - by_one);
    if (by_other)
        take_longer(model, &hand, at, by_other);
    enter_next(model, pk_load64(model->data + next), next);
    plan_farther(model, hand, model->klauspost.level);
}

/* `level` is constant where it is inlined. */
static inline __attribute__((always_inline)) void look_double(pk_model *model,
                                                              const unsigned level)
{
    pk_klauspost *with = &model->klauspost;
    const uint8_t *data = model->data;
    const uint32_t limit = limit_of(with), emitted = with->emitted, floor = with->floor,
                   first = entry_of(model, 0);
    const unsigned slowly = level == 5 ? 6 : 7;
    uint32_t next = with->next;
    for (;;) {
        const uint32_t at = next, entry = first + at, most = most_back(floor, at);
        next = at + 1 + ((at - emitted) >> slowly);
        if (next > limit) {
            no_more(with);
            with->next = next;
            return;
        }
        const uint8_t *here = data + at;
        const uint64_t string = pk_load64(here);
        uint32_t *brief = &model->head[hash4(string)], *full = double_slot(model, string);
        const uint64_t pair = pair_at(full);
        const back one = back_of(entry - newest_of(pair), most),
                   other = back_of(entry - older_of(pair), most),
                   third = back_of(entry - *brief, most);
        *brief = entry;
        push_on(full, pair, entry);
        const uint32_t differ_one = differs_at(here, string, one),
                       differ_other = differs_at(here, string, other) | one.beyond;
        if (differ_one && differ_other) {
            if (differs_at(here, string, third))
                continue;
            with->next = next;
            take_short(model, at, third.by);
        } else {
            with->next = next;
            take_long(model, at, differ_one ? 0 : one.by, differ_other ? 0 : other.by);
        }
        return;
    }
}

void pk_klauspost_look_five(pk_model *model)
{
    look_double(model, 5);
}

void pk_klauspost_look_six(pk_model *model)
{
    look_double(model, 6);
}

/* Level 5 enters a third of the positions within a match, in turns into one table and the
 * other. */
void pk_klauspost_look_behind_five(pk_model *model, uint32_t at, uint32_t length)
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
    pk_klauspost_look_five(model);
}

/* Level 6 enters all into the table of long strings, every second one into that of short ones. */
void pk_klauspost_look_behind_six(pk_model *model, uint32_t at)
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
    pk_klauspost_look_six(model);
}
