#include "deflate/inflate.h"

#include <stdlib.h>
#include <string.h>

#include "deflate/inflate_codes.h"

static pk_status read_header(pk_reader *from, pk_header *header)
{
    header->literals = (uint16_t)(pk_take(from, 5) + 257);
    header->distances = (uint16_t)(pk_take(from, 5) + 1);
    header->codes = (uint8_t)(pk_take(from, 4) + 4);
    if (header->literals > 286 || header->distances > 30)
        return PK_INVALID;
    memset(header->code_lengths, 0, sizeof header->code_lengths);
    for (unsigned at = 0; at < header->codes; at++)
        header->code_lengths[pk_code_order[at]] = (uint8_t)pk_take(from, 3);
    if (from->over)
        return PK_NEED_MORE;
    pk_entry code[1 << PK_CODES_ROOT];
    if (pk_make_codes_decoder(code, header->code_lengths))
        return PK_INVALID;
    memset(header->lengths, 0, sizeof header->lengths);
    header->symbols = 0;
    unsigned total = header->literals + header->distances, at = 0;
    uint8_t lengths[PK_LENGTHS + 138];
    while (at < total) {
        const pk_entry entry = pk_decode(from, code, PK_CODES_ROOT);
        if (from->over)
            return PK_NEED_MORE;
        if (entry == PK_ENTRY_NONE)
            return PK_INVALID;
        const unsigned symbol = entry >> 16;
        unsigned extra = 0, repeat = 1;
        uint8_t value = (uint8_t)symbol;
        if (symbol == 16) {
            if (!at)
                return PK_INVALID;
            value = lengths[at - 1];
            extra = pk_take(from, 2);
            repeat = extra + 3;
        } else if (symbol == 17) {
            value = 0;
            extra = pk_take(from, 3);
            repeat = extra + 3;
        } else if (symbol == 18) {
            value = 0;
            extra = pk_take(from, 7);
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

pk_status pk_segment_grow(void **memory, size_t *capacity, size_t wanted, size_t unit)
{
    if (wanted <= *capacity)
        return PK_OK;
    const size_t half = *capacity + *capacity / 2, to = half > wanted ? half : wanted;
    void *moved = realloc(*memory, to * unit);
    if (!moved)
        return PK_NO_MEMORY;
    *memory = moved;
    *capacity = to;
    return PK_OK;
}

size_t pk_segment_expected(const pk_reader *from, const pk_segment *to, size_t have)
{
    const uint64_t plain = to->size - to->window, taken = from->at, left = from->length - from->at;
    const uint64_t of_plain = plain ? have * (uint64_t)PK_SEGMENT_PLAIN / plain : have;
    const uint64_t of_input = taken ? have + have * left / taken : have;
    const uint64_t expected = of_plain < of_input ? of_plain : of_input;
    return (size_t)(expected + expected / 8);
}

/* Return memory that turned out to be far more than is needed. */
static void shrink(void **memory, size_t *capacity, size_t needed, size_t before, size_t unit)
{
    if (*capacity == before || *capacity / 2 <= needed)
        return;
    void *moved = realloc(*memory, needed * unit);
    if (!moved)
        return;
    *memory = moved;
    *capacity = needed;
}

static pk_status read_stored(pk_reader *from, pk_segment *to, pk_block *block)
{
    unsigned padding = from->count & 7;
    if (pk_take(from, padding))
        return PK_INVALID; /* encoders write zeros */
    unsigned length = pk_take(from, 16), complement = pk_take(from, 16);
    if (from->over)
        return PK_NEED_MORE;
    if ((length ^ complement) != 0xffff)
        return PK_INVALID;
    if (pk_segment_grow((void **)&to->data, &to->capacity, to->size + length + PK_PAD, 1))
        return PK_NO_MEMORY;
    block->plain = length;
    while (length && from->count) {
        to->data[to->size++] = (uint8_t)pk_take(from, 8);
        length--;
    }
    if (from->length - from->at < length)
        return PK_NEED_MORE;
    memcpy(to->data + to->size, from->in + from->at, length);
    from->at += length;
    to->size += length;
    return PK_OK;
}

/* Read the header of a block with codes, or take what is known of it, and then its tokens. */
static pk_status read_coded(pk_reader *from, pk_segment *to, pk_block *block,
                            const pk_carry *carry)
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
    pk_decoders decoders;
    if (pk_make_decoders(&decoders, lengths, block->type == PK_FIXED ? 32 : 30))
        return PK_INVALID;
    return pk_read_tokens(from, to, block, &decoders);
}

static pk_status read_block(pk_reader *from, pk_segment *to, const pk_carry *carry)
{
    if (to->block_count == PK_MAX_BLOCKS)
        return PK_INVALID;
    if (pk_segment_grow((void **)&to->blocks, &to->block_capacity, to->block_count + 1,
                        sizeof *to->blocks))
        return PK_NO_MEMORY;
    pk_block *block = &to->blocks[to->block_count];
    block->bit = (uint8_t)(-from->count & 7);
    unsigned last = carry ? carry->last : pk_take(from, 1),
             type = carry ? carry->type : pk_take(from, 2);
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
    to->last = (int)last;
    if (status)
        return status;
    to->block_count++;
    return PK_OK;
}

/* End a segment before what is not whole, after `read_block` returned `status`; `behind` is where
 * the block began. Returns whether there is anything before it. */
static int end_early(pk_segment *to, pk_reader *from, const pk_reader *behind, pk_status status)
{
    if (to->block_count) {
        const pk_block *block = &to->blocks[to->block_count - 1];
        to->size = (size_t)block->start + block->plain;
        to->token_count = (size_t)block->first_token + block->tokens;
        to->last = 0;
        *from = *behind;
        return to->size > to->window;
    }
    if (status != PK_NEED_MORE || !to->token_count)
        return 0;
    to->block_count = 1;
    to->open = 1;
    return 1;
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
                             size_t target, const pk_carry *carry, int partial)
{
    if (bit > 7 || window_length > PK_FAR_WINDOW)
        return PK_INVALID;
    if (pk_segment_grow((void **)&segment->data, &segment->capacity,
                        window_length + (1 << 16) + PK_PAD, 1)
        || pk_segment_grow((void **)&segment->tokens, &segment->token_capacity, 1 << 14,
                           sizeof *segment->tokens))
        return PK_NO_MEMORY;
    const size_t had_bytes = segment->capacity, had_tokens = segment->token_capacity;
    memcpy(segment->data, window, window_length);
    segment->window = segment->size = window_length;
    segment->position = position;
    segment->token_count = segment->block_count = 0;
    segment->last = segment->open = 0;
    segment->goes_on = carry != NULL;
    pk_reader from = {in, length, 0, 0, 0, 0};
    pk_take(&from, bit);
    do {
        const pk_reader behind = from;
        const pk_status status = read_block(&from, segment, carry);
        if (status != PK_OK) {
            if (!partial || status == PK_NO_MEMORY || !end_early(segment, &from, &behind, status))
                return status;
            break;
        }
        carry = NULL;
    } while (!segment->last && !segment->open && segment->size - segment->window < target);
    uint64_t end = (uint64_t)from.at * 8 - from.count;
    size_t bytes = (size_t)((end + 7) >> 3);
    if (pk_segment_grow((void **)&segment->input, &segment->input_capacity, bytes, 1))
        return PK_NO_MEMORY;
    memcpy(segment->input, in, bytes);
    shrink((void **)&segment->data, &segment->capacity, segment->size + PK_PAD, had_bytes, 1);
    shrink((void **)&segment->tokens, &segment->token_capacity, segment->token_count + 1,
           had_tokens, sizeof *segment->tokens);
    memset(segment->data + segment->size, 0, PK_PAD);
    segment->start_bit = bit;
    segment->end_bit = end;
    return PK_OK;
}
