/* A segment that was inflated to its recipe.
 *
 * The encoder's rule is found by trial: the usual rules are tried in order on the segment, and the
 * first one that predicts its first tokens without an error writes the recipe. If none does, the
 * rule with the fewest errors in these tokens writes it. Then the recipe is rebuilt and compared.
 */
#include <string.h>

#include "deflate/block_ends.h"
#include "deflate/block_header.h"
#include "deflate/choice.h"
#include "deflate/flush_points.h"
#include "deflate/recipe.h"
#include "deflate/recipe_format.h"
#include "deflate/settings.h"
#include "deflate/workspace.h"

/* With more than one wrong token of this many there may be a better rule, where the blocks' ends
 * speak for several. */
enum { GOOD_SHARE = 256 };

static void put_number(pk_buffer *to, uint64_t value)
{
    uint8_t bytes[10];
    size_t length = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[length++] = (uint8_t)(value | 0x80);
    bytes[length++] = (uint8_t)value;
    pk_buffer_put(to, bytes, length);
}

static void put_byte(pk_buffer *to, unsigned value)
{
    uint8_t byte = (uint8_t)value;
    pk_buffer_put(to, &byte, 1);
}

/* Return the greatest length of a recipe in bytes, 3 % of the segment's and 16: a longer one does
 * not pay. */
static size_t most_recipe(const pk_segment *segment)
{
    return (size_t)((segment->end_bit - segment->start_bit + 7) / 8 * 3 / 100 + 16);
}

/* ---- Flush points ---- */

/* Return the PK_EMPTY_... of `count` empty blocks. */
static unsigned empty_code(const pk_block *empty, size_t count, int at_end)
{
    if (!count)
        return PK_EMPTY_NONE;
    if (count == 1 && empty->type == PK_STORED)
        return PK_EMPTY_STORED;
    return !at_end && pk_are_aligning(empty, count) ? PK_EMPTY_ALIGNED : PK_EMPTY_LISTED;
}

/* Record a flush point, or the segment's end, and the empty blocks from `block` on.
 *
 * gap: bytes of plaintext since the flush point before. Returns the first block behind them, or 0
 *     if the format has no room for them. */
static size_t put_flush(pk_buffer *to, const pk_segment *segment, size_t block, uint32_t gap)
{
    const size_t end = pk_behind_empty(segment, block), count = end - block;
    const int at_end = end == segment->block_count;
    const pk_block *empty = &segment->blocks[block];
    unsigned code = empty_code(empty, count, at_end);
    if (at_end)
        put_byte(to, code);
    else
        put_number(to, (uint64_t)gap << 2 | code);
    if (code != PK_EMPTY_LISTED)
        return end;
    if (count > PK_MAX_EMPTY)
        return 0;
    put_number(to, count);
    for (size_t at = 0; at < count; at++) {
        if (empty[at].type == PK_DYNAMIC)
            return 0;
        put_byte(to, empty[at].type);
    }
    return end;
}

/* ---- Headers ---- */

static void put_header(pk_buffer *to, const pk_header *header)
{
    put_byte(to, header->literals - 257u);
    put_byte(to, header->distances - 1u);
    put_byte(to, header->codes);
    for (unsigned at = 0; at < header->codes; at++)
        put_byte(to, header->code_lengths[pk_code_order[at]]);
    for (unsigned at = 0; at < header->symbols; at++) {
        put_byte(to, header->symbol[at]);
        if (header->symbol[at] >= 16)
            put_byte(to, header->extra[at]);
    }
}

/* ---- The recipe of a segment, for given settings ---- */

/* Rules that are refused: none; those that get a token of the sample wrong; and those that do not
 * make the blocks that are stored. */
enum { REFUSES_NONE = 0, REFUSES_TOKENS = 1, REFUSES_STORED = 2 };

typedef struct analysis {
    pk_codec *codec;
    const pk_segment *segment;
    pk_settings with;
    uint64_t right_tokens; /* predictions that were right since the last correction */
    uint64_t right_blocks; /* blocks predicted in whole since the last record of one */
    int strict;            /* which rules are refused: REFUSES_... */
    int refused;           /* it does: there is no recipe with these settings */
    int trusts;            /* the model is promised that all its tokens are right */
    int lost;              /* one was not, and the model is of no use any more: refused as well */
    uint32_t flush;        /* the next flush point or end of the stream, 0 if there is none */
} analysis;

/* Compare a predicted token with the actual one, and record a correction.
 *
 * number: of the token in its block. */
static inline void check_token(analysis *state, pk_token predicted, pk_token actual,
                               uint32_t number)
{
    if (predicted == actual) {
        state->right_tokens++;
        return;
    }
    pk_codec *codec = state->codec;
    codec->mispredicted++;
    state->refused = state->strict && codec->token_total + number < PK_SAMPLE_TOKENS;
    put_number(&codec->corrections, state->right_tokens << 1 | (actual < 256));
    if (actual >= 256) {
        put_number(&codec->corrections, (actual >> 16) - 3);
        put_number(&codec->corrections, (actual & 0xffff) - 1);
    }
    state->right_tokens = 0;
}

/* How far from a block's start the next flush point is, for pk_header_facts_of. */
static uint32_t flush_from(const analysis *state, const pk_block *block)
{
    return state->flush ? state->flush - block->start : 0;
}

/* Record tokens that the model predicts without being asked for each: none ends the block, or its
 * first unit.
 *
 * token, at: the next one's number, and where it is; `at` is moved on. most: greatest number.
 *     actual: as many, with which they agree, or NULL. Returns how many they are. */
static inline uint32_t run_of_tokens(analysis *state, const pk_block *block, uint32_t token,
                                     uint32_t most, const pk_token *actual, uint32_t *at)
{
    pk_codec *codec = state->codec;
    if (!pk_model_may_run(&codec->model))
        return 0;
    uint32_t room = block->plain - 1;
    if (pk_kind_of(&state->with) == PK_KLAUSPOST && *at - block->start < PK_UNIT
        && room > PK_UNIT - 1)
        room = PK_UNIT - 1;
    const uint32_t left = pk_tokens_before_end(&state->with, token);
    return pk_tape_record_run(&codec->tape, &codec->model, at, block->start + room,
                              most < left ? most : left, actual);
}

/* Put tokens of a stored block that the model predicts into the codec's, behind the first `count`.
 * Arguments and result as above. */
static uint32_t put_run(analysis *state, const pk_block *block, uint32_t count, uint32_t *at)
{
    pk_codec *codec = state->codec;
    const uint32_t run =
        run_of_tokens(state, block, count, (uint32_t)(codec->token_capacity - count), NULL, at);
    if (run)
        memcpy(codec->tokens + count, codec->tape.tokens + codec->tape.count - run,
               run * sizeof *codec->tokens);
    return run;
}

enum { FITS_NOT = 0, FITS = 1, FITS_AND_STORED = 2 };

/* Let the model, left alone, make one block of a stored block's bytes, and tell whether it does,
 * and whether its encoder would store it.
 *
 * tokens: set to the block's tokens; they are the codec's. */
static int predicts_stored(analysis *state, const pk_block *block, uint32_t input_end,
                           uint32_t *tokens)
{
    pk_codec *codec = state->codec;
    const pk_settings *with = &state->with;
    uint32_t at = block->start, end = block->start + block->plain, count = 0;
    pk_block_end block_end = {0, 0, block->start};
    pk_header_basis basis = {0, 0};
    int ended = 0;
    while (at < end && !ended) {
        count += put_run(state, block, count, &at);
        pk_token token = pk_tape_predict(&codec->tape, &codec->model, at);
        if (pk_add_token(codec, count++, token) != PK_OK)
            return FITS_NOT;
        pk_tape_accept(&codec->tape, &codec->model, at, token, token);
        ended = pk_ends_block(&block_end, with, count, token, at, pk_is_lazy(with));
        at += pk_token_bytes(token);
        pk_extend_basis(&basis, with, count, at - block->start);
    }
    if (at != end || (!ended && end != input_end))
        return FITS_NOT;
    *tokens = count;
    const pk_header_facts facts =
        pk_header_facts_of(with, basis, count, block->plain, flush_from(state, block));
    pk_header header;
    int type = pk_tape_predict_header(&codec->tape, &header, &facts, codec->tokens, count);
    return type == PK_STORED ? FITS_AND_STORED : FITS;
}

/* Analyse a stored block with plaintext; returns what its record gives. */
static unsigned analyse_stored(analysis *state, const pk_block *block, uint32_t input_end)
{
    pk_codec *codec = state->codec;
    pk_tape_position before = pk_tape_position_of(&codec->tape);
    uint32_t tokens;
    int fits = predicts_stored(state, block, input_end, &tokens);
    if (fits == FITS_AND_STORED || (fits == FITS && pk_is_klauspost(&state->with))) {
        /* Rebuilding counts the tokens of such blocks as well: all of them are right. */
        state->right_tokens += tokens;
        return fits == FITS ? PK_GIVES_TYPE : 0;
    }
    state->refused = state->strict == REFUSES_STORED;
    pk_tape_restart_from(&codec->tape, &codec->model, before, block->start + block->plain);
    return PK_GIVES_BYTES;
}

/* Step over tokens that the model predicts right, without asking for each, up to the one that is
 * the block's last or may end its unit.
 *
 * token, at: the next one, and where it is; `at` is moved on. Returns how many they are. */
static inline uint32_t check_run(analysis *state, const pk_block *block, uint32_t token,
                                 uint32_t *at)
{
    const uint32_t known = run_of_tokens(state, block, token, block->tokens - token - 1,
                                         state->segment->tokens + block->first_token + token, at);
    state->right_tokens += known;
    return known;
}

/* Predict the tokens of a block, and record the corrections.
 *
 * Returns the number of tokens behind which the block is predicted to end, 0 if it is predicted to
 * go on up to the end of the encoder's input. basis: set. Stops early if there will be
 * no recipe. */
static uint32_t analyse_tokens(analysis *state, const pk_block *block, pk_header_basis *basis)
{
    pk_codec *codec = state->codec;
    const pk_token *tokens = state->segment->tokens + block->first_token;
    const int lazy = pk_is_lazy(&state->with);
    pk_block_end block_end = {0, 0, block->start};
    uint32_t at = block->start, predicted_count = 0;
    for (uint32_t token = 0; token < block->tokens; token++) {
        token += check_run(state, block, token, &at);
        pk_token predicted = pk_tape_predict(&codec->tape, &codec->model, at),
                 actual = tokens[token];
        check_token(state, predicted, actual, token);
        if (state->refused || codec->corrections.failed)
            return 0;
        pk_tape_accept(&codec->tape, &codec->model, at, predicted, actual);
        if (codec->model.klauspost.lost) {
            state->lost = state->refused = 1;
            return 0;
        }
        if (pk_ends_block(&block_end, &state->with, token + 1, actual, at, lazy)
            && !predicted_count)
            predicted_count = token + 1;
        at += pk_token_bytes(actual);
        pk_extend_basis(basis, &state->with, token + 1, at - block->start);
    }
    codec->token_total += block->tokens;
    return predicted_count;
}

/* Predict type and header of a block of tokens; returns what its record gives of them. */
static unsigned analyse_header(const analysis *state, const pk_block *block, pk_header_basis basis)
{
    unsigned gives = 0;
    const pk_header_facts facts = pk_header_facts_of(&state->with, basis, block->tokens,
                                                     block->plain, flush_from(state, block));
    pk_header predicted;
    int type = pk_tape_predict_header(&state->codec->tape, &predicted, &facts,
                                      state->segment->tokens + block->first_token, block->tokens);
    if (type != block->type)
        gives |= PK_GIVES_TYPE;
    if (block->type == PK_DYNAMIC && !pk_same_header(&predicted, &block->header))
        gives |= PK_GIVES_HEADER;
    return gives;
}

/* Record the facts of a block that were not predicted. */
static void put_block(analysis *state, const pk_block *block, unsigned gives)
{
    pk_buffer *to = &state->codec->blocks;
    if (!gives) {
        state->right_blocks++;
        return;
    }
    put_number(to, state->right_blocks);
    state->right_blocks = 0;
    put_byte(to, gives);
    if (gives & PK_GIVES_COUNT)
        put_number(to, block->tokens);
    if (gives & PK_GIVES_TYPE)
        put_byte(to, block->type);
    if (gives & PK_GIVES_HEADER)
        put_header(to, &block->header);
    if (gives & PK_GIVES_BYTES)
        put_number(to, block->plain);
}

/* Analyse a block; input_end: where the encoder's input ends for now. */
static void analyse_block(analysis *state, const pk_block *block, uint32_t input_end)
{
    if (block->type == PK_STORED) {
        if (block->plain)
            put_block(state, block, analyse_stored(state, block, input_end));
        return;
    }
    pk_header_basis basis = {0, 0};
    uint32_t predicted_count = analyse_tokens(state, block, &basis);
    if (state->refused || state->codec->corrections.failed)
        return;
    unsigned gives = analyse_header(state, block, basis);
    if (predicted_count ? predicted_count != block->tokens
                        : block->start + block->plain != input_end)
        gives |= PK_GIVES_COUNT;
    put_block(state, block, gives);
}

/* Empty the parts of the recipe, and start the model. */
static void begin(analysis *state)
{
    pk_codec *codec = state->codec;
    const pk_segment *segment = state->segment;
    const size_t most = segment->end_bit / 8 + 64;
    codec->token_total = codec->mispredicted = 0;
    state->right_tokens = state->right_blocks = 0;
    state->refused = state->lost = 0;
    pk_buffer_reset(&codec->recipe, most);
    pk_buffer_reset(&codec->points, most);
    pk_buffer_reset(&codec->blocks, most);
    /* With so many corrections there will be no recipe: stop at once. */
    pk_buffer_reset(&codec->corrections, most_recipe(segment));
    codec->tape.mode = PK_TAPE_RECORDS;
    pk_model_clear(&codec->model);
    codec->model.sure = state->trusts ? UINT32_MAX : 0;
    pk_tape_start(&codec->tape, &codec->model, &pk_rule_table[state->with.rule],
                  pk_hash_bits_of(&state->with), segment->data, (uint32_t)segment->window,
                  (uint32_t)segment->size, segment->position - segment->window,
                  pk_follow_of(&state->with));
}

/* Return the first error of all parts, PK_OK if there is none. */
static pk_status failure_of(const pk_codec *codec)
{
    const pk_status all[] = {codec->tape.failed, codec->points.failed, codec->blocks.failed,
                             codec->corrections.failed, codec->recipe.failed};
    for (size_t at = 0; at < sizeof all / sizeof *all; at++)
        if (all[at] != PK_OK)
            return all[at];
    return PK_OK;
}

/* Analyse all blocks, from flush point to flush point.
 *
 * flushes: set to the number of flush points before the segment's end. Returns PK_OK; or an error,
 *     also if the settings are refused. */
static pk_status analyse_blocks(analysis *state, uint64_t *flushes)
{
    pk_codec *codec = state->codec;
    const pk_segment *segment = state->segment;
    const int primed = state->with.flags & PK_FLAG_PRIMED;
    uint32_t position = (uint32_t)segment->window;
    *flushes = 0;
    for (size_t block = 0;; (*flushes)++) {
        const size_t flush = pk_next_flush(segment, &state->with, block);
        const uint32_t end = pk_flush_position(segment, flush);
        pk_tape_see(&codec->tape, &codec->model, end);
        state->flush = flush < segment->block_count || segment->last ? end : 0;
        for (; block < flush && !state->refused && !codec->corrections.failed; block++)
            analyse_block(state, &segment->blocks[block], end);
        if (state->refused)
            return PK_INVALID;
        if (failure_of(codec) != PK_OK)
            return failure_of(codec);
        block = put_flush(&codec->points, segment, flush, end - position);
        if (!block)
            return PK_INVALID;
        if (block == segment->block_count)
            return PK_OK;
        if (primed && end != position && end - position < PK_PRIMED_GAP)
            return PK_INVALID;
        position = end;
        if (primed)
            pk_tape_restart(&codec->tape, &codec->model, position);
    }
}

/* Put the parts of the recipe together. */
static void put_recipe(const analysis *state, uint64_t flushes)
{
    pk_codec *codec = state->codec;
    pk_buffer *to = &codec->recipe;
    put_byte(to, state->with.rule);
    put_number(to, state->with.flags);
    put_number(to, state->with.limit);
    put_number(to, flushes);
    put_number(to, codec->points.length);
    put_number(to, codec->blocks.length);
    pk_buffer_put(to, codec->points.bytes, codec->points.length);
    pk_buffer_put(to, codec->blocks.bytes, codec->blocks.length);
    pk_buffer_put(to, codec->corrections.bytes, codec->corrections.length);
}

static pk_status analyse_once(analysis *state)
{
    uint64_t flushes;
    begin(state);
    pk_status status = analyse_blocks(state, &flushes);
    state->codec->tape.mode = PK_TAPE_OFF;
    state->codec->model.sure = 0;
    if (status != PK_OK)
        return status;
    put_recipe(state, flushes);
    return failure_of(state->codec);
}

/* Write the recipe with these settings to codec->recipe, and the model's answers to the tape.
 *
 * klauspost's levels 5 and 6 are seldom wrong. So their model does not keep its tables before it
 * looks ahead, which takes a tenth of the time; if it has to have them, all begins anew. */
static pk_status analyse(analysis *state)
{
    const pk_rules *rules = &pk_rule_table[state->with.rule];
    state->trusts = rules->kind == PK_KLAUSPOST && rules->chain >= 5;
    pk_status status = analyse_once(state);
    if (!state->lost)
        return status;
    state->trusts = 0;
    return analyse_once(state);
}

/* ---- Settings ---- */

static int is_good(const analysis *state, pk_status status)
{
    const pk_codec *codec = state->codec;
    return status == PK_OK && codec->mispredicted <= codec->token_total / GOOD_SHARE;
}

/* Write the recipe with the fewest corrections, of the ones that the likely trials give: for
 * segments of which the sample does not tell. */
static pk_status analyse_likely(analysis *state, pk_trials *of)
{
    uint64_t best = UINT64_MAX;
    unsigned chosen = 0;
    state->strict = 0;
    for (unsigned place = 0; place < of->likely; place++) {
        if (!pk_trials_set(of, place, &state->with))
            continue;
        pk_follow_far(state->segment, &state->with);
        if (analyse(state) == PK_OK && state->codec->mispredicted < best) {
            best = state->codec->mispredicted;
            chosen = place;
        }
    }
    pk_trials_set(of, chosen, &state->with);
    pk_follow_far(state->segment, &state->with);
    return analyse(state);
}

static int has_stored(const pk_segment *segment)
{
    size_t at = 0;
    while (at < segment->block_count
           && (segment->blocks[at].type != PK_STORED || !segment->blocks[at].plain))
        at++;
    return at < segment->block_count;
}

/* Write the recipe of the first rule, in order, that is not refused.
 *
 * Stored blocks tell as soon as coded ones, and text that is stored has often nothing else. */
static pk_status analyse_strictly(analysis *state, pk_trials *of)
{
    const pk_segment *segment = state->segment;
    pk_status status = PK_INVALID;
    state->refused = 1;
    for (unsigned place = 0; place < (of->likely ? of->likely : of->count); place++) {
        if (!pk_trials_set(of, place, &state->with))
            continue;
        if (pk_is_fast(&state->with) && !(state->with.flags & PK_FLAG_PRIMED)
            && segment->position > PK_WINDOW)
            continue; /* following the window is never quite right */
        status = analyse(state);
        if (!state->refused)
            break;
    }
    return status;
}

/* Find settings, and write their recipe: the first rule in order that gets the whole sample right,
 * or the one that gets most of it right. The recipe is a function of the segment alone, so that it
 * can be cached. */
static pk_status analyse_best(analysis *state, int guess)
{
    pk_codec *codec = state->codec;
    const pk_segment *segment = state->segment;
    pk_trials of;
    pk_trials_list(&of, segment, &state->with, pk_aligns_as_pigz(segment));
    if (!of.count)
        return PK_INVALID; /* a block that no encoder writes that has a model */
    for (state->strict = has_stored(segment) ? REFUSES_STORED : REFUSES_TOKENS; state->strict;
         state->strict--) {
        const pk_status status = analyse_strictly(state, &of);
        if (!state->refused)
            return of.likely && !is_good(state, status) ? analyse_likely(state, &of) : status;
    }
    if (pk_choose_rule(codec, &of, &state->with, guess) && state->with.limit == 32767) {
        /* Blocks of this many tokens are gzip's, or zlib's with its largest hash. */
        pk_settings other = state->with;
        other.flags ^= PK_FLAG_TRUNCATES;
        if (pk_try_rule(codec, segment, &other, UINT64_MAX - 1)
            < pk_try_rule(codec, segment, &state->with, UINT64_MAX - 1))
            state->with = other;
    }
    pk_follow_far(segment, &state->with);
    const pk_status status = analyse(state);
    return of.likely && !is_good(state, status) ? analyse_likely(state, &of) : status;
}

/* ---- Verification ---- */

/* Compare the bits of the segment with the ones that were rebuilt. */
static int same_bits(const pk_segment *segment, const uint8_t *made)
{
    const uint8_t *given = segment->input;
    const uint64_t whole = segment->end_bit / 8;
    const unsigned rest = segment->end_bit & 7;
    const uint8_t first = (uint8_t)(0xff << segment->start_bit),
                  tail = (uint8_t)((1u << rest) - 1);
    if (rest && (made[whole] ^ given[whole]) & tail & (whole ? 0xff : first))
        return 0;
    return !whole || (!((made[0] ^ given[0]) & first) && !memcmp(made + 1, given + 1, whole - 1));
}

/* Rebuild the segment from codec->recipe. All errors of the analysis come out here: only a recipe
 * that gives the segment's bits is used. The model is not asked again; model_tape.h says why. */
static pk_status verify(pk_codec *codec, const pk_segment *segment)
{
    uint64_t end_bit;
    pk_tape_play(&codec->tape);
    pk_status status = pk_rebuild(codec, segment->data, segment->window, segment->size,
                                  segment->position, codec->recipe.bytes, codec->recipe.length,
                                  segment->start_bit, segment->end_bit / 8 + 1, &end_bit);
    int played = pk_tape_ends(&codec->tape);
    if (status != PK_OK)
        return status;
    if (!played || end_bit != segment->end_bit || !same_bits(segment, codec->output.bytes))
        return PK_INVALID;
    return PK_OK;
}

/* Whether inflating the bits of a segment that ends within a block ends there again: not where the
 * stream is cut off. */
static int is_cut_for_length(const pk_segment *segment)
{
    const pk_block *block = &segment->blocks[segment->block_count - 1];
    return block->plain >= PK_MAX_BLOCK_PLAIN - PK_MAX_MATCH
           || (block->plain >= PK_SEGMENT_PLAIN && block->tokens >= PK_CUT_TOKENS);
}

pk_status pk_analyse(pk_codec *codec, const pk_segment *segment, int guess, uint8_t *recipe,
                     size_t capacity, size_t *length, uint64_t tokens[2])
{
    analysis state;
    memset(&state, 0, sizeof state);
    tokens[0] = tokens[1] = 0;
    state.codec = codec;
    state.segment = segment;
    codec->token_total = codec->mispredicted = 0;
    if (segment->open && !is_cut_for_length(segment))
        return PK_INVALID;
    pk_choose_limit(segment, &state.with);
    pk_choose_trees(segment, &state.with);
    state.with.flags |=
        (uint16_t)((segment->last ? PK_FLAG_LAST : 0) | (segment->goes_on ? PK_FLAG_GOES_ON : 0)
                   | (segment->open ? PK_FLAG_OPEN : 0));
    pk_status status = analyse_best(&state, guess);
    tokens[0] = codec->token_total;
    tokens[1] = codec->mispredicted;
    if (status != PK_OK)
        return status;
    if (codec->recipe.length > most_recipe(segment) || codec->recipe.length > capacity)
        return PK_INVALID;
    status = verify(codec, segment);
    if (status != PK_OK)
        return status;
    memcpy(recipe, codec->recipe.bytes, codec->recipe.length);
    *length = codec->recipe.length;
    return PK_OK;
}
