/* Frames and blocks, and the plaintext they make. */
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "zstd/sections.h"

enum { MOST_CODED_BLOCK = PK_ZSTD_BLOCK, BEFORE = 16 };

/* A place in a stream: what a parser keeps between segments. */
typedef struct place {
    pk_zstd_state state;
    uint64_t window;  /* bytes that a match in the frame may reach back, as far as they are kept */
    uint64_t told;    /* the same as the frame tells it */
    uint64_t content; /* of the frame; UINT64_MAX if it does not tell */
    uint64_t plain;   /* bytes of the frame so far */
    size_t size;      /* bytes in `data` */
} place;

struct pk_zstd_parser {
    size_t most_window;
    place at;
    uint8_t *data; /* plaintext of the frame's window, then that of the segment at hand */
    size_t capacity;
    pk_zstd_tables tables;
    uint8_t coded[BEFORE + MOST_CODED_BLOCK];
};

pk_zstd_parser *pk_zstd_parser_new(size_t most_window)
{
    pk_zstd_parser *parser = calloc(1, sizeof *parser);
    if (parser)
        parser->most_window =
            most_window < PK_ZSTD_MOST_WINDOW ? most_window : PK_ZSTD_MOST_WINDOW;
    return parser;
}

void pk_zstd_parser_free(pk_zstd_parser *parser)
{
    if (!parser)
        return;
    free(parser->data);
    free(parser);
}

/* ---- Plaintext ---- */

static inline void copy_words(uint8_t *to, const uint8_t *from, size_t length)
{
    uint8_t *end = to + length;
    do {
        memcpy(to, from, 16);
        to += 16;
        from += 16;
    } while (to < end);
}

/* A match and what follows it may be written by words: the buffer has PK_ZSTD_PAD bytes more. */
static inline void copy_match(uint8_t *to, uint32_t offset, uint32_t length)
{
    const uint8_t *from = to - offset;
    if (offset >= 16)
        copy_words(to, from, length);
    else if (offset == 1)
        memset(to, *from, length);
    else
        for (uint32_t i = 0; i < length; i++)
            to[i] = from[i];
}

static pk_status execute(pk_zstd_parser *parser, place *at, const pk_zstd_segment *segment,
                         pk_zstd_block *block)
{
    const pk_zstd_sequence *sequence = segment->sequences + block->first;
    const uint8_t *literals = parser->tables.literals;
    uint8_t *start = parser->data + at->size, *to = start;
    uint32_t left = block->literals, room = PK_ZSTD_BLOCK;
    for (uint32_t i = 0; i < block->sequences; i++, sequence++) {
        if (sequence->literals > left || sequence->literals > room)
            return PK_INVALID;
        copy_words(to, literals, sequence->literals);
        to += sequence->literals;
        literals += sequence->literals;
        left -= sequence->literals;
        room -= sequence->literals;
        uint32_t offset = pk_zstd_offset(at->state.repeats, sequence->offset, sequence->literals);
        if (sequence->length > room || !offset || offset > at->told
            || offset > at->plain + (uint64_t)(to - start))
            return PK_INVALID;
        if (offset > at->window)
            return PK_TOO_LONG;
        copy_match(to, offset, sequence->length);
        to += sequence->length;
        room -= sequence->length;
    }
    if (left > room)
        return PK_INVALID;
    memcpy(to, literals, left);
    block->plain = (uint32_t)(to - start) + left;
    return PK_OK;
}

/* ---- Blocks and frames ---- */

static pk_status read_block(pk_zstd_parser *parser, place *at, pk_zstd_segment *segment,
                            pk_zstd_block *block, const uint8_t *in, size_t size)
{
    uint8_t *to = parser->data + at->size;
    if (block->kind == PK_ZSTD_RAW) {
        memcpy(to, in, size);
        block->plain = (uint32_t)size;
    } else if (block->kind == PK_ZSTD_RLE) {
        if (!size)
            return PK_INVALID;
        memset(to, in[0], size);
        block->plain = (uint32_t)size;
    } else {
        memcpy(parser->coded + BEFORE, in, size);
        pk_status status = pk_zstd_read_sections(&parser->tables, &at->state, segment, block,
                                                 parser->coded + BEFORE, size);
        if (!status)
            status = execute(parser, at, segment, block);
        if (status)
            return status;
    }
    at->size += block->plain;
    at->plain += block->plain;
    return at->plain > at->content ? PK_INVALID : PK_OK;
}

static pk_status read_header(const pk_zstd_parser *parser, place *at, pk_zstd_block *block,
                             const uint8_t *in, size_t length, int final, size_t *used)
{
    int checksum;
    size_t whole = length < PK_ZSTD_HEADER && !final
                       ? 0
                       : pk_zstd_header(in, length, &checksum, &at->told, &at->content);
    if (!whole)
        return length < PK_ZSTD_HEADER && !final ? PK_NEED_MORE : PK_INVALID;
    at->window = at->told < parser->most_window ? at->told : parser->most_window;
    memcpy(block->header, in, whole);
    block->header_length = (uint8_t)whole;
    pk_zstd_state_frame(&at->state, checksum);
    at->plain = 0;
    *used = whole;
    return PK_OK;
}

/* Read a block, with what is before it in its frame and behind it. */
static pk_status read_next(pk_zstd_parser *parser, place *at, pk_zstd_segment *segment,
                           const uint8_t *in, size_t length, int final, size_t *taken)
{
    const pk_status short_of = final ? PK_INVALID : PK_NEED_MORE;
    if (pk_zstd_grow((void **)&segment->blocks, &segment->block_capacity, segment->block_count + 1,
                     sizeof *segment->blocks))
        return PK_NO_MEMORY;
    pk_zstd_block *block = &segment->blocks[segment->block_count];
    memset(block, 0, sizeof *block);
    block->first = (uint32_t)segment->sequence_count;
    size_t used = 0, header;
    if (!at->state.in_frame) {
        used = PK_ZSTD_MAGIC_SIZE; /* the caller has looked at it */
        pk_status status =
            read_header(parser, at, block, in + used, length - used, final, &header);
        if (status)
            return status;
        memset(parser->tables.built, 0, sizeof parser->tables.built);
        used += header;
    }
    if (length - used < 3)
        return short_of;
    uint32_t fields = in[used] | (uint32_t)in[used + 1] << 8 | (uint32_t)in[used + 2] << 16;
    size_t size = fields >> 3, coded;
    block->last = fields & 1;
    block->kind = fields >> 1 & 3;
    if (block->kind > PK_ZSTD_COMPRESSED || size > PK_ZSTD_BLOCK)
        return PK_INVALID;
    used += 3;
    coded = block->kind == PK_ZSTD_RLE ? 1 : size;
    block->input = (uint32_t)used;
    size_t behind = block->last && at->state.checksum ? 4 : 0;
    if (length - used < coded + behind)
        return short_of;
    pk_status status = read_block(parser, at, segment, block, in + used, size);
    if (!status)
        status = segment->texts.failed;
    if (status)
        return status;
    used += coded;
    memcpy(block->checksum, in + used, behind);
    if (block->last) {
        if (at->content != UINT64_MAX && at->plain != at->content)
            return PK_INVALID;
        at->state.in_frame = 0;
    }
    segment->block_count++;
    *taken = used + behind;
    return PK_OK;
}

/* ---- Segments ---- */

size_t pk_zstd_raw_blocks(const pk_zstd_segment *segment, uint32_t least, pk_zstd_stored *out)
{
    size_t count = 0;
    uint32_t plain = 0;
    for (size_t i = 0; i < segment->block_count; i++) {
        const pk_zstd_block *block = &segment->blocks[i];
        if (block->kind == PK_ZSTD_RAW && block->plain && block->plain >= least)
            out[count++] = (pk_zstd_stored){plain, block->input, block->plain};
        plain += block->plain;
    }
    return count;
}

/* Make room for a segment behind what the frame's next blocks may refer to. */
static pk_status make_room(pk_zstd_parser *parser)
{
    place *at = &parser->at;
    size_t keep = at->state.in_frame ? at->size : 0;
    if (keep > at->window)
        keep = (size_t)at->window;
    if (at->size - keep >= keep) {
        if (keep)
            memmove(parser->data, parser->data + at->size - keep, keep);
        at->size = keep;
    }
    size_t wanted = at->size + PK_ZSTD_MOST_PLAIN + PK_ZSTD_PAD;
    return pk_zstd_grow((void **)&parser->data, &parser->capacity, wanted, 1);
}

static pk_status keep_segment(const pk_zstd_parser *parser, pk_zstd_segment *segment, size_t from,
                              size_t size, const uint8_t *in, size_t coded)
{
    if (pk_zstd_grow((void **)&segment->plain, &segment->plain_capacity, size + PK_ZSTD_PAD, 1)
        || pk_zstd_grow((void **)&segment->input, &segment->input_capacity, coded + 1, 1))
        return PK_NO_MEMORY;
    memcpy(segment->plain, parser->data + from, size);
    memset(segment->plain + size, 0, PK_ZSTD_PAD);
    memcpy(segment->input, in, coded);
    segment->size = size;
    segment->coded = coded;
    return PK_OK;
}

pk_status pk_zstd_parser_next(pk_zstd_parser *parser, pk_zstd_segment *segment, const uint8_t *in,
                              size_t length, int final)
{
    if (make_room(parser))
        return PK_NO_MEMORY;
    place at = parser->at;
    const size_t from = at.size;
    size_t used = 0;
    segment->sequence_count = segment->block_count = 0;
    pk_buffer_reset(&segment->texts, PK_ZSTD_MOST_TEXTS);
    segment->start = at.state;
    segment->last = 0;
    memset(parser->tables.built, 0, sizeof parser->tables.built);
    while (at.size - from < PK_ZSTD_SEGMENT && segment->block_count < PK_ZSTD_MOST_BLOCKS) {
        if (!at.state.in_frame) {
            if (length - used < PK_ZSTD_MAGIC_SIZE && !final)
                return PK_NEED_MORE;
            if (length - used < PK_ZSTD_MAGIC_SIZE
                || pk_load32(in + used) != (uint32_t)PK_ZSTD_MAGIC) {
                segment->last = 1;
                break;
            }
        }
        size_t taken;
        pk_status status =
            read_next(parser, &at, segment, in + used, length - used, final, &taken);
        if (status)
            return status;
        segment->blocks[segment->block_count - 1].input += (uint32_t)used;
        used += taken;
        if (used > pk_zstd_most_coded(at.size - from))
            return PK_TOO_LONG;
    }
    if (!segment->block_count)
        return PK_INVALID;
    segment->frame_end = !at.state.in_frame;
    if (segment->frame_end && !segment->last) {
        if (length - used < PK_ZSTD_MAGIC_SIZE && !final)
            return PK_NEED_MORE;
        segment->last =
            length - used < PK_ZSTD_MAGIC_SIZE || pk_load32(in + used) != (uint32_t)PK_ZSTD_MAGIC;
    }
    pk_status status = keep_segment(parser, segment, from, at.size - from, in, used);
    if (!status)
        parser->at = at;
    return status;
}
