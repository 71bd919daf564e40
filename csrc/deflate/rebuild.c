/* Plaintext and a recipe to the bits of the stream.
 *
 * The model predicts token after token; the recipe's corrections replace the wrong ones. At the
 * end of each block its header is made, or read from the recipe, and the block is written.
 */
#include <string.h>

#include "deflate/block_ends.h"
#include "deflate/block_header.h"
#include "deflate/recipe.h"
#include "deflate/recipe_format.h"
#include "deflate/settings.h"
#include "deflate/workspace.h"

/* ---- Reading the recipe ---- */

typedef struct cursor {
    const uint8_t *at, *end;
    int failed; /* a number is cut off or too long; numbers read from then on are 0 */
} cursor;

/* Return the next number, below 2^63. */
static uint64_t get_number(cursor *from)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 63; shift += 7) {
        if (from->at == from->end)
            break;
        uint8_t byte = *from->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    from->failed = 1;
    return 0;
}

static unsigned get_byte(cursor *from)
{
    if (from->at == from->end) {
        from->failed = 1;
        return 0;
    }
    return *from->at++;
}

/* Read a header that was not predicted. */
static pk_status get_header(cursor *from, pk_header *header)
{
    header->literals = (uint16_t)(get_byte(from) + 257);
    header->distances = (uint16_t)(get_byte(from) + 1);
    header->codes = (uint8_t)get_byte(from);
    if (from->failed || header->literals > 286 || header->distances > 30 || header->codes < 4
        || header->codes > PK_CODES)
        return PK_INVALID;
    memset(header->code_lengths, 0, sizeof header->code_lengths);
    for (unsigned at = 0; at < header->codes; at++)
        header->code_lengths[pk_code_order[at]] = get_byte(from) & 7;
    unsigned total = header->literals + header->distances, at = 0;
    uint8_t lengths[PK_LENGTHS + 138];
    for (header->symbols = 0; at < total; header->symbols++) {
        unsigned symbol = get_byte(from), extra = symbol >= 16 ? get_byte(from) & 0x7f : 0;
        if (from->failed || symbol > 18 || (symbol == 16 && (!at || extra > 3))
            || (symbol == 17 && extra > 7))
            return PK_INVALID;
        unsigned repeat = symbol < 16 ? 1 : symbol == 18 ? extra + 11 : extra + 3;
        memset(lengths + at,
               symbol < 16    ? (int)symbol
               : symbol == 16 ? lengths[at - 1]
                              : 0,
               repeat);
        at += repeat;
        header->symbol[header->symbols] = (uint8_t)symbol;
        header->extra[header->symbols] = (uint8_t)extra;
    }
    if (at != total)
        return PK_INVALID;
    memset(header->lengths, 0, sizeof header->lengths);
    memcpy(header->lengths, lengths, header->literals);
    memcpy(header->lengths + PK_LITERALS, lengths + header->literals, header->distances);
    return PK_OK;
}

/* The recipe's records of blocks and corrections of tokens. */
typedef struct corrector {
    cursor blocks, tokens;
    uint64_t next_block; /* blocks that are predicted in whole before the next record */
    uint64_t next_token; /* tokens that are predicted right before the next correction */
    uint64_t token_head; /* first number of that correction */
} corrector;

static void next_correction(corrector *from)
{
    from->next_token = UINT64_MAX;
    if (from->tokens.at != from->tokens.end) {
        from->token_head = get_number(&from->tokens);
        from->next_token = from->token_head >> 1;
    }
}

static void next_record(corrector *from)
{
    from->next_block =
        from->blocks.at == from->blocks.end ? UINT64_MAX : get_number(&from->blocks);
}

/* Return the actual token.
 *
 * literal: the byte it would be as a literal. ahead: bytes of input left, which a match must not
 *     exceed. */
static inline pk_token corrected(corrector *from, pk_token predicted, uint8_t literal,
                                 uint32_t ahead)
{
    if (from->next_token--)
        return predicted;
    pk_token actual = literal;
    if (!(from->token_head & 1)) {
        uint64_t length = get_number(&from->tokens) + 3, distance = get_number(&from->tokens) + 1;
        if (length > PK_MAX_MATCH || distance > PK_WINDOW || length > ahead) {
            from->tokens.failed = 1;
            return predicted;
        }
        actual = (pk_token)(length << 16 | distance);
    }
    next_correction(from);
    return actual;
}

/* The facts of a block that its record gives; without a record, `given` is 0. */
typedef struct record {
    unsigned given; /* PK_GIVES_... */
    uint64_t count; /* tokens; UINT64_MAX if not given */
    unsigned type;
    uint32_t bytes;
    pk_header header;
} record;

/* Read the record of the next block, if it has one.
 *
 * ahead: bytes of plaintext up to the end of the encoder's input. */
static pk_status next_block(corrector *from, record *block, uint32_t ahead)
{
    uint64_t bytes = 0;
    block->given = 0;
    block->count = UINT64_MAX;
    block->type = PK_STORED;
    if (from->next_block-- != 0)
        return PK_OK;
    cursor *in = &from->blocks;
    block->given = get_byte(in);
    if (block->given & PK_GIVES_COUNT)
        block->count = get_number(in);
    if (block->given & PK_GIVES_TYPE)
        block->type = get_byte(in);
    if (block->given & PK_GIVES_HEADER && get_header(in, &block->header) != PK_OK)
        return PK_INVALID;
    if (block->given & PK_GIVES_BYTES)
        bytes = get_number(in);
    if (in->failed || block->given > PK_GIVES || block->type > PK_DYNAMIC || !block->count
        || bytes > ahead || bytes > PK_MAX_STORED)
        return PK_INVALID;
    block->bytes = (uint32_t)bytes;
    next_record(from);
    return PK_OK;
}

/* ---- Empty blocks ---- */

/* Write an empty block; its type comes from the recipe. */
static pk_status put_empty(pk_codec *codec, unsigned type, int last)
{
    if (type == PK_STORED) {
        pk_write_stored(&codec->output, (unsigned)last, NULL, 0);
    } else if (type == PK_FIXED) {
        pk_write_bits(&codec->output, (uint32_t)last | PK_FIXED << 1, 3);
        pk_write_bits(&codec->output, 0, 7);
    } else {
        return PK_INVALID;
    }
    return PK_OK;
}

/* pigz aligns its output with as few bits as it can. */
static void put_aligned(pk_codec *codec)
{
    if (codec->output.count & 1) {
        put_empty(codec, PK_STORED, 0);
        return;
    }
    while (codec->output.count & 7 && !codec->output.failed)
        put_empty(codec, PK_FIXED, 0);
}

/* ---- Blocks ---- */

typedef struct rebuilding {
    pk_codec *codec;
    pk_settings with;
    corrector from;
    uint32_t flush; /* the next flush point or end of the stream, 0 if there is none */
    int begun;      /* the next block is the one that began in the segment before */
    int goes_on;    /* what ends with the input, goes on in the next segment */
    int open;       /* that is so of the last block written */
} rebuilding;

static inline uint64_t lesser(uint64_t one, uint64_t other)
{
    return one < other ? one : other;
}

/* How many tokens of a block may come before one that can end it.
 *
 * count: tokens so far. ahead: bytes up to the end of the encoder's input. */
static uint64_t tokens_left(const pk_settings *with, const record *block, uint32_t count,
                            uint32_t ahead)
{
    const uint64_t most = lesser(block->count, PK_MAX_BLOCK_TOKENS),
                   left = lesser(most > count ? most - count : 0, ahead);
    return left ? lesser(left - 1, pk_tokens_before_end(with, count)) : 0;
}

/* Put tokens into the codec's that are known without asking for each: those that the
 * model has in hand, or the tape. None ends the block, its first unit or the input.
 *
 * start: of the block. here: where the last token ended; moved on. end: of the encoder's input.
 *     count: tokens of the block so far. Returns how many were put. */
static uint32_t put_run(rebuilding *state, const record *block, uint32_t start, uint32_t *here,
                        uint32_t end, uint32_t count)
{
    pk_codec *codec = state->codec;
    const pk_settings *with = &state->with;
    const unsigned kind = pk_kind_of(with);
    const int plays = codec->tape.mode == PK_TAPE_PLAYS;
    if ((!plays && !pk_model_may_run(&codec->model)) || kind == PK_MINIZ || kind == PK_IGZIP
        || codec->token_capacity == count)
        return 0;
    pk_token *to = codec->tokens + count;
    uint32_t last = end - 1;
    if ((kind == PK_KLAUSPOST || kind == PK_GO_SPEED) && *here - start < PK_UNIT)
        last = (uint32_t)lesser(last, (uint64_t)start + PK_UNIT - 1);
    uint64_t run = tokens_left(with, block, count, end - *here);
    run = lesser(lesser(run, state->from.next_token), codec->token_capacity - count);
    run = plays ? pk_tape_play_run(&codec->tape, here, last, run,
                                   !(with->flags & PK_FLAG_TRUNCATES), to)
                : pk_model_run(&codec->model, here, last, run, NULL, to);
    state->from.next_token -= run;
    return (uint32_t)run;
}

/* Put the tokens of a block into the codec's.
 *
 * at: the block's first byte; set to the one behind its last. end: of the encoder's input. tokens:
 *     set to their number. basis: set. */
static pk_status rebuild_tokens(rebuilding *state, const record *block, uint32_t *at, uint32_t end,
                                uint32_t *tokens, pk_header_basis *basis)
{
    pk_codec *codec = state->codec;
    const int lazy = pk_is_lazy(&state->with);
    pk_block_end block_end = {0, 0, *at};
    const uint32_t start = *at;
    uint32_t count = 0, here = start;
    for (int ended = 0; here < end && !ended;) {
        count += put_run(state, block, start, &here, end, count);
        codec->model.sure = (uint32_t)lesser(state->from.next_token, UINT32_MAX);
        pk_token predicted = pk_tape_predict(&codec->tape, &codec->model, here);
        pk_token actual = corrected(&state->from, predicted, codec->model.data[here], end - here);
        if (count == PK_MAX_BLOCK_TOKENS || state->from.tokens.failed)
            return PK_INVALID;
        if (pk_add_token(codec, count++, actual) != PK_OK)
            return PK_NO_MEMORY;
        pk_tape_accept(&codec->tape, &codec->model, here, predicted, actual);
        ended = block->given & PK_GIVES_COUNT
                    ? count == block->count
                    : pk_ends_block(&block_end, &state->with, count, actual, here, lazy);
        here += pk_token_bytes(actual);
        pk_extend_basis(basis, &state->with, count, here - start);
    }
    *at = here;
    *tokens = count;
    return PK_OK;
}

/* Write the codec's tokens as a block of the type and with the header that are predicted or given.
 *
 * start, plain: its plaintext. last: whether it is the stream's last. */
static pk_status put_block(rebuilding *state, const record *block, uint32_t start, uint32_t plain,
                           uint32_t tokens, pk_header_basis basis, int last)
{
    pk_codec *codec = state->codec;
    const pk_header_facts facts = pk_header_facts_of(&state->with, basis, tokens, plain,
                                                     state->flush ? state->flush - start : 0);
    pk_header predicted;
    unsigned type =
        (unsigned)pk_tape_predict_header(&codec->tape, &predicted, &facts, codec->tokens, tokens);
    if (block->given & PK_GIVES_TYPE)
        type = block->type;
    const int begun = state->begun, open = state->open;
    const pk_header *header = block->given & PK_GIVES_HEADER ? &block->header : &predicted;
    state->begun = 0;
    if (type == PK_STORED) {
        if (plain > PK_MAX_STORED || begun || open)
            return PK_INVALID;
        pk_write_stored(&codec->output, (unsigned)last, codec->model.data + start, plain);
        return PK_OK;
    }
    if (type == PK_DYNAMIC && !header->symbols)
        return PK_INVALID; /* none was predicted */
    if (begun)
        codec->begun = (pk_carry){(uint8_t)type, (uint8_t)last, *header};
    else
        pk_write_bits(&codec->output, (uint32_t)last | type << 1, 3);
    if (type == PK_FIXED) {
        uint8_t fixed[PK_LENGTHS];
        pk_fixed_lengths(fixed);
        pk_write_tokens(&codec->output, fixed, codec->tokens, tokens, !open);
    } else {
        if (!begun)
            pk_write_header(&codec->output, header);
        pk_write_tokens(&codec->output, header->lengths, codec->tokens, tokens, !open);
    }
    return PK_OK;
}

/* Write one block with plaintext.
 *
 * at: its first byte; set to the one behind its last. end: of the encoder's input. may_be_last:
 *     whether the block ends the stream if it reaches `end`. */
static pk_status rebuild_block(rebuilding *state, uint32_t *at, uint32_t end, int may_be_last)
{
    pk_codec *codec = state->codec;
    const uint32_t start = *at;
    record block;
    pk_status status = next_block(&state->from, &block, end - start);
    if (status != PK_OK)
        return status;
    if (block.given & PK_GIVES_BYTES) {
        if (state->begun)
            return PK_INVALID;
        *at = start + block.bytes;
        pk_write_stored(&codec->output, may_be_last && *at == end, codec->model.data + start,
                        block.bytes);
        pk_tape_restart(&codec->tape, &codec->model, *at);
        return PK_OK;
    }
    uint32_t tokens;
    pk_header_basis basis = {0, 0};
    status = rebuild_tokens(state, &block, at, end, &tokens, &basis);
    if (status != PK_OK)
        return status;
    state->open = state->goes_on && *at == end;
    return put_block(state, &block, start, *at - start, tokens, basis, may_be_last && *at == end);
}

/* Write the empty blocks at a flush point, or at the end of the segment.
 *
 * code: PK_EMPTY_... ends: whether they end the stream. */
static pk_status rebuild_empty(pk_codec *codec, cursor *from, unsigned code, int ends)
{
    switch (code) {
    case PK_EMPTY_STORED:
        return put_empty(codec, PK_STORED, ends);
    case PK_EMPTY_NONE:
        return PK_OK;
    case PK_EMPTY_ALIGNED:
        if (ends)
            return PK_INVALID;
        put_aligned(codec);
        return PK_OK;
    case PK_EMPTY_LISTED:
        break;
    default:
        return PK_INVALID;
    }
    uint64_t count = get_number(from);
    if (count > PK_MAX_EMPTY || !count)
        return PK_INVALID;
    while (count--)
        if (put_empty(codec, get_byte(from), ends && !count) != PK_OK)
            return PK_INVALID;
    return from->failed ? PK_INVALID : PK_OK;
}

/* ---- The segment ---- */

/* The head of a recipe, and the part with its flush points. */
typedef struct flush_points {
    uint64_t left; /* flush points before the segment's end that are not read yet */
    cursor in;
} flush_points;

/* Read the head of a recipe, and check it. */
static pk_status get_head(cursor *head, rebuilding *state, flush_points *points)
{
    pk_settings *with = &state->with;
    with->rule = (uint8_t)get_byte(head);
    const uint64_t flags = get_number(head);
    uint64_t limit = get_number(head);
    points->left = get_number(head);
    uint64_t flush_bytes = get_number(head), block_bytes = get_number(head);
    uint64_t left = (uint64_t)(head->end - head->at);
    if (head->failed || with->rule >= pk_rule_count || flags > PK_FLAGS || !limit
        || limit > PK_MAX_BLOCK_TOKENS || flush_bytes > left || block_bytes > left - flush_bytes
        || points->left > flush_bytes)
        return PK_INVALID;
    with->flags = (uint16_t)flags;
    if (with->flags & (PK_FLAG_GOES_ON | PK_FLAG_OPEN) && pk_is_klauspost(with))
        return PK_INVALID;
    if (with->flags & PK_FLAG_PRIMED && (with->flags & PK_FLAG_FAR || !pk_may_be_primed(with)))
        return PK_INVALID;
    const unsigned ways = with->flags & (PK_FLAG_FILLED | PK_FLAG_QUEUES);
    if (ways && (!pk_is_klauspost(with) || ways == (PK_FLAG_FILLED | PK_FLAG_QUEUES)))
        return PK_INVALID;
    with->limit = (uint32_t)limit;
    const uint8_t *blocks = head->at + flush_bytes, *tokens = blocks + block_bytes;
    points->in = (cursor){head->at, blocks, 0};
    state->from = (corrector){{blocks, tokens, 0}, {tokens, head->end, 0}, 0, 0, 0};
    next_record(&state->from);
    next_correction(&state->from);
    return PK_OK;
}

/* Read where the encoder's input ends next.
 *
 * at: where it ended before. size: the data's end. end, code: set to the offset, and to the
 *     PK_EMPTY_... of the blocks there. */
static pk_status next_end(flush_points *points, const pk_settings *with, uint32_t at, size_t size,
                          uint32_t *end, unsigned *code)
{
    if (!points->left) {
        *code = get_byte(&points->in);
        *end = (uint32_t)size;
        return points->in.failed ? PK_INVALID : PK_OK;
    }
    uint64_t coded = get_number(&points->in), gap = coded >> 2;
    if (points->in.failed || gap > size - at
        || (with->flags & PK_FLAG_PRIMED && gap && gap < PK_PRIMED_GAP))
        return PK_INVALID;
    *code = coded & 3;
    *end = at + (uint32_t)gap;
    return PK_OK;
}

/* Write all blocks with plaintext up to the end of the encoder's input. */
static pk_status rebuild_to(rebuilding *state, uint32_t at, uint32_t end, int may_be_last)
{
    pk_codec *codec = state->codec;
    pk_tape_see(&codec->tape, &codec->model, end);
    while (at < end) {
        pk_status status = rebuild_block(state, &at, end, may_be_last);
        if (status != PK_OK)
            return status;
        if (codec->output.failed)
            return codec->output.failed;
    }
    return PK_OK;
}

/* Write all blocks, from flush point to flush point. */
static pk_status rebuild_all(rebuilding *state, flush_points *points, uint32_t at, size_t size)
{
    const int last = (state->with.flags & PK_FLAG_LAST) != 0;
    state->begun = state->codec->begins_within = (state->with.flags & PK_FLAG_GOES_ON) != 0;
    for (;;) {
        unsigned code;
        uint32_t end;
        pk_status status = next_end(points, &state->with, at, size, &end, &code);
        if (status != PK_OK)
            return status;
        const int ends = last && !points->left; /* the stream, behind the empty blocks */
        state->goes_on = !points->left && state->with.flags & PK_FLAG_OPEN;
        if (state->goes_on && code != PK_EMPTY_NONE)
            return PK_INVALID;
        state->flush = points->left || last ? end : 0;
        status = rebuild_to(state, at, end, ends && code == PK_EMPTY_NONE);
        if (status != PK_OK)
            return status;
        if (state->begun || rebuild_empty(state->codec, &points->in, code, ends) != PK_OK)
            return PK_INVALID;
        if (!points->left)
            return state->open || !state->goes_on ? PK_OK : PK_INVALID;
        points->left--;
        at = end;
        if (state->with.flags & PK_FLAG_PRIMED)
            pk_tape_restart(&state->codec->tape, &state->codec->model, at);
    }
}

/* Tell whether the recipe was read to its end, and without an error. */
static int is_spent(const rebuilding *state, const flush_points *points)
{
    const cursor *parts[] = {&points->in, &state->from.blocks, &state->from.tokens};
    for (size_t at = 0; at < sizeof parts / sizeof *parts; at++)
        if (parts[at]->at != parts[at]->end || parts[at]->failed)
            return 0;
    return 1;
}

pk_status pk_rebuild(pk_codec *codec, const uint8_t *data, size_t window, size_t size,
                     uint64_t position, const uint8_t *recipe, size_t recipe_length, unsigned bit,
                     size_t most, uint64_t *end_bit)
{
    cursor head = {recipe, recipe + recipe_length, 0};
    rebuilding state = {.codec = codec};
    flush_points points;
    if (window > PK_FAR_WINDOW || window > size || size - window > PK_MAX_SEGMENT_PLAIN || bit > 7
        || position < window)
        return PK_INVALID;
    if (get_head(&head, &state, &points) != PK_OK)
        return PK_INVALID;
    pk_writer_start(&codec->output, bit, most);
    if (codec->tape.mode != PK_TAPE_PLAYS)
        pk_model_clear(&codec->model);
    pk_tape_start(&codec->tape, &codec->model, &pk_rule_table[state.with.rule],
                  pk_hash_bits_of(&state.with), data, (uint32_t)window, (uint32_t)size,
                  position - window, pk_follow_of(&state.with));
    pk_status status = rebuild_all(&state, &points, (uint32_t)window, size);
    if (status != PK_OK)
        return status;
    if (!is_spent(&state, &points))
        return PK_INVALID;
    return pk_writer_end(&codec->output, end_bit);
}

int pk_codec_carry(const pk_codec *codec, pk_carry *carry)
{
    if (codec->begins_within)
        *carry = codec->begun;
    return codec->begins_within;
}
