/* Tables and matches of klauspost/compress' match finders at levels 1 to 6. Internal to
 * deflate/model_klauspost*.c. */
#ifndef PK_KLAUSPOST_MATCHES_H
#define PK_KLAUSPOST_MATCHES_H

#include "common/bytes.h"
#include "deflate/match_length.h"
#include "deflate/model.h"

enum {
    SHORT_BITS = 15,
    SHORT = 1 << SHORT_BITS, /* entries of the table of short strings; that of long ones follows */
    MARGIN = 11,             /* bytes before a unit's end in which nothing is looked for */
    LEAST_UNIT = 13,         /* shorter units are not searched */
    BUFFER = 5 * PK_UNIT,    /* of units, and what remains of those before them */
    SMALL_UNIT = 128,        /* nor are shorter last ones, and all is forgotten behind them */
    REACH = PK_WINDOW - 1,   /* greatest distance that a look finds */
    LONGEST_COMPARED =
        258,    /* candidates are compared up to this length, then the best is extended */
    SKIPPED = 2 /* bytes at the start of a match that one found at its end may miss */
};

static inline uint32_t load32(const uint8_t *at)
{
    return (uint32_t)pk_load64(at);
}

/* ---- Tables. An entry is a position + 1 + base: what older starts entered is below all. ---- */

static inline uint32_t entry_of(const pk_model *model, uint32_t at)
{
    return model->base + 1 + at;
}

/* Whether an entry is a position that a match at `at` may begin with: in `there`. What was
 * entered ahead of tokens that were not predicted may lie behind `at`. */
static inline int usable(const pk_model *model, uint32_t entry, uint32_t at, uint32_t reach,
                         uint32_t *there)
{
    uint32_t distance = entry_of(model, at) - entry, most = at - model->klauspost.floor;
    *there = at - distance;
    return distance - 1 < (most < reach ? most : reach);
}

static inline int same_four(const pk_model *model, uint32_t there, uint64_t string)
{
    return load32(model->data + there) == (uint32_t)string;
}

static inline uint32_t hash5(uint64_t string, unsigned bits)
{
    return (uint32_t)((string << 24) * 889523592379u >> (64 - bits));
}

/* A slot of two entries, the newest below: it is read and written at once. */
static inline uint64_t pair_at(const uint32_t *slot)
{
    uint64_t pair;
    memcpy(&pair, slot, sizeof pair);
    return pair;
}

static inline uint32_t newest_of(uint64_t pair)
{
    return (uint32_t)pair;
}

static inline uint32_t older_of(uint64_t pair)
{
    return (uint32_t)(pair >> 32);
}

static inline void push_on(uint32_t *slot, uint64_t pair, uint32_t entry)
{
    pair = pair << 32 | entry;
    memcpy(slot, &pair, sizeof pair);
}

static inline void push(uint32_t *slot, uint32_t entry)
{
    push_on(slot, pair_at(slot), entry);
}

/* ---- Matches ---- */

static inline uint32_t length_at(const pk_model *model, uint32_t at, uint32_t there)
{
    return pk_match_length(model->data + there, model->data + at, model->klauspost.unit_end - at);
}

static inline uint32_t limit_of(const pk_klauspost *with)
{
    return with->unit_end - MARGIN;
}

static inline void no_more(pk_klauspost *with)
{
    with->hit = with->unit_end;
}

/* Plan a match, extended back. */
static inline void plan(pk_model *model, uint32_t at, uint32_t there, uint32_t length)
{
    pk_klauspost *with = &model->klauspost;
    const uint8_t *data = model->data;
    const uint32_t least = with->emitted > with->least ? with->emitted : with->least;
    while (there > with->floor && at > least && data[there - 1] == data[at - 1]) {
        there--;
        at--;
        length++;
    }
    with->hit = at;
    with->whole = with->left = length;
    with->distance = at - there;
}

/* ---- Levels 1 to 3 ---- */

/* Look on, and plan the next match. Levels 1 and 2. */
void pk_klauspost_look_single(pk_model *model);
/* Look on behind a match of `length` bytes. */
void pk_klauspost_look_behind_single(pk_model *model, uint32_t at, uint32_t length);

/* The same at level 3. `end` is the match's end, `at` that or behind it. */
void pk_klauspost_look_pair(pk_model *model);
void pk_klauspost_look_behind_pair(pk_model *model, uint32_t at, uint32_t length, uint32_t end);

/* ---- Levels 4 to 6: a table of strings of four bytes, and one of seven ---- */

void pk_klauspost_look_two(pk_model *model);
void pk_klauspost_look_behind_two(pk_model *model, uint32_t at);

void pk_klauspost_look_five(pk_model *model);
void pk_klauspost_look_behind_five(pk_model *model, uint32_t at, uint32_t length);

void pk_klauspost_look_six(pk_model *model);
void pk_klauspost_look_behind_six(pk_model *model, uint32_t at);

#endif
