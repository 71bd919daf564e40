/* A segment that was inflated to its recipe. */
#include "deflate/workspace.h"

#include <string.h>

enum { SAMPLE_TOKENS = 12288 }; /* of a segment, that tell whether a rule is right */

static void put_number(buffer *to, uint64_t value)
{
    uint8_t bytes[10];
    size_t length = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[length++] = (uint8_t)(value | 0x80);
    bytes[length++] = (uint8_t)value;
    pk_put(to, bytes, length);
}

static void put_byte(buffer *to, unsigned value)
{
    uint8_t byte = (uint8_t)value;
    pk_put(to, &byte, 1);
}

/* Whether the encoder was flushed behind a block, though no empty one tells: pigz writes none where a byte
 * has just ended. Other encoders' blocks end at their limit there, or in the manner of gzip. */
static int ends_at_flush(const pk_segment *segment, const settings *with, size_t block)
{
    const pk_block *what = &segment->blocks[block];
    return !(with->flags & FLAG_TRUNCATES) && pk_rule_table[with->rule].kind != PK_GO_SPEED
           && what->type != PK_STORED && what->tokens < with->limit
           && block + 1 < segment->block_count && what[1].plain && !what[1].bit;
}

/* The next flush point behind block `block`: the first block behind it, often an empty one. */
static size_t next_flush(const pk_segment *segment, const settings *with, size_t block)
{
    while (block < segment->block_count && segment->blocks[block].plain) {
        if (ends_at_flush(segment, with, block))
            return block + 1;
        block++;
    }
    return block;
}

static uint32_t flush_position(const pk_segment *segment, size_t block)
{
    return block < segment->block_count ? segment->blocks[block].start : (uint32_t)segment->size;
}

/* pigz: one stored block at an odd bit, else as many fixed ones as it takes. */
static int aligned(const pk_block *empty, size_t count)
{
    if (empty->bit & 1)
        return count == 1 && empty->type == PK_STORED;
    for (size_t at = 0; at < count; at++)
        if (empty[at].type != PK_FIXED)
            return 0;
    return count == ((8u - empty->bit) & 7) / 2;
}

/* Note the empty blocks from `block` on; returns the first block behind them, 0 if they are not of a kind
 * that can be noted. */
static size_t note_empty(buffer *to, const pk_segment *segment, size_t block, uint32_t gap)
{
    size_t end = block;
    while (end < segment->block_count && !segment->blocks[end].plain)
        end++;
    size_t count = end - block;
    int at_end = end == segment->block_count;
    const pk_block *empty = &segment->blocks[block];
    unsigned code = EMPTY_LISTED;
    if (!count) {
        code = EMPTY_NONE;
    } else if (!at_end) {
        code = aligned(empty, count) ? EMPTY_ALIGNED : EMPTY_LISTED;
    }
    if (count == 1 && empty->type == PK_STORED)
        code = EMPTY_STORED;
    if (at_end)
        put_byte(to, code);
    else
        put_number(to, (uint64_t)gap << 2 | code);
    if (code == EMPTY_LISTED) {
        if (count > MAX_EMPTY)
            return 0;
        put_number(to, count);
        for (size_t at = 0; at < count; at++) {
            if (empty[at].type == PK_DYNAMIC)
                return 0;
            put_byte(to, empty[at].type);
        }
    }
    return end;
}

static void put_header_given(buffer *to, const pk_header *header)
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

static int same_header(const pk_header *one, const pk_header *other)
{
    return one->literals == other->literals && one->distances == other->distances
           && one->codes == other->codes && one->symbols == other->symbols
           && !memcmp(one->code_lengths, other->code_lengths, sizeof one->code_lengths)
           && !memcmp(one->symbol, other->symbol, one->symbols)
           && !memcmp(one->extra, other->extra, one->symbols);
}

typedef struct analysis {
    const pk_segment *segment;
    settings with;
    uint64_t right_tokens, right_blocks; /* since the last correction */
    int strict;                          /* refuse a rule that gets a token of the sample wrong */
    int refused;                         /* it does: there is no recipe */
} analysis;

/* `number` is the token's in its block. */
static void note_token(pk_codec *codec, analysis *state, pk_token predicted, pk_token actual,
                       uint32_t number)
{
    if (predicted == actual) {
        state->right_tokens++;
        return;
    }
    codec->mispredicted++;
    state->refused = state->strict && codec->token_total + number < SAMPLE_TOKENS;
    put_number(&codec->corrections, state->right_tokens << 1 | (actual < 256));
    if (actual >= 256) {
        put_number(&codec->corrections, (actual >> 16) - 3);
        put_number(&codec->corrections, (actual & 0xffff) - 1);
    }
    state->right_tokens = 0;
}

/* Whether the model, left alone, makes of a stored block one block that its encoder would store. */
static int predicts_stored(pk_codec *codec, const settings *with, const pk_block *block,
                           uint32_t input_end)
{
    uint32_t at = block->start, end = block->start + block->plain, tokens = 0;
    block_end state = {{0, 0}, block->start};
    int ended = 0;
    while (at < end && !ended) {
        pk_token token = pk_tape_predict(&codec->tape, &codec->model, at);
        if (add_token(codec, tokens++, token))
            return 0;
        pk_tape_accept(&codec->tape, &codec->model, at, token, token);
        ended = ends_block(&state, with, tokens, token, at, is_lazy(with));
        at += step(token);
    }
    if (at != end || (!ended && end != input_end))
        return 0;
    pk_counts counts;
    pk_header header;
    pk_count(&counts, codec->tokens, tokens);
    return pk_make_header(&header, trees_of(with), &counts, block->plain) == PK_STORED;
}

static void analyse_block(pk_codec *codec, analysis *state, const pk_block *block,
                          uint32_t input_end)
{
    const settings *with = &state->with;
    unsigned gives = 0;
    pk_header predicted;
    if (block->type == PK_STORED) {
        uint64_t right = state->right_tokens;
        tape_mark mark = pk_tape_mark(&codec->tape);
        if (predicts_stored(codec, with, block, input_end)) {
            /* The recipe counts tokens of such blocks as well: they were predicted, and right. */
            uint32_t tokens = 0, at = block->start;
            while (at < block->start + block->plain)
                at += step(codec->tokens[tokens++]);
            state->right_tokens = right + tokens;
        } else {
            gives = GIVES_BYTES;
            pk_tape_restart_from(&codec->tape, &codec->model, mark, block->start + block->plain);
        }
    } else {
        block_end end_state = {{0, 0}, block->start};
        uint32_t at = block->start, predicted_count = 0;
        const pk_token *tokens = state->segment->tokens + block->first_token;
        int lazy = is_lazy(with);
        for (uint32_t token = 0; token < block->tokens; token++) {
            pk_token guess = pk_tape_predict(&codec->tape, &codec->model, at);
            note_token(codec, state, guess, tokens[token], token);
            if (state->refused || codec->corrections.failed)
                return;
            pk_tape_accept(&codec->tape, &codec->model, at, guess, tokens[token]);
            if (ends_block(&end_state, with, token + 1, tokens[token], at, lazy)
                && !predicted_count)
                predicted_count = token + 1;
            at += step(tokens[token]);
        }
        codec->token_total += block->tokens;
        if (predicted_count ? predicted_count != block->tokens : at != input_end)
            gives |= GIVES_COUNT;
        pk_counts counts;
        pk_count(&counts, tokens, block->tokens);
        int type = pk_make_header(&predicted, trees_of(with), &counts, block->plain);
        if (type != block->type)
            gives |= GIVES_TYPE;
        if (block->type == PK_DYNAMIC && !same_header(&predicted, &block->header))
            gives |= GIVES_HEADER;
    }
    if (!gives) {
        state->right_blocks++;
        return;
    }
    put_number(&codec->blocks, state->right_blocks);
    state->right_blocks = 0;
    put_byte(&codec->blocks, gives);
    if (gives & GIVES_COUNT)
        put_number(&codec->blocks, block->tokens);
    if (gives & GIVES_TYPE)
        put_byte(&codec->blocks, block->type);
    if (gives & GIVES_HEADER)
        put_header_given(&codec->blocks, &block->header);
    if (gives & GIVES_BYTES)
        put_number(&codec->blocks, block->plain);
}

/* How many of the segment's first tokens a rule gets wrong; gives up above `most`. */
static uint64_t try_rule(pk_codec *codec, const pk_segment *segment, const settings *with,
                         uint64_t most)
{
    uint64_t wrong = 0, tried = 0;
    pk_model_start(&codec->model, &pk_rule_table[with->rule], hash_bits_of(with), segment->data,
                   (uint32_t)segment->window, (uint32_t)segment->size,
                   segment->position - segment->window, follow_of(with));
    for (size_t at = 0; at < segment->block_count && tried < SAMPLE_TOKENS; at++) {
        const pk_block *block = &segment->blocks[at];
        uint32_t position = block->start;
        if (with->flags & FLAG_PRIMED
            && (!block->plain || (at && ends_at_flush(segment, with, at - 1))))
            pk_model_restart(&codec->model, position);
        const pk_token *tokens = segment->tokens + block->first_token;
        if (block->type == PK_STORED && block->plain) {
            pk_model_restart(&codec->model, block->start + block->plain);
            continue;
        }
        pk_model_see(&codec->model, flush_position(segment, next_flush(segment, with, at)));
        for (uint32_t token = 0; token < block->tokens && tried < SAMPLE_TOKENS;
             token++, tried++) {
            pk_token guess = pk_model_predict(&codec->model, position);
            wrong += guess != tokens[token];
            if (wrong > most)
                return wrong;
            pk_model_accept(&codec->model, position, guess, tokens[token]);
            position += step(tokens[token]);
        }
    }
    return wrong;
}

/* The limit of a block's tokens, from the blocks that did not end at a flush point. */
static void choose_limit(const pk_segment *segment, settings *with)
{
    uint32_t greatest = 0, first = 0;
    size_t ended = 0, alike = 0; /* blocks that ended by themselves; with as many tokens as any */
    int multiples = 1, full = 1;
    for (size_t at = 0; at < segment->block_count; at++) {
        const pk_block *block = &segment->blocks[at];
        if (block->tokens > greatest) {
            greatest = block->tokens;
            alike = 0;
        }
        int cut = at + 1 == segment->block_count || !segment->blocks[at + 1].plain;
        if (block->type == PK_STORED || cut)
            continue;
        if (!first)
            first = block->tokens;
        ended++;
        alike += block->tokens == greatest;
        multiples = multiples && (block->tokens % 4096 == 0 || block->tokens == 32767);
        full = full && (block->tokens == 32767 || block->tokens == 16384);
    }
    if (first && multiples && (first == 32767 || !full)) {
        with->limit = 32767;
        with->flags |= FLAG_TRUNCATES;
    } else if (alike * 2 > ended) {
        with->limit = greatest;
    } else {
        with->limit = greatest <= 16383 ? 16383 : greatest <= 32767 ? 32767 : greatest;
    }
}

static void choose_trees(const pk_segment *segment, settings *with)
{
    for (size_t at = 0; at < segment->block_count; at++) {
        const pk_block *block = &segment->blocks[at];
        pk_counts counts;
        pk_header header;
        if (block->type != PK_DYNAMIC)
            continue;
        pk_count(&counts, segment->tokens + block->first_token, block->tokens);
        pk_make_header(&header, PK_TREES_ZLIB, &counts, block->plain);
        int zlib = same_header(&header, &block->header);
        pk_make_header(&header, PK_TREES_GO, &counts, block->plain);
        int go = same_header(&header, &block->header);
        if (zlib != go) {
            with->flags |= go ? FLAG_GO_TREES : 0;
            return;
        }
    }
}

/* The rules in the order they are tried in: the usual levels first, and 0 at the end. */
static unsigned rule_at(unsigned place)
{
    static const uint8_t order[] = {6,  9,  23, 15, 18, 1,  2,  3,  4,  5,  7,  8,  10, 11, 12,
                                    13, 14, 16, 17, 19, 20, 28, 21, 22, 24, 25, 26, 27, 0};
    return order[place];
}

/* Whether the empty blocks are those of pigz, which aligns with as few bits as it can; other encoders' are
 * found at odd bits only by chance. */
static int aligns_as_pigz(const pk_segment *segment)
{
    int even = 0;
    uint32_t last = (uint32_t)segment->window;
    for (size_t at = 0; at < segment->block_count;) {
        const pk_block *empty = &segment->blocks[at];
        size_t end = at;
        while (end < segment->block_count && !segment->blocks[end].plain)
            end++;
        if (end > at && end < segment->block_count) {
            if (!aligned(empty, end - at)
                || (empty->start > last && empty->start - last < PRIMED_GAP))
                return 0;
            last = empty->start;
            even = even || !(empty->bit & 1);
        }
        at = end > at ? end : at + 1;
    }
    return even;
}

static void set_rule(settings *with, unsigned rule, int primed)
{
    with->rule = (uint8_t)rule;
    with->flags &= (uint8_t)~FLAG_PRIMED;
    if (primed && pk_rule_table[rule].kind == PK_FAST)
        with->flags |= FLAG_PRIMED;
}

/* The rule that gets the fewest tokens of the sample wrong, of equals the first in order. A good guess saves
 * time, and that is all it does. */
static uint64_t choose_rule(pk_codec *codec, const pk_segment *segment, settings *with, int guess,
                            int primed)
{
    uint64_t best = UINT64_MAX - 1;
    unsigned chosen = rule_at(0);
    int behind = 1; /* rules that are tried must be better, not as good */
    if (guess >= 0 && guess < (int)pk_rule_count) {
        set_rule(with, (unsigned)guess, primed);
        best = try_rule(codec, segment, with, best);
        chosen = (unsigned)guess;
        behind = 0;
    }
    for (unsigned place = 0; place < pk_rule_count && best >= (unsigned)behind; place++) {
        if (!behind && rule_at(place) == chosen) {
            behind = 1;
            continue;
        }
        set_rule(with, rule_at(place), primed);
        uint64_t wrong = try_rule(codec, segment, with, best - (unsigned)behind);
        if (wrong <= best - (unsigned)behind) {
            best = wrong;
            chosen = with->rule;
            behind = 1;
        }
    }
    set_rule(with, chosen, primed);
    return best;
}

/* Longer recipes do not pay. */
static size_t most_recipe(const pk_segment *segment)
{
    return (size_t)((segment->end_bit - segment->start_bit + 7) / 8 * 3 / 100 + 16);
}

static int analyse(pk_codec *codec, analysis *state)
{
    const pk_segment *segment = state->segment;
    buffer *recipe = &codec->recipe;
    uint64_t flushes = 0;
    size_t block = 0, most = segment->end_bit / 8 + 64;
    buffer points = {0};
    uint32_t position = (uint32_t)segment->window;
    points.most = most;
    codec->token_total = codec->mispredicted = 0;
    state->right_tokens = state->right_blocks = 0;
    state->refused = 0;
    reset(recipe, most);
    reset(&codec->blocks, most);
    reset(&codec->corrections,
          most_recipe(segment)); /* it need not go on when there will be no recipe */
    codec->tape.mode = TAPE_RECORDS;
    pk_model_clear(&codec->model);
    pk_tape_start(&codec->tape, &codec->model, &pk_rule_table[state->with.rule],
                  hash_bits_of(&state->with), segment->data, position, (uint32_t)segment->size,
                  segment->position - segment->window, follow_of(&state->with));
    for (;;) {
        size_t flush = next_flush(segment, &state->with, block);
        uint32_t end = flush_position(segment, flush);
        pk_tape_see(&codec->tape, &codec->model, end);
        for (; block < flush && !state->refused && !codec->corrections.failed; block++) {
            if (segment->blocks[block].type != PK_STORED || segment->blocks[block].plain)
                analyse_block(codec, state, &segment->blocks[block], end);
        }
        if (state->refused || codec->blocks.failed || codec->corrections.failed
            || codec->tape.failed)
            break;
        size_t behind = note_empty(&points, segment, flush, end - position);
        if (!behind) {
            points.failed = PK_INVALID;
            break;
        }
        block = behind;
        if (block == segment->block_count)
            break;
        if (state->with.flags & FLAG_PRIMED && end != position && end - position < PRIMED_GAP) {
            points.failed = PK_INVALID;
            break;
        }
        flushes++;
        position = end;
        if (state->with.flags & FLAG_PRIMED)
            pk_tape_restart(&codec->tape, &codec->model, position);
    }
    put_byte(recipe, state->with.rule);
    put_byte(recipe, state->with.flags);
    put_number(recipe, state->with.limit);
    put_number(recipe, flushes);
    put_number(recipe, points.length);
    put_number(recipe, codec->blocks.length);
    pk_put(recipe, points.bytes, points.length);
    pk_put(recipe, codec->blocks.bytes, codec->blocks.length);
    pk_put(recipe, codec->corrections.bytes, codec->corrections.length);
    codec->tape.mode = TAPE_OFF;
    int failed = codec->tape.failed          ? codec->tape.failed
                 : points.failed             ? points.failed
                 : codec->blocks.failed      ? codec->blocks.failed
                 : codec->corrections.failed ? codec->corrections.failed
                                             : recipe->failed;
    free(points.bytes);
    return failed;
}

/* Settings by trial, and the recipe they give: those of the first rule that gets the whole sample right, if
 * there is one. The recipe is a function of the segment alone, so that it may be remembered. */
static int analyse_best(pk_codec *codec, analysis *state, int guess)
{
    const pk_segment *segment = state->segment;
    const int primed = aligns_as_pigz(segment);
    state->strict = 1;
    for (unsigned place = 0; place < pk_rule_count; place++) {
        set_rule(&state->with, rule_at(place), primed);
        if (is_fast(&state->with) && !(state->with.flags & FLAG_PRIMED)
            && segment->position > PK_WINDOW)
            continue; /* following the window is never quite right */
        int failed = analyse(codec, state);
        if (!state->refused)
            return failed;
    }
    state->strict = 0;
    if (choose_rule(codec, segment, &state->with, guess, primed) && state->with.limit == 32767) {
        /* As many tokens are a block of gzip's, or of zlib's with its largest hash. */
        settings other = state->with;
        other.flags ^= FLAG_TRUNCATES;
        if (try_rule(codec, segment, &other, UINT64_MAX - 1)
            < try_rule(codec, segment, &state->with, UINT64_MAX - 1))
            state->with = other;
    }
    /* Following all of the window is more often right, and takes longer: not for trials. */
    if (is_fast(&state->with) && !(state->with.flags & FLAG_PRIMED) && segment->window > PK_WINDOW)
        state->with.flags |= FLAG_FAR;
    return analyse(codec, state);
}

int64_t pk_analyse(pk_codec *codec, const pk_segment *segment, int guess, uint8_t *recipe,
                   size_t capacity, uint64_t tokens[2])
{
    analysis state;
    memset(&state, 0, sizeof state);
    state.segment = segment;
    choose_limit(segment, &state.with);
    choose_trees(segment, &state.with);
    if (segment->last)
        state.with.flags |= FLAG_LAST;
    int failed = analyse_best(codec, &state, guess);
    tokens[0] = codec->token_total;
    tokens[1] = codec->mispredicted;
    if (failed)
        return failed == PK_NO_MEMORY ? PK_NO_MEMORY : PK_INVALID;
    if (codec->recipe.length > most_recipe(segment) || codec->recipe.length > capacity)
        return PK_INVALID;
    /* Whatever the analysis got wrong, here it comes out: only what gives back the bits is used. The model
     * is not asked again, see deflate/model_tape.h. */
    pk_tape_play(&codec->tape);
    int64_t bits = pk_rebuild(codec, segment->data, segment->window, segment->size,
                              segment->position, codec->recipe.bytes, codec->recipe.length,
                              segment->start_bit, segment->end_bit / 8 + 1);
    if (!pk_tape_ends(&codec->tape) || bits < 0 || (uint64_t)bits != segment->end_bit)
        return bits == PK_NO_MEMORY ? PK_NO_MEMORY : PK_INVALID;
    uint64_t whole = segment->end_bit / 8;
    uint8_t first = (uint8_t)(0xff << segment->start_bit),
            tail = (uint8_t)((1u << (bits & 7)) - 1);
    const uint8_t *made = codec->output.bytes, *given = segment->input;
    if (bits & 7 && (made[whole] ^ given[whole]) & tail & (whole ? 0xff : first))
        return PK_INVALID;
    if (whole && ((made[0] ^ given[0]) & first || memcmp(made + 1, given + 1, whole - 1)))
        return PK_INVALID;
    memcpy(recipe, codec->recipe.bytes, codec->recipe.length);
    return (int64_t)codec->recipe.length;
}
