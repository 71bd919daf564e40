/* The model of an encoder: its rules, its start, and its choice between a match and a literal.
 *
 * Algorithm --------- Fast kinds search at each token's position and take the match they find.
 * Lazy kinds search at the next position too, for a longer match: if there is one, they write a
 * literal, and that match is the first search of the next token. So each position is searched
 * once, unless a token was not the predicted one.
 *
 * An encoder's tables at the start of a segment depend on the bytes before. Lazy kinds have all of
 * the window's positions in their chains. Fast kinds have those that their tokens left there,
 * which are not
 * known: the model predicts the window's tokens and takes each prediction for right ("follows").
 *     The farther back it begins, the less is left of the wrong ones.
 */
#include "deflate/model.h"

#include <stddef.h>
#include <string.h>

#include "common/bytes.h"
#include "deflate/chains.h"
#include "deflate/ranks.h"

/* zlib's levels 1 to 9 (deflate.c, configuration_table), the same with a hash of four bytes as in
 * its forks, Go's levels 2 to 9 (compress/flate), encoders without a table, Go's level 1,
 * klauspost/compress' levels 1 to 6, its level 4 before release 1.18.0, its levels 7 to 9,
 * miniz at level 1, zlib-ng at level 1, igzip at levels 0 to 2. */
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
    {PK_KLAUSPOST, 5, 0, 0, 258, 1},
    {PK_KLAUSPOST, 5, 0, 0, 258, 2},
    {PK_KLAUSPOST, 5, 0, 0, 258, 3},
    {PK_KLAUSPOST, 4, 0, 0, 258, 4},
    {PK_KLAUSPOST, 4, 0, 0, 258, 5},
    {PK_KLAUSPOST, 4, 0, 0, 258, 6},
    {PK_KLAUSPOST, 4, 4, 0, 258, 4},
    {PK_KLAUSPOST_LAZY, 4, 0, 12, 16, 24},
    {PK_KLAUSPOST_LAZY, 4, 0, 30, 40, 64},
    {PK_KLAUSPOST_LAZY, 4, 0, 258, 258, 1024},
    {PK_MINIZ, 3, 0, 0, 258, 1},
    {PK_QUICK, 4, 0, 0, 258, 1},
    {PK_IGZIP_USUAL, 4, 0, 4, 258, 13},
    {PK_IGZIP, 4, 0, 4, 258, 13},
    {PK_IGZIP, 4, 0, 4, 258, 15},
};
const unsigned pk_rule_count = sizeof pk_rule_table / sizeof *pk_rule_table;

void pk_model_clear(pk_model *model)
{
    const size_t heads = model->heads_used, backs = model->backs_used;
    memset(model->head, 0, heads * sizeof *model->head);
    memset(model->last, 0, model->lasts_used * sizeof *model->last);
    memset(model->back, 0, backs * sizeof *model->back);
    memset(model->rank, 0, backs * sizeof *model->rank);
    memset(model->kept, 0, model->kept_used * sizeof *model->kept);
    memset(model->tried, 0, model->tried_used * sizeof *model->tried);
    for (unsigned rung = 0; rung < PK_RUNGS && model->rungs_used; rung++) {
        memset(model->rungs[rung].head, 0, sizeof model->rungs[rung].head);
        memset(model->rungs[rung].back, 0, backs * sizeof *model->rungs[rung].back);
    }
    memset(model, 0, offsetof(pk_model, head));
}

/* Note which parts of the tables the rules will write to: a short segment's are a tenth of them.
 */
static void note_use(pk_model *model)
{
    const int chains = model->rules.kind < PK_GO_SPEED;
    const uint32_t heads = chains ? 0 : 1u << PK_HASH_BITS;
    const uint32_t lasts =
        chains ? 1u << (model->rules.hash_bytes >= 4 ? PK_HASH_BITS : model->hash_bits) : 0;
    const uint32_t backs = model->size < PK_RING ? model->size : PK_RING;
    model->lasts_used = lasts > model->lasts_used ? lasts : model->lasts_used;
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
    model->climbs = pk_ranks_pay(rules, hash_bits);
    model->seeks = rules->kind == PK_GO_LAZY;
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
    model->stale = 1; /* the chains' heads; cleared once something is inserted */
    /* Clearing the table would cost more than a short segment does. */
    if (model->base > UINT32_MAX / 2) {
        memset(model->head, 0, sizeof model->head);
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
    if (model->rules.kind == PK_KLAUSPOST)
        pk_klauspost_start(model, at);
    if (model->rules.kind == PK_KLAUSPOST_LAZY)
        pk_klauspost_lazy_start(model, at);
    if (model->rules.kind == PK_MINIZ)
        pk_miniz_start(model, at);
    if (model->rules.kind >= PK_QUICK)
        pk_quick_start(model, at);
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
        /* A position inserted twice would be found at distance 0. */
        if (model->inserted < at)
            model->inserted = at;
        /* A long match may have gone on behind `at`: there is no chain where it did. */
        for (position = at; position < model->inserted && !entered; position++)
            model->back[position & PK_RING_MASK] = 0;
    }
}

void pk_model_see(pk_model *model, uint32_t end)
{
    model->end = end;
}

static void search(pk_model *model, uint32_t at, uint32_t before)
{
    const pk_rules *rules = &model->rules;
    pk_chains_insert_ahead(model, at);
    model->length = 0;
    if (at >= model->end)
        return;
    if (rules->kind == PK_LAZY) {
        if (before < rules->lazy)
            model->length =
                pk_chains_search_zlib(model, at, before > 2 ? before : 2, &model->distance);
        if (model->length == 3 && model->distance > PK_TOO_FAR)
            model->length = 0;
    } else if (before < rules->lazy && model->end - at > before) {
        model->length = pk_chains_search_go(model, at, before, &model->distance);
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
        length = pk_chains_enter_and_search(model, at, &distance);
        if (length)
            return length << 16 | distance;
        break;
    case PK_GO_SPEED:
        return pk_speed_predict(model, at);
    case PK_KLAUSPOST:
        return pk_klauspost_predict(model, at);
    case PK_KLAUSPOST_LAZY:
        return pk_klauspost_lazy_predict(model, at);
    case PK_MINIZ:
        return pk_miniz_predict(model, at);
    case PK_QUICK:
    case PK_IGZIP_USUAL:
    case PK_IGZIP:
        return pk_quick_predict(model, at);
    case PK_RUNS:
        if (at) {
            uint32_t ahead = model->end - at;
            length = (uint32_t)pk_equal_ahead(model->data + at - 1, model->data + at,
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
            pk_chains_insert(model, at + length);
        else
            model->inserted = at + length;
        break;
    case PK_GO_SPEED:
        pk_speed_accept(model, at, predicted, actual);
        break;
    case PK_KLAUSPOST:
        pk_klauspost_accept(model, at, predicted, actual);
        break;
    case PK_KLAUSPOST_LAZY:
        pk_klauspost_lazy_accept(model, at, predicted, actual);
        break;
    case PK_MINIZ:
        pk_miniz_accept(model, at, predicted, actual);
        break;
    case PK_QUICK:
    case PK_IGZIP_USUAL:
    case PK_IGZIP:
        pk_quick_accept(model, at, predicted, actual);
        break;
    default:
        break;
    }
}

enum { AT_ONCE = 64 }; /* positions; bounds what is done in vain where the tokens disagree */

/* The literals of text without matches, for pk_model_run.
 *
 * A literal behind which no match was found stays one whatever the next search finds. So the
 * token at a position is known once the position behind it is known to have no match, and the
 * search there is done with it. */
static uint32_t run_of_literals(pk_model *model, uint32_t *at, uint32_t most,
                                const pk_token *actual, pk_token *out)
{
    uint32_t count = 0;
    for (int goes_on = 1; goes_on && count < most;) {
        const uint32_t part = most - count < AT_ONCE ? most - count : AT_ONCE, from = *at;
        uint32_t literals = 0;
        while (literals < part && (!actual || actual[count + literals] < 256))
            literals++;
        const uint32_t run = pk_chains_without_match(model, from + 1, literals);
        for (uint32_t each = 0; each < run; each++)
            out[count + each] = model->data[from + each];
        *at = from + run;
        count += run;
        goes_on = run == part;
    }
    return count;
}

uint32_t pk_model_run(pk_model *model, uint32_t *at, uint32_t last, uint64_t most,
                      const pk_token *actual, pk_token *out)
{
    if (!pk_model_may_run(model))
        return 0;
    if (model->rules.kind == PK_KLAUSPOST)
        return pk_klauspost_run(model, at, last, most, actual, out);
    /* The string at the position behind the last literal lies within the input, too. */
    const uint32_t ahead = model->end - *at, room = last - *at;
    uint32_t literals = ahead > 4 ? ahead - 4 : 0;
    literals = literals < room ? literals : room;
    return run_of_literals(model, at, most < literals ? (uint32_t)most : literals, actual, out);
}
