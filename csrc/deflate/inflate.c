#include "deflate/inflate.h"

#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"

enum { MAX_BITS = 15, ROOT_BITS = 10 };

/* Bits of the input, least significant first; zeros behind its end, which `over` tells. */
typedef struct reader {
    const uint8_t *in;
    size_t length, at;
    uint64_t bits;
    unsigned count;
    int over;
} reader;

static inline void refill(reader *from)
{
    if (from->at + 8 <= from->length) {
        from->bits |= pk_load64(from->in + from->at) << from->count;
        unsigned bytes = (63 - from->count) >> 3;
        from->at += bytes;
        from->count += bytes * 8;
        from->bits &= (UINT64_C(1) << from->count) - 1;
        return;
    }
    while (from->count <= 56 && from->at < from->length) {
        from->bits |= (uint64_t)from->in[from->at++] << from->count;
        from->count += 8;
    }
}

static inline unsigned take(reader *from, unsigned count)
{
    if (from->count < count)
        refill(from);
    unsigned value = (unsigned)(from->bits & ((UINT64_C(1) << count) - 1));
    if (from->count < count) {
        from->over = 1;
        return 0;
    }
    from->bits >>= count;
    from->count -= count;
    return value;
}

/* A prefix code: a table for the next ROOT_BITS bits, canonical decoding for longer codes. */
typedef struct code {
    uint16_t root[1 << ROOT_BITS]; /* symbol << 4 | length; 0 if longer */
    uint16_t count[MAX_BITS + 1], sorted[PK_LITERALS];
    unsigned used;
} code;

/* Make the decoder of a code. Returns 0, or -1 if the lengths make no code that decoders accept:
 * it must be complete, or have one symbol. */
static int make_code(code *out, const uint8_t *lengths, unsigned symbols)
{
    uint16_t offset[MAX_BITS + 2], next[MAX_BITS + 2];
    memset(out->count, 0, sizeof out->count);
    for (unsigned symbol = 0; symbol < symbols; symbol++)
        out->count[lengths[symbol]]++;
    out->used = symbols - out->count[0];
    out->count[0] = 0;
    int left = 1;
    offset[1] = next[1] = 0;
    for (unsigned length = 1; length <= MAX_BITS; length++) {
        left = left * 2 - out->count[length];
        if (left < 0)
            return -1;
        offset[length + 1] = (uint16_t)(offset[length] + out->count[length]);
        next[length + 1] = (uint16_t)((next[length] + out->count[length]) << 1);
    }
    if (left > 0 && !(out->used == 1 && out->count[1] == 1) && out->used != 0)
        return -1;
    memset(out->root, 0, sizeof out->root);
    for (unsigned symbol = 0; symbol < symbols; symbol++) {
        unsigned length = lengths[symbol];
        if (!length)
            continue;
        out->sorted[offset[length]++] = (uint16_t)symbol;
        unsigned canonical = next[length]++;
        if (length > ROOT_BITS)
            continue;
        unsigned reversed = 0;
        for (unsigned bit = 0; bit < length; bit++)
            reversed |= (canonical >> bit & 1) << (length - 1 - bit);
        for (unsigned at = reversed; at < 1 << ROOT_BITS; at += 1u << length)
            out->root[at] = (uint16_t)(symbol << 4 | length);
    }
    return 0;
}

/* Decode a code longer than ROOT_BITS, bit by bit. */
static int decode_long(reader *from, const code *with)
{
    int value = 0, first = 0, index = 0;
    for (unsigned length = 1; length <= MAX_BITS; length++) {
        value |= (int)take(from, 1);
        if (from->over)
            return -1;
        int count = with->count[length];
        if (value - count < first)
            return with->sorted[index + (value - first)];
        index += count;
        first = (first + count) << 1;
        value <<= 1;
    }
    return -1;
}

/* Return the next symbol, -1 if the bits are no code. Check `over` in both cases. */
static inline int decode(reader *from, const code *with)
{
    if (from->count < MAX_BITS)
        refill(from);
    unsigned entry = with->root[from->bits & ((1 << ROOT_BITS) - 1)];
    unsigned length = entry & 15;
    if (entry && length <= from->count) {
        from->bits >>= length;
        from->count -= length;
        return (int)(entry >> 4);
    }
    return decode_long(from, with);
}

static pk_status read_header(reader *from, pk_header *header)
{
    header->literals = (uint16_t)(take(from, 5) + 257);
    header->distances = (uint16_t)(take(from, 5) + 1);
    header->codes = (uint8_t)(take(from, 4) + 4);
    if (header->literals > 286 || header->distances > 30)
        return PK_INVALID;
    memset(header->code_lengths, 0, sizeof header->code_lengths);
    for (unsigned at = 0; at < header->codes; at++)
        header->code_lengths[pk_code_order[at]] = (uint8_t)take(from, 3);
    if (from->over)
        return PK_NEED_MORE;
    code lengths_code;
    if (make_code(&lengths_code, header->code_lengths, PK_CODES) || !lengths_code.used)
        return PK_INVALID;
    memset(header->lengths, 0, sizeof header->lengths);
    header->symbols = 0;
    unsigned total = header->literals + header->distances, at = 0;
    uint8_t lengths[PK_LENGTHS + 138];
    while (at < total) {
        int symbol = decode(from, &lengths_code);
        if (from->over)
            return PK_NEED_MORE;
        if (symbol < 0)
            return PK_INVALID;
        unsigned extra = 0, repeat = 1;
        uint8_t value = (uint8_t)symbol;
        if (symbol == 16) {
            if (!at)
                return PK_INVALID;
            value = lengths[at - 1];
            extra = take(from, 2);
            repeat = extra + 3;
        } else if (symbol == 17) {
            value = 0;
            extra = take(from, 3);
            repeat = extra + 3;
        } else if (symbol == 18) {
            value = 0;
            extra = take(from, 7);
            repeat = extra + 11;
        }
        if (from->over)
            return PK_NEED_MORE;
        if (at + repeat > total)
            return PK_INVALID;
        memset(lengths + at, value, repeat);
        at += repeat;
        header->symbol[header->symbols] = (uint8_t)symbol;
        header->extra[header->symbols++] = (uint8_t)extra;
    }
    memcpy(header->lengths, lengths, header->literals);
    memcpy(header->lengths + PK_LITERALS, lengths + header->literals, header->distances);
    return header->lengths[256] ? PK_OK : PK_INVALID;
}

static pk_status grow(void **memory, size_t *capacity, size_t wanted, size_t unit)
{
    if (wanted <= *capacity)
        return PK_OK;
    size_t to = *capacity * 2 > wanted ? *capacity * 2 : wanted;
    void *moved = realloc(*memory, to * unit);
    if (!moved)
        return PK_NO_MEMORY;
    *memory = moved;
    *capacity = to;
    return PK_OK;
}

static pk_status read_stored(reader *from, pk_segment *to, pk_block *block)
{
    unsigned padding = from->count & 7;
    if (take(from, padding))
        return PK_INVALID; /* encoders write zeros */
    unsigned length = take(from, 16), complement = take(from, 16);
    if (from->over)
        return PK_NEED_MORE;
    if ((length ^ complement) != 0xffff)
        return PK_INVALID;
    if (grow((void **)&to->data, &to->capacity, to->size + length + PK_PAD, 1))
        return PK_NO_MEMORY;
    block->plain = length;
    while (length && from->count) {
        to->data[to->size++] = (uint8_t)take(from, 8);
        length--;
    }
    if (from->length - from->at < length)
        return PK_NEED_MORE;
    memcpy(to->data + to->size, from->in + from->at, length);
    from->at += length;
    to->size += length;
    return PK_OK;
}

/* Copy a match; may write 7 bytes behind it. */
static inline void copy_match(uint8_t *out, unsigned distance, unsigned length)
{
    const uint8_t *in = out - distance;
    if (distance >= 8) {
        uint8_t *end = out + length;
        do {
            uint64_t word;
            memcpy(&word, in, 8);
            memcpy(out, &word, 8);
            in += 8;
            out += 8;
        } while (out < end);
    } else if (distance == 1) {
        memset(out, *in, length);
    } else {
        for (unsigned byte = 0; byte < length; byte++)
            out[byte] = in[byte];
    }
}

/* Read tokens as long as neither input nor memory may end within one, and all goes well; the next
 * one is for `read_token` in any case. What is read is the same, only slower there. */
static void read_most_tokens(reader *from, pk_segment *to, const code *literals,
                             const code *distances, size_t most_bytes, size_t most_tokens)
{
    enum { MASK = (1 << ROOT_BITS) - 1, ROOM = PK_MAX_MATCH + 8 };
    if (from->length < 8 || to->capacity < ROOM + PK_PAD)
        return;
    const uint8_t *in = from->in + from->at, *in_end = from->in + from->length - 8;
    size_t room = to->capacity - ROOM - PK_PAD;
    uint8_t *out = to->data + to->size,
            *out_end = to->data + (room < most_bytes ? room : most_bytes);
    pk_token *token = to->tokens + to->token_count;
    pk_token *token_end =
        to->tokens + (to->token_capacity < most_tokens ? to->token_capacity : most_tokens);
    uint64_t bits = from->bits;
    unsigned count = from->count;
    while (in <= in_end && out < out_end && token < token_end) {
        /* 56 bits at least, and behind them some that the next load gives once more. The longest
         * token has 48. */
        bits |= pk_load64(in) << count;
        in += (63 - count) >> 3;
        count |= 56;
        unsigned entry = literals->root[bits & MASK], used = entry & 15, symbol = entry >> 4;
        if (entry && symbol < 256) {
            bits >>= used;
            count -= used;
            *token++ = symbol;
            *out++ = (uint8_t)symbol;
            continue;
        }
        if (!entry || symbol == 256 || symbol > 285)
            break;
        unsigned at = symbol - 257, extra = pk_length_extra[at];
        uint64_t rest = bits >> used;
        unsigned length = pk_length_base[at] + (unsigned)(rest & ((1u << extra) - 1));
        rest >>= extra;
        used += extra;
        entry = distances->root[rest & MASK];
        unsigned second = entry >> 4;
        if (!entry || second > 29)
            break;
        rest >>= entry & 15;
        used += entry & 15;
        extra = pk_distance_extra[second];
        unsigned distance = pk_distance_base[second] + (unsigned)(rest & ((1u << extra) - 1));
        if (distance > (size_t)(out - to->data) || (length == PK_MAX_MATCH && at != 28))
            break;
        bits = rest >> extra;
        count -= used + extra;
        *token++ = length << 16 | distance;
        copy_match(out, distance, length);
        out += length;
    }
    from->at = (size_t)(in - from->in);
    from->bits = bits & ((UINT64_C(1) << count) - 1);
    from->count = count;
    to->size = (size_t)(out - to->data);
    to->token_count = (size_t)(token - to->tokens);
}

/* Read one token. Returns a pk_status, or END_OF_BLOCK. */
enum { END_OF_BLOCK = 2, CUT = 3 };

static int read_token(reader *from, pk_segment *to, const code *literals, const code *distances)
{
    if (to->size + PK_MAX_MATCH + PK_PAD > to->capacity
        && grow((void **)&to->data, &to->capacity, to->size + (1 << 16) + PK_PAD, 1))
        return PK_NO_MEMORY;
    if (to->token_count == to->token_capacity
        && grow((void **)&to->tokens, &to->token_capacity, to->token_count + (1 << 14),
                sizeof *to->tokens))
        return PK_NO_MEMORY;
    int symbol = decode(from, literals);
    if (from->over)
        return PK_NEED_MORE;
    if (symbol < 0 || symbol > 285)
        return PK_INVALID;
    if (symbol == 256)
        return END_OF_BLOCK;
    if (symbol < 256) {
        to->tokens[to->token_count++] = (pk_token)symbol;
        to->data[to->size++] = (uint8_t)symbol;
        return PK_OK;
    }
    unsigned at = (unsigned)symbol - 257;
    unsigned length = pk_length_base[at] + take(from, pk_length_extra[at]);
    int second = decode(from, distances);
    if (from->over)
        return PK_NEED_MORE;
    if (second < 0 || second > 29)
        return PK_INVALID;
    unsigned distance = pk_distance_base[second] + take(from, pk_distance_extra[second]);
    if (from->over)
        return PK_NEED_MORE;
    /* 258 has a symbol of its own: no encoder writes it the long way. */
    if (distance > to->size || (length == PK_MAX_MATCH && at != 28))
        return PK_INVALID;
    to->tokens[to->token_count++] = length << 16 | distance;
    copy_match(to->data + to->size, distance, length);
    to->size += length;
    return PK_OK;
}

enum { MOST_OF_BLOCK = PK_MAX_BLOCK_PLAIN - PK_MAX_MATCH };

/* Whether a segment ends within a block of which it has so much. */
static int is_long(size_t bytes, size_t tokens)
{
    return bytes >= MOST_OF_BLOCK || (bytes >= PK_SEGMENT_PLAIN && tokens >= PK_CUT_TOKENS);
}

/* Whether a block ends here: OK, or END_OF_BLOCK, which is read. */
static int read_end(reader *from, const code *literals)
{
    const reader before = *from;
    int symbol = decode(from, literals);
    if (from->over)
        return PK_NEED_MORE;
    if (symbol == 256)
        return END_OF_BLOCK;
    *from = before;
    return CUT;
}

static pk_status read_tokens(reader *from, pk_segment *to, pk_block *block, const code *literals,
                             const code *distances)
{
    const size_t start = to->size, first = block->first_token;
    size_t most_bytes = start + PK_SEGMENT_PLAIN, most_tokens = SIZE_MAX;
    int status = PK_OK;
    while (status == PK_OK) {
        read_most_tokens(from, to, literals, distances, most_bytes, most_tokens);
        if (is_long(to->size - start, to->token_count - first)) {
            status = read_end(from, literals);
            break;
        }
        if (to->size >= most_bytes) { /* but few tokens */
            most_bytes = start + MOST_OF_BLOCK;
            most_tokens = first + PK_CUT_TOKENS;
        }
        status = read_token(from, to, literals, distances);
    }
    if (status != END_OF_BLOCK && status != CUT)
        return (pk_status)status;
    to->open = status == CUT;
    block->tokens = (uint32_t)(to->token_count - first);
    block->plain = (uint32_t)(to->size - start);
    return PK_OK;
}

/* Read the header of a block with codes, or take what is known of it, and then its tokens. */
static pk_status read_coded(reader *from, pk_segment *to, pk_block *block, const pk_carry *carry)
{
    uint8_t fixed[PK_LENGTHS];
    const uint8_t *lengths = fixed;
    if (block->type == PK_DYNAMIC) {
        if (carry) {
            block->header = carry->header;
        } else {
            pk_status status = read_header(from, &block->header);
            if (status)
                return status;
        }
        lengths = block->header.lengths;
    } else {
        pk_fixed_lengths(fixed);
    }
    code literals, distances;
    if (make_code(&literals, lengths, PK_LITERALS)
        || make_code(&distances, lengths + PK_LITERALS, block->type == PK_FIXED ? 32 : 30))
        return PK_INVALID;
    return read_tokens(from, to, block, &literals, &distances);
}

static pk_status read_block(reader *from, pk_segment *to, const pk_carry *carry)
{
    if (to->block_count == PK_MAX_BLOCKS)
        return PK_INVALID;
    if (grow((void **)&to->blocks, &to->block_capacity, to->block_count + 1, sizeof *to->blocks))
        return PK_NO_MEMORY;
    pk_block *block = &to->blocks[to->block_count];
    block->bit = (uint8_t)(-from->count & 7);
    unsigned last = carry ? carry->last : take(from, 1),
             type = carry ? carry->type : take(from, 2);
    if (from->over)
        return PK_NEED_MORE;
    block->type = (uint8_t)type;
    block->first_token = (uint32_t)to->token_count;
    block->tokens = 0;
    block->start = (uint32_t)to->size;
    pk_status status = PK_INVALID;
    if (type == PK_FIXED || type == PK_DYNAMIC)
        status = read_coded(from, to, block, carry);
    else if (type == PK_STORED && !carry)
        status = read_stored(from, to, block);
    if (status)
        return status;
    to->block_count++;
    to->last = (int)last;
    return PK_OK;
}

int pk_segment_carry(const pk_segment *segment, pk_carry *carry)
{
    if (!segment->open)
        return 0;
    const pk_block *block = &segment->blocks[segment->block_count - 1];
    memset(carry, 0, sizeof *carry);
    carry->type = block->type;
    carry->last = (uint8_t)segment->last;
    if (block->type == PK_DYNAMIC)
        carry->header = block->header;
    return 1;
}

pk_segment *pk_segment_new(void)
{
    return calloc(1, sizeof(pk_segment));
}

void pk_segment_free(pk_segment *segment)
{
    if (!segment)
        return;
    free(segment->data);
    free(segment->tokens);
    free(segment->blocks);
    free(segment->input);
    free(segment);
}

pk_status pk_segment_inflate(pk_segment *segment, const uint8_t *in, size_t length, unsigned bit,
                             const uint8_t *window, size_t window_length, uint64_t position,
                             size_t target, const pk_carry *carry)
{
    if (bit > 7 || window_length > PK_FAR_WINDOW)
        return PK_INVALID;
    if (grow((void **)&segment->data, &segment->capacity, window_length + (1 << 16) + PK_PAD, 1)
        || grow((void **)&segment->tokens, &segment->token_capacity, 1 << 14,
                sizeof *segment->tokens))
        return PK_NO_MEMORY;
    memcpy(segment->data, window, window_length);
    segment->window = segment->size = window_length;
    segment->position = position;
    segment->token_count = segment->block_count = 0;
    segment->last = segment->open = 0;
    segment->goes_on = carry != NULL;
    reader from = {in, length, 0, 0, 0, 0};
    take(&from, bit);
    do {
        pk_status status = read_block(&from, segment, carry);
        if (status != PK_OK)
            return status;
        carry = NULL;
    } while (!segment->last && !segment->open && segment->size - segment->window < target);
    uint64_t end = (uint64_t)from.at * 8 - from.count;
    size_t bytes = (size_t)((end + 7) >> 3);
    if (grow((void **)&segment->input, &segment->input_capacity, bytes, 1))
        return PK_NO_MEMORY;
    memcpy(segment->input, in, bytes);
    memset(segment->data + segment->size, 0, PK_PAD);
    segment->start_bit = bit;
    segment->end_bit = end;
    return PK_OK;
}
