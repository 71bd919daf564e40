#include "deflate/model_klauspost.h"

#include <string.h>

#include "common/bytes.h"
#include "deflate/klauspost_matches.h"
#include "deflate/model.h"

/* The length of the token that a match of `length` bytes begins with: what remains must be a
 * match as well. */
static inline uint32_t piece_of(uint32_t length)
{
    return length <= PK_MAX_MATCH      ? length
           : length > PK_MAX_MATCH + 3 ? PK_MAX_MATCH
                                       : PK_MAX_MATCH - 3;
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
        pk_klauspost_look_two(model);
        break;
    case 5:
        pk_klauspost_look_five(model);
        break;
    default:
        pk_klauspost_look_six(model);
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
        pk_klauspost_look_behind_two(model, at);
        break;
    case 5:
        pk_klauspost_look_behind_five(model, at, length);
        break;
    default:
        pk_klauspost_look_behind_six(model, at);
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
 * tables be as they are there. If it was promised not to be, they are lost. */
static void take_back(pk_model *model, uint32_t at)
{
    pk_klauspost *with = &model->klauspost;
    with->tried = with->replayed = 0;
    with->lost |= !with->keeps;
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

enum { AT_ONCE = 16 }; /* literals; few runs are longer */

/* Write AT_ONCE literals; a loop of fixed length, that compilers make of vectors. */
static inline void put_literals(const uint8_t *from, pk_token *out)
{
    for (unsigned at = 0; at < AT_ONCE; at++)
        out[at] = from[at];
}

/* Write the literals from `at` on, at most `most`, as far as the actual tokens are such.
 *
 * room: tokens that may be written; those behind the literals mean nothing. */
static inline uint32_t run_of_literals(const pk_model *model, uint32_t at, uint32_t most,
                                       uint64_t room, const pk_token *actual, pk_token *out)
{
    const uint8_t *from = model->data + at;
    uint32_t count = 0;
    if (actual) {
        for (; count < most && actual[count] < 256; count++)
            out[count] = from[count];
        return count;
    }
    for (; count < most && room - count >= AT_ONCE; count += AT_ONCE)
        put_literals(from + count, out + count);
    for (; count < most; count++)
        out[count] = from[count];
    return most;
}

uint32_t pk_klauspost_run(pk_model *model, uint32_t *at, uint32_t last, uint64_t most,
                          const pk_token *actual, pk_token *out)
{
    pk_klauspost *with = &model->klauspost;
    uint32_t here = *at, count = 0;
    while (here < with->unit_end && !with->blind) {
        const uint32_t ahead = with->hit - here, room = last - here;
        uint32_t most_literals = ahead < room ? ahead : room;
        if (most - count < most_literals)
            most_literals = (uint32_t)(most - count);
        const uint32_t literals = run_of_literals(model, here, most_literals, most - count,
                                                  actual ? actual + count : NULL, out + count);
        here += literals;
        count += literals;
        if (here != with->hit || here == with->unit_end || count == most)
            break;
        const uint32_t length = piece_of(with->left);
        const pk_token token = length << 16 | with->distance;
        if (length > last - here || (actual && actual[count] != token))
            break;
        out[count++] = token;
        here += length;
        with->left -= length;
        if (with->left)
            with->hit = here;
        else
            look_behind(model, here, with->whole);
    }
    *at = here;
    return count;
}
