/* Plaintext and a recipe to the bits of the stream. */
#include "deflate/workspace.h"

#include <string.h>

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

static void flush_bits(pk_codec *codec)
{
    uint8_t bytes[8] = {0};
    unsigned count = codec->bit_count >> 3;
    for (unsigned at = 0; at < count; at++)
        bytes[at] = (uint8_t)(codec->bits >> (8 * at));
    pk_put(&codec->output, bytes, count);
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
    pk_put(&codec->output, bytes, length);
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

/* What a recipe says where the prediction was wrong. */
typedef struct corrector {
    cursor blocks, tokens;
    uint64_t next_block,
        next_token; /* how many predictions are right before the next correction */
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
    from->next_block =
        from->blocks.at == from->blocks.end ? UINT64_MAX : get_number(&from->blocks);
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
static int64_t rebuild_block(pk_codec *codec, const settings *with, corrector *from,
                             uint32_t start, uint32_t end, int may_be_last)
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
        if (from->blocks.failed || given > 15 || type > PK_DYNAMIC || !count || bytes > end - start
            || bytes > 65535)
            return PK_INVALID;
        next_exception(from);
    }
    if (given & GIVES_BYTES) {
        put_stored(codec, may_be_last && start + bytes == end, codec->model.data + start,
                   (uint32_t)bytes);
        pk_tape_restart(&codec->tape, &codec->model, start + (uint32_t)bytes);
        return start + (int64_t)bytes;
    }
    block_end state = {{0, 0}, start};
    uint32_t at = start, tokens = 0;
    for (int ended = 0; at < end && !ended;) {
        pk_token predicted = pk_tape_predict(&codec->tape, &codec->model, at);
        pk_token actual = corrected(from, predicted, codec->model.data[at], end - at);
        if (tokens == PK_MAX_BLOCK_TOKENS || from->tokens.failed)
            return PK_INVALID;
        if (add_token(codec, tokens++, actual))
            return PK_NO_MEMORY;
        pk_tape_accept(&codec->tape, &codec->model, at, predicted, actual);
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

int64_t pk_rebuild(pk_codec *codec, const uint8_t *data, size_t window, size_t size,
                   uint64_t position, const uint8_t *recipe, size_t recipe_length, unsigned bit,
                   size_t most)
{
    cursor head = {recipe, recipe + recipe_length, 0};
    settings with;
    if (window > PK_FAR_WINDOW || window > size || size - window > PK_MAX_SEGMENT_PLAIN || bit > 7
        || position < window)
        return PK_INVALID;
    with.rule = (uint8_t)get_byte(&head);
    with.flags = (uint8_t)get_byte(&head);
    uint64_t limit = get_number(&head), flushes = get_number(&head),
             flush_bytes = get_number(&head);
    uint64_t block_bytes = get_number(&head);
    uint64_t left = (uint64_t)(head.end - head.at);
    if (head.failed || with.rule >= pk_rule_count || with.flags > FLAGS || !limit
        || limit > PK_MAX_BLOCK_TOKENS || flush_bytes > left || block_bytes > left - flush_bytes
        || flushes > flush_bytes
        || (with.flags & FLAG_PRIMED
            && (with.flags & FLAG_FAR || pk_rule_table[with.rule].kind != PK_FAST)))
        return PK_INVALID;
    with.limit = (uint32_t)limit;
    cursor flush = {head.at, head.at + flush_bytes, 0};
    corrector from = {
        {flush.end, flush.end + block_bytes, 0}, {flush.end + block_bytes, head.end, 0}, 0, 0, 0};
    next_exception(&from);
    next_correction(&from);

    reset(&codec->output, most);
    codec->bits = 0;
    codec->bit_count = bit;
    int last = (with.flags & FLAG_LAST) != 0;
    uint32_t at = (uint32_t)window, end;
    if (codec->tape.mode != TAPE_PLAYS)
        pk_model_clear(&codec->model);
    pk_tape_start(&codec->tape, &codec->model, &pk_rule_table[with.rule], hash_bits_of(&with),
                  data, at, (uint32_t)size, position - window, follow_of(&with));
    do {
        unsigned code;
        if (flushes) {
            uint64_t coded = get_number(&flush);
            code = coded & 3;
            if (coded >> 2 > size - at
                || (with.flags & FLAG_PRIMED && coded >> 2 && coded >> 2 < PRIMED_GAP))
                return PK_INVALID;
            end = at + (uint32_t)(coded >> 2);
        } else {
            code = get_byte(&flush);
            end = (uint32_t)size;
        }
        if (flush.failed)
            return PK_INVALID;
        pk_tape_see(&codec->tape, &codec->model, end);
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
        if (with.flags & FLAG_PRIMED)
            pk_tape_restart(&codec->tape, &codec->model, at);
    } while (1);
    if (from.blocks.at != from.blocks.end || from.tokens.at != from.tokens.end
        || flush.at != flush.end || from.blocks.failed || from.tokens.failed)
        return PK_INVALID;
    unsigned rest = codec->bit_count & 7;
    codec->bit_count = (codec->bit_count + 7) & ~7u;
    flush_bits(codec);
    if (codec->output.failed)
        return codec->output.failed;
    return (int64_t)codec->output.length * 8 - (rest ? 8 - rest : 0);
}
