#include "pk_deflate.h"

#include <stdlib.h>
#include <string.h>

#include "pk_codes.h"
#include "pk_match.h"

enum {
    FLAG_TRUNCATES = 1,              /* blocks end early, in the manner of gzip */
    FLAG_GO_TREES = 2,
    FLAG_LAST = 4,                   /* the last block ends the stream */
    FLAGS = 7
};
enum { EMPTY_STORED = 0, EMPTY_ALIGNED = 1, EMPTY_NONE = 2, EMPTY_LISTED = 3 };
enum { GIVES_COUNT = 1, GIVES_TYPE = 2, GIVES_HEADER = 4, GIVES_BYTES = 8 };
enum { SAMPLE_TOKENS = 12288, MAX_EMPTY = 64 };

typedef struct buffer {
    uint8_t *bytes;
    size_t length, capacity, most;
    int failed;
} buffer;

static void put(buffer *to, const void *bytes, size_t length)
{
    if (to->failed)
        return;
    if (length > to->capacity - to->length) {
        size_t wanted = (to->length + length) * 2 + 256;
        uint8_t *moved = realloc(to->bytes, wanted);
        if (!moved) {
            to->failed = PK_NO_MEMORY;
            return;
        }
        to->bytes = moved;
        to->capacity = wanted;
    }
    if (length)
        memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
    if (to->length > to->most)
        to->failed = PK_INVALID;
}

static void put_number(buffer *to, uint64_t value)
{
    uint8_t bytes[10];
    size_t length = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[length++] = (uint8_t)(value | 0x80);
    bytes[length++] = (uint8_t)value;
    put(to, bytes, length);
}

static void put_byte(buffer *to, unsigned value)
{
    uint8_t byte = (uint8_t)value;
    put(to, &byte, 1);
}

typedef struct cursor {
    const uint8_t *at, *end;
    int failed;
} cursor;

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

/* What of an encoder does not change within a segment. */
typedef struct settings {
    uint8_t rule;
    uint8_t flags;
    uint32_t limit;                  /* tokens of a block */
} settings;

static unsigned hash_bits_of(const settings *with)
{
    /* zlib's memLevel sets both: its buffer for tokens and its hash. gzip's are fixed. */
    unsigned bits = 15;
    if (!(with->flags & FLAG_TRUNCATES))
        for (bits = 8; bits < 16 && 1u << (bits - 1) <= with->limit; bits++)
            ;
    return bits;
}

struct pk_codec {
    pk_model model;
    buffer recipe, blocks, corrections, output;
    pk_token *tokens;
    size_t token_capacity;
    uint64_t bits;                   /* of the output's last byte, not yet in it */
    unsigned bit_count;
    uint64_t token_total, mispredicted;
};

pk_codec *pk_codec_new(void)
{
    return calloc(1, sizeof(pk_codec));
}

void pk_codec_free(pk_codec *codec)
{
    if (!codec)
        return;
    free(codec->recipe.bytes);
    free(codec->blocks.bytes);
    free(codec->corrections.bytes);
    free(codec->output.bytes);
    free(codec->tokens);
    free(codec);
}

const uint8_t *pk_codec_result(const pk_codec *codec)
{
    return codec->output.bytes;
}

static void reset(buffer *what, size_t most)
{
    what->length = 0;
    what->most = most;
    what->failed = 0;
}

static int add_token(pk_codec *codec, size_t count, pk_token token)
{
    if (count == codec->token_capacity) {
        size_t wanted = count * 2 + (1 << 14);
        pk_token *moved = realloc(codec->tokens, wanted * sizeof *moved);
        if (!moved)
            return PK_NO_MEMORY;
        codec->tokens = moved;
        codec->token_capacity = wanted;
    }
    codec->tokens[count] = token;
    return PK_OK;
}

/* gzip's guess whether to end a block at a multiple of 4096 tokens (trees.c, ct_tally). `in` is how far
 * its match finder had come, counted from the block's start. */
typedef struct truncation {
    uint32_t distances;
    uint64_t bits;
} truncation;

static int truncates(truncation *state, const settings *with, uint32_t count, pk_token token, uint32_t in)
{
    if (token >= 256) {
        state->distances++;
        state->bits += 5 + pk_distance_extra[pk_distance_symbol(token & 0xffff)];
    }
    if (with->rule <= 2 || count % 4096)
        return 0;
    return state->distances < count / 2 && (((uint64_t)count * 8 + state->bits) >> 3) < in / 2;
}

/* Tokens of a block, up to where the encoder is predicted to end it: at its limit, at gzip's guess, or
 * where its input ends. */
typedef struct block_end {
    truncation guess;
    uint32_t start;
} block_end;

static int ends_block(block_end *state, const settings *with, uint32_t count, pk_token token, uint32_t at,
                      int lazy)
{
    if (count == with->limit)
        return 1;
    if (!(with->flags & FLAG_TRUNCATES))
        return 0;
    return truncates(&state->guess, with, count, token, at + (lazy ? 1 : 0) - state->start);
}

static int is_lazy(const settings *with)
{
    return pk_rule_table[with->rule].kind == PK_LAZY;
}

static int trees_of(const settings *with)
{
    return with->flags & FLAG_GO_TREES ? PK_TREES_GO : PK_TREES_ZLIB;
}

static inline uint32_t step(pk_token token)
{
    return token >> 16 ? token >> 16 : 1;
}

/* ---- Rebuilding ---- */

static void flush_bits(pk_codec *codec)
{
    uint8_t bytes[8] = {0};
    unsigned count = codec->bit_count >> 3;
    for (unsigned at = 0; at < count; at++)
        bytes[at] = (uint8_t)(codec->bits >> (8 * at));
    put(&codec->output, bytes, count);
    codec->bits = count == 8 ? 0 : codec->bits >> (8 * count);
    codec->bit_count &= 7;
}

static inline void put_bits(pk_codec *codec, uint32_t value, unsigned count)
{
    if (codec->bit_count + count > 56)
        flush_bits(codec);
    codec->bits |= (uint64_t)value << codec->bit_count;
    codec->bit_count += count;
}

static void put_stored(pk_codec *codec, int last, const uint8_t *bytes, uint32_t length)
{
    put_bits(codec, (uint32_t)last, 3);
    put_bits(codec, 0, -codec->bit_count & 7);
    put_bits(codec, length | (uint32_t)(uint16_t)~length << 16, 32);
    flush_bits(codec);
    put(&codec->output, bytes, length);
}

static void put_header(pk_codec *codec, const pk_header *header)
{
    uint16_t codes[PK_CODES];
    pk_assign_codes(codes, header->code_lengths, PK_CODES);
    put_bits(codec, header->literals - 257u, 5);
    put_bits(codec, header->distances - 1u, 5);
    put_bits(codec, header->codes - 4u, 4);
    for (unsigned at = 0; at < header->codes; at++)
        put_bits(codec, header->code_lengths[pk_code_order[at]], 3);
    for (unsigned at = 0; at < header->symbols; at++) {
        unsigned symbol = header->symbol[at];
        put_bits(codec, codes[symbol], header->code_lengths[symbol]);
        if (symbol >= 16)
            put_bits(codec, header->extra[at], symbol == 16 ? 2 : symbol == 17 ? 3 : 7);
    }
}

static void put_tokens(pk_codec *codec, const uint8_t lengths[PK_LENGTHS], size_t count)
{
    uint16_t codes[PK_LENGTHS];
    pk_assign_codes(codes, lengths, PK_LITERALS);
    pk_assign_codes(codes + PK_LITERALS, lengths + PK_LITERALS, PK_DISTANCES);
    for (size_t at = 0; at < count; at++) {
        pk_token token = codec->tokens[at];
        if (token < 256) {
            put_bits(codec, codes[token], lengths[token]);
            continue;
        }
        unsigned length = token >> 16, distance = token & 0xffff;
        unsigned first = pk_length_symbol(length), second = pk_distance_symbol(distance);
        put_bits(codec, codes[257 + first], lengths[257 + first]);
        put_bits(codec, length - pk_length_base[first], pk_length_extra[first]);
        put_bits(codec, codes[PK_LITERALS + second], lengths[PK_LITERALS + second]);
        put_bits(codec, distance - pk_distance_base[second], pk_distance_extra[second]);
    }
    put_bits(codec, codes[256], lengths[256]);
}

static int put_empty(pk_codec *codec, unsigned type, int last)
{
    if (type == PK_STORED) {
        put_stored(codec, last, NULL, 0);
    } else if (type == PK_FIXED) {
        put_bits(codec, (uint32_t)last | PK_FIXED << 1, 3);
        put_bits(codec, 0, 7);
    } else {
        return PK_INVALID;
    }
    return PK_OK;
}

/* pigz aligns its output with as few bits as it can. */
static void put_aligned(pk_codec *codec)
{
    if (codec->bit_count & 1) {
        put_empty(codec, PK_STORED, 0);
        return;
    }
    while (codec->bit_count & 7)
        put_empty(codec, PK_FIXED, 0);
}

static int get_header(cursor *from, pk_header *header)
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
        memset(lengths + at, symbol < 16 ? (int)symbol : symbol == 16 ? lengths[at - 1] : 0, repeat);
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

/* What a recipe says where the prediction was wrong. */
typedef struct corrector {
    cursor blocks, tokens;
    uint64_t next_block, next_token; /* how many predictions are right before the next correction */
    uint64_t token_head;
} corrector;

static void next_correction(corrector *from)
{
    from->next_token = UINT64_MAX;
    if (from->tokens.at != from->tokens.end) {
        from->token_head = get_number(&from->tokens);
        from->next_token = from->token_head >> 1;
    }
}

static void next_exception(corrector *from)
{
    from->next_block = from->blocks.at == from->blocks.end ? UINT64_MAX : get_number(&from->blocks);
}

static pk_token corrected(corrector *from, pk_token predicted, uint8_t literal, uint32_t ahead)
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

/* Write one block that starts at `start` and has plaintext; returns its end, negative on failure. */
static int64_t rebuild_block(pk_codec *codec, const settings *with, corrector *from, uint32_t start,
                             uint32_t end, int may_be_last)
{
    unsigned given = 0;
    uint64_t count = UINT64_MAX, bytes = 0;
    unsigned type = PK_STORED;
    pk_header header;
    if (from->next_block-- == 0) {
        given = get_byte(&from->blocks);
        if (given & GIVES_COUNT)
            count = get_number(&from->blocks);
        if (given & GIVES_TYPE)
            type = get_byte(&from->blocks);
        if (given & GIVES_HEADER && get_header(&from->blocks, &header))
            return PK_INVALID;
        if (given & GIVES_BYTES)
            bytes = get_number(&from->blocks);
        if (from->blocks.failed || given > 15 || type > PK_DYNAMIC || !count
            || bytes > end - start || bytes > 65535)
            return PK_INVALID;
        next_exception(from);
    }
    if (given & GIVES_BYTES) {
        put_stored(codec, may_be_last && start + bytes == end, codec->model.data + start, (uint32_t)bytes);
        pk_model_restart(&codec->model, start + (uint32_t)bytes);
        return start + (int64_t)bytes;
    }
    block_end state = {{0, 0}, start};
    uint32_t at = start, tokens = 0;
    for (int ended = 0; at < end && !ended;) {
        pk_token predicted = pk_model_predict(&codec->model, at);
        pk_token actual = corrected(from, predicted, codec->model.data[at], end - at);
        if (tokens == PK_MAX_BLOCK_TOKENS || from->tokens.failed)
            return PK_INVALID;
        if (add_token(codec, tokens++, actual))
            return PK_NO_MEMORY;
        pk_model_accept(&codec->model, at, predicted, actual);
        ended = count == UINT64_MAX ? ends_block(&state, with, tokens, actual, at, is_lazy(with))
                                    : tokens == count;
        at += step(actual);
    }
    pk_counts counts;
    pk_header predicted;
    pk_count(&counts, codec->tokens, tokens);
    unsigned guess = (unsigned)pk_make_header(&predicted, trees_of(with), &counts, at - start);
    if (!(given & GIVES_TYPE))
        type = guess;
    uint32_t last = may_be_last && at == end;
    if (type == PK_STORED) {
        if (at - start > 65535)
            return PK_INVALID;
        put_stored(codec, (int)last, codec->model.data + start, at - start);
        return at;
    }
    put_bits(codec, last | type << 1, 3);
    if (type == PK_FIXED) {
        uint8_t fixed[PK_LENGTHS];
        pk_fixed_lengths(fixed);
        put_tokens(codec, fixed, tokens);
    } else {
        const pk_header *use = given & GIVES_HEADER ? &header : &predicted;
        put_header(codec, use);
        put_tokens(codec, use->lengths, tokens);
    }
    return at;
}

/* Write the empty blocks at a flush point, or at the end of the segment. */
static int rebuild_empty(pk_codec *codec, cursor *from, unsigned code, int last)
{
    if (code == EMPTY_STORED)
        return put_empty(codec, PK_STORED, last);
    if (code == EMPTY_ALIGNED && !last) {
        put_aligned(codec);
        return PK_OK;
    }
    if (code == EMPTY_NONE)
        return PK_OK;
    uint64_t count = get_number(from);
    if (code != EMPTY_LISTED || count > MAX_EMPTY || !count)
        return PK_INVALID;
    while (count--)
        if (put_empty(codec, get_byte(from), last && !count))
            return PK_INVALID;
    return from->failed ? PK_INVALID : PK_OK;
}

int64_t pk_rebuild(pk_codec *codec, const uint8_t *data, size_t window, size_t size, uint64_t position,
                   const uint8_t *recipe, size_t recipe_length, unsigned bit, size_t most)
{
    cursor head = {recipe, recipe + recipe_length, 0};
    settings with;
    if (window > PK_WINDOW || window > size || size - window > PK_MAX_SEGMENT_PLAIN || bit > 7
        || position < window)
        return PK_INVALID;
    with.rule = (uint8_t)get_byte(&head);
    with.flags = (uint8_t)get_byte(&head);
    uint64_t limit = get_number(&head), flushes = get_number(&head), flush_bytes = get_number(&head);
    uint64_t block_bytes = get_number(&head);
    uint64_t left = (uint64_t)(head.end - head.at);
    if (head.failed || with.rule >= pk_rule_count || with.flags > FLAGS || !limit
        || limit > PK_MAX_BLOCK_TOKENS || flush_bytes > left || block_bytes > left - flush_bytes
        || flushes > flush_bytes)
        return PK_INVALID;
    with.limit = (uint32_t)limit;
    cursor flush = {head.at, head.at + flush_bytes, 0};
    corrector from = {{flush.end, flush.end + block_bytes, 0}, {flush.end + block_bytes, head.end, 0}, 0, 0, 0};
    next_exception(&from);
    next_correction(&from);

    reset(&codec->output, most);
    codec->bits = 0;
    codec->bit_count = bit;
    int last = (with.flags & FLAG_LAST) != 0;
    uint32_t at = (uint32_t)window, end;
    pk_model_start(&codec->model, &pk_rule_table[with.rule], hash_bits_of(&with), data, at, (uint32_t)size,
                   position - window);
    do {
        unsigned code;
        if (flushes) {
            uint64_t coded = get_number(&flush);
            code = coded & 3;
            if (coded >> 2 > size - at)
                return PK_INVALID;
            end = at + (uint32_t)(coded >> 2);
        } else {
            code = get_byte(&flush);
            end = (uint32_t)size;
        }
        if (flush.failed)
            return PK_INVALID;
        pk_model_see(&codec->model, end);
        while (at < end) {
            int64_t next = rebuild_block(codec, &with, &from, at, end,
                                         last && !flushes && code == EMPTY_NONE);
            if (next < 0)
                return next;
            at = (uint32_t)next;
            if (codec->output.failed)
                return codec->output.failed;
        }
        if (rebuild_empty(codec, &flush, code, last && !flushes))
            return PK_INVALID;
        if (!flushes)
            break;
        flushes--;
    } while (1);
    if (from.blocks.at != from.blocks.end || from.tokens.at != from.tokens.end || flush.at != flush.end
        || from.blocks.failed || from.tokens.failed)
        return PK_INVALID;
    unsigned rest = codec->bit_count & 7;
    codec->bit_count = (codec->bit_count + 7) & ~7u;
    flush_bits(codec);
    if (codec->output.failed)
        return codec->output.failed;
    return (int64_t)codec->output.length * 8 - (rest ? 8 - rest : 0);
}

/* ---- Analysis ---- */

/* The next flush point behind block `block`: the first empty block from there on; `blocks` behind it. */
static size_t next_flush(const pk_segment *segment, size_t block)
{
    while (block < segment->block_count && segment->blocks[block].plain)
        block++;
    return block;
}

static uint32_t flush_position(const pk_segment *segment, size_t block)
{
    return block < segment->block_count ? segment->blocks[block].start : (uint32_t)segment->size;
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
        /* pigz: one stored block at an odd bit, else as many fixed ones as it takes. */
        unsigned first = empty->bit;
        int aligned = first & 1 ? count == 1 && empty->type == PK_STORED : count == ((8 - first) & 7) / 2;
        for (size_t at = 0; at < count && !(first & 1); at++)
            aligned = aligned && empty[at].type == PK_FIXED;
        code = aligned ? EMPTY_ALIGNED : EMPTY_LISTED;
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
    int strict, refused;             /* give up at a wrong token within the sample; it was so */
} analysis;

static void note_token(pk_codec *codec, analysis *state, pk_token predicted, pk_token actual)
{
    if (predicted == actual) {
        state->right_tokens++;
        return;
    }
    codec->mispredicted++;
    put_number(&codec->corrections, state->right_tokens << 1 | (actual < 256));
    if (actual >= 256) {
        put_number(&codec->corrections, (actual >> 16) - 3);
        put_number(&codec->corrections, (actual & 0xffff) - 1);
    }
    state->right_tokens = 0;
}

/* Whether the model, left alone, makes of a stored block one block that its encoder would store. */
static int predicts_stored(pk_codec *codec, const settings *with, const pk_block *block, uint32_t input_end)
{
    uint32_t at = block->start, end = block->start + block->plain, tokens = 0;
    block_end state = {{0, 0}, block->start};
    int ended = 0;
    while (at < end && !ended) {
        pk_token token = pk_model_predict(&codec->model, at);
        if (add_token(codec, tokens++, token))
            return 0;
        pk_model_accept(&codec->model, at, token, token);
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

/* Sets `refused` where it gives up. */
static void analyse_block(pk_codec *codec, analysis *state, const pk_block *block, uint32_t input_end)
{
    const settings *with = &state->with;
    unsigned gives = 0;
    pk_header predicted;
    if (block->type == PK_STORED) {
        uint64_t right = state->right_tokens;
        if (predicts_stored(codec, with, block, input_end)) {
            /* The recipe counts tokens of such blocks as well: they were predicted, and right. */
            uint32_t tokens = 0, at = block->start;
            while (at < block->start + block->plain)
                at += step(codec->tokens[tokens++]);
            state->right_tokens = right + tokens;
        } else {
            gives = GIVES_BYTES;
            pk_model_restart(&codec->model, block->start + block->plain);
        }
    } else {
        block_end end_state = {{0, 0}, block->start};
        uint32_t at = block->start, predicted_count = 0;
        const pk_token *tokens = state->segment->tokens + block->first_token;
        int lazy = is_lazy(with);
        for (uint32_t token = 0; token < block->tokens; token++) {
            pk_token guess = pk_model_predict(&codec->model, at);
            note_token(codec, state, guess, tokens[token]);
            if (state->strict && codec->mispredicted && codec->token_total + token < SAMPLE_TOKENS) {
                state->refused = 1;
                return;
            }
            pk_model_accept(&codec->model, at, guess, tokens[token]);
            if (ends_block(&end_state, with, token + 1, tokens[token], at, lazy) && !predicted_count)
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
static uint64_t try_rule(pk_codec *codec, const pk_segment *segment, const settings *with, uint64_t most)
{
    uint64_t wrong = 0, tried = 0;
    pk_model_start(&codec->model, &pk_rule_table[with->rule], hash_bits_of(with), segment->data,
                   (uint32_t)segment->window, (uint32_t)segment->size, segment->position - segment->window);
    for (size_t at = 0; at < segment->block_count && tried < SAMPLE_TOKENS; at++) {
        const pk_block *block = &segment->blocks[at];
        uint32_t position = block->start;
        const pk_token *tokens = segment->tokens + block->first_token;
        if (block->type == PK_STORED && block->plain) {
            pk_model_restart(&codec->model, block->start + block->plain);
            continue;
        }
        pk_model_see(&codec->model, flush_position(segment, next_flush(segment, at)));
        for (uint32_t token = 0; token < block->tokens && tried < SAMPLE_TOKENS; token++, tried++) {
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
    int multiples = 1, full = 1;
    for (size_t at = 0; at < segment->block_count; at++) {
        const pk_block *block = &segment->blocks[at];
        if (block->tokens > greatest)
            greatest = block->tokens;
        int cut = at + 1 == segment->block_count || !segment->blocks[at + 1].plain;
        if (block->type == PK_STORED || cut)
            continue;
        if (!first)
            first = block->tokens;
        multiples = multiples && (block->tokens % 4096 == 0 || block->tokens == 32767);
        full = full && (block->tokens == 32767 || block->tokens == 16384);
    }
    if (first && multiples && (first == 32767 || !full)) {
        with->limit = 32767;
        with->flags |= FLAG_TRUNCATES;
    } else if (first) {
        with->limit = first;
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
    static const uint8_t order[] = {6, 9, 23, 15, 18, 1, 2, 3, 4, 5, 7, 8, 10, 11,
                                    12, 13, 14, 16, 17, 19, 20, 21, 22, 24, 25, 26, 27, 0};
    return order[place];
}

/* The rule that gets the fewest tokens of the sample wrong, of equals the first in order. A good guess saves
 * time, and that is all it does. */
static uint64_t choose_rule(pk_codec *codec, const pk_segment *segment, settings *with, int guess)
{
    uint64_t best = UINT64_MAX - 1;
    unsigned chosen = rule_at(0);
    int behind = 1;                  /* rules that are tried must be better, not as good */
    if (guess >= 0 && guess < (int)pk_rule_count) {
        with->rule = (uint8_t)guess;
        best = try_rule(codec, segment, with, best);
        chosen = (unsigned)guess;
        behind = 0;
    }
    for (unsigned place = 0; place < pk_rule_count && best >= (unsigned)behind; place++) {
        if (!behind && rule_at(place) == chosen) {
            behind = 1;
            continue;
        }
        with->rule = (uint8_t)rule_at(place);
        uint64_t wrong = try_rule(codec, segment, with, best - (unsigned)behind);
        if (wrong <= best - (unsigned)behind) {
            best = wrong;
            chosen = with->rule;
            behind = 1;
        }
    }
    with->rule = (uint8_t)chosen;
    return best;
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
    reset(&codec->corrections, most);
    pk_model_start(&codec->model, &pk_rule_table[state->with.rule], hash_bits_of(&state->with), segment->data,
                   position, (uint32_t)segment->size, segment->position - segment->window);
    for (;;) {
        size_t flush = next_flush(segment, block);
        uint32_t end = flush_position(segment, flush);
        pk_model_see(&codec->model, end);
        for (; block < flush; block++) {
            if (segment->blocks[block].type != PK_STORED || segment->blocks[block].plain)
                analyse_block(codec, state, &segment->blocks[block], end);
            if (state->refused) {
                free(points.bytes);
                return PK_INVALID;
            }
        }
        if (codec->blocks.failed || codec->corrections.failed)
            break;
        size_t behind = note_empty(&points, segment, flush, end - position);
        if (!behind) {
            points.failed = PK_INVALID;
            break;
        }
        block = behind;
        if (block == segment->block_count)
            break;
        flushes++;
        position = end;
    }
    put_byte(recipe, state->with.rule);
    put_byte(recipe, state->with.flags);
    put_number(recipe, state->with.limit);
    put_number(recipe, flushes);
    put_number(recipe, points.length);
    put_number(recipe, codec->blocks.length);
    put(recipe, points.bytes, points.length);
    put(recipe, codec->blocks.bytes, codec->blocks.length);
    put(recipe, codec->corrections.bytes, codec->corrections.length);
    int failed = points.failed ? points.failed : codec->blocks.failed ? codec->blocks.failed
                 : codec->corrections.failed ? codec->corrections.failed : recipe->failed;
    free(points.bytes);
    return failed;
}

/* Settings by trial, and the recipe they give: those of the first rule that gets the whole sample right, if
 * there is one. The recipe is a function of the segment alone, so that it may be remembered. */
static int analyse_best(pk_codec *codec, analysis *state, int guess)
{
    const pk_segment *segment = state->segment;
    state->strict = 1;
    for (unsigned place = 0; place < pk_rule_count; place++) {
        state->with.rule = (uint8_t)rule_at(place);
        int failed = analyse(codec, state);
        if (!state->refused)
            return failed;
    }
    state->strict = 0;
    if (choose_rule(codec, segment, &state->with, guess) && state->with.limit == 32767) {
        /* As many tokens are a block of gzip's, or of zlib's with its largest hash. */
        settings other = state->with;
        other.flags ^= FLAG_TRUNCATES;
        if (try_rule(codec, segment, &other, UINT64_MAX - 1)
            < try_rule(codec, segment, &state->with, UINT64_MAX - 1))
            state->with = other;
    }
    return analyse(codec, state);
}

int64_t pk_analyse(pk_codec *codec, const pk_segment *segment, int guess, uint8_t *recipe, size_t capacity,
                   uint64_t tokens[2])
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
    uint64_t stored = (segment->end_bit - segment->start_bit + 7) / 8;
    if (codec->recipe.length > stored * 3 / 100 + 16 || codec->recipe.length > capacity)
        return PK_INVALID;
    /* Whatever the analysis got wrong, here it comes out: only what gives back the bits is used. */
    int64_t bits = pk_rebuild(codec, segment->data, segment->window, segment->size, segment->position,
                              codec->recipe.bytes, codec->recipe.length, segment->start_bit,
                              segment->end_bit / 8 + 1);
    if (bits < 0 || (uint64_t)bits != segment->end_bit)
        return bits == PK_NO_MEMORY ? PK_NO_MEMORY : PK_INVALID;
    uint64_t whole = segment->end_bit / 8;
    uint8_t first = (uint8_t)(0xff << segment->start_bit), tail = (uint8_t)((1u << (bits & 7)) - 1);
    const uint8_t *made = codec->output.bytes, *given = segment->input;
    if (bits & 7 && (made[whole] ^ given[whole]) & tail & (whole ? 0xff : first))
        return PK_INVALID;
    if (whole && ((made[0] ^ given[0]) & first || memcmp(made + 1, given + 1, whole - 1)))
        return PK_INVALID;
    memcpy(recipe, codec->recipe.bytes, codec->recipe.length);
    return (int64_t)codec->recipe.length;
}
