#include "zstd/sections.h"

#include <string.h>

#include "zstd/bits.h"

/* Keep a table's text in the state and, if the block tells it, in the segment. */
static void keep_text(pk_zstd_state *state, pk_zstd_segment *segment, pk_zstd_block *block,
                      unsigned table, unsigned mode, const uint8_t *bytes, size_t length)
{
    pk_zstd_text *text = &state->tables[table];
    text->mode = (uint8_t)mode;
    text->length = (uint8_t)length;
    if (!length)
        return;
    memcpy(text->bytes, bytes, length);
    block->texts[table] = (uint32_t)segment->texts.length;
    block->text_length[table] = (uint8_t)length;
    pk_buffer_put(&segment->texts, bytes, length);
}

/* ---- Literals ---- */

/* A round takes five symbols, at most 55 bits, of each stream. */
static pk_status read_streams(const pk_zstd_tables *tables, uint8_t *out, size_t size,
                              back_bits *streams, unsigned count)
{
    const uint16_t *cells = tables->huffman;
    const unsigned shift = 64 - tables->huffman_bits;
    size_t each = count == 1 ? size : (size + 3) / 4;
    if (count == 4 && 3 * each > size)
        return PK_INVALID;
    size_t last = count == 1 ? size : size - 3 * each, at = 0;
    if (count == 4)
        for (; at + 5 <= last; at += 5) {
            for (unsigned i = 0; i < 4; i++) {
                if (streams[i].left < 0)
                    return PK_INVALID;
                back_fill(&streams[i]);
            }
            for (unsigned step = 0; step < 5; step++)
                for (unsigned i = 0; i < 4; i++) {
                    unsigned cell = cells[streams[i].bits >> shift];
                    out[i * each + at + step] = (uint8_t)cell;
                    streams[i].bits <<= cell >> 8;
                    streams[i].left -= cell >> 8;
                }
        }
    for (unsigned i = 0; i < count; i++) {
        back_bits *from = &streams[i];
        uint8_t *to = out + i * each + at, *end = out + (i == count - 1 ? size : (i + 1) * each);
        while (to < end) {
            if (from->left < 0)
                return PK_INVALID;
            back_fill(from);
            for (unsigned step = 0; step < 5 && to < end; step++) {
                unsigned cell = cells[from->bits >> shift];
                *to++ = (uint8_t)cell;
                from->bits <<= cell >> 8;
                from->left -= cell >> 8;
            }
        }
        if (from->left)
            return PK_INVALID;
    }
    return PK_OK;
}

static pk_status read_coded(pk_zstd_tables *tables, const uint8_t *in, size_t length, size_t size,
                            unsigned count)
{
    back_bits streams[4];
    size_t sizes[4] = {length, 0, 0, 0}, at = 0;
    if (count == 4) {
        if (length < 10)
            return PK_INVALID;
        at = 6;
        sizes[3] = length - 6;
        for (unsigned i = 0; i < 3; i++) {
            sizes[i] = in[2 * i] | (size_t)in[2 * i + 1] << 8;
            if (sizes[i] > sizes[3])
                return PK_INVALID;
            sizes[3] -= sizes[i];
        }
    }
    for (unsigned i = 0; i < count; at += sizes[i++])
        if (back_begin(&streams[i], in + at, sizes[i]))
            return PK_INVALID;
    return read_streams(tables, tables->literals, size, streams, count);
}

static pk_status huffman_table(pk_zstd_tables *tables, const pk_zstd_text *text)
{
    pk_huffman code;
    size_t used;
    if (tables->built[PK_ZSTD_LITERALS])
        return PK_OK;
    if (text->mode != PK_ZSTD_DESCRIBED
        || pk_huffman_read(&code, text->bytes, text->length, &used))
        return PK_INVALID;
    pk_huffman_decoder(tables->huffman, &code);
    tables->huffman_bits = code.most;
    tables->built[PK_ZSTD_LITERALS] = 1;
    return PK_OK;
}

/* Raw and repeated literals. Lengths are not always written as short as can be: klauspost's
 * writer takes two bytes from 16 on. */
static pk_status read_plain_literals(pk_zstd_tables *tables, pk_zstd_block *block,
                                     const uint8_t *in, size_t length, size_t *used)
{
    unsigned format = in[0] >> 2 & 3;
    size_t head = format == 1 ? 2 : format == 3 ? 3 : 1, size;
    if (length < head)
        return PK_INVALID;
    size = head == 1 ? in[0] >> 3 : in[0] >> 4 | (size_t)in[1] << 4;
    if (head == 3)
        size |= (size_t)in[2] << 12;
    if (size > PK_ZSTD_BLOCK)
        return PK_INVALID;
    block->format = (uint8_t)(format & 1 ? format : 0);
    block->literals = (uint32_t)size;
    size_t more = block->literals_kind == PK_ZSTD_RAW ? size : 1;
    if (more > length - head || (block->literals_kind == PK_ZSTD_RLE && !size))
        return PK_INVALID;
    if (block->literals_kind == PK_ZSTD_RAW)
        memcpy(tables->literals, in + head, size);
    else
        memset(tables->literals, in[head], size);
    *used = head + more;
    return PK_OK;
}

static pk_status read_literals(pk_zstd_tables *tables, pk_zstd_state *state,
                               pk_zstd_segment *segment, pk_zstd_block *block, const uint8_t *in,
                               size_t length, size_t *used)
{
    block->literals_kind = in[0] & 3;
    if (block->literals_kind < PK_ZSTD_COMPRESSED)
        return read_plain_literals(tables, block, in, length, used);
    block->format = in[0] >> 2 & 3;
    size_t head = block->format < 2 ? 3 : block->format + 2u;
    unsigned bits = block->format < 2 ? 10 : block->format == 2 ? 14 : 18;
    if (length < head)
        return PK_INVALID;
    uint64_t fields = 0;
    for (size_t i = 0; i < head; i++)
        fields |= (uint64_t)in[i] << (8 * i);
    size_t size = fields >> 4 & ((1u << bits) - 1), coded = fields >> (4 + bits);
    if (size > PK_ZSTD_BLOCK || !size || coded > length - head)
        return PK_INVALID;
    block->literals = (uint32_t)size;
    *used = head + coded;
    in += head;
    if (block->literals_kind == PK_ZSTD_COMPRESSED) {
        pk_huffman code;
        size_t text;
        if (pk_huffman_read(&code, in, coded, &text))
            return PK_INVALID;
        keep_text(state, segment, block, PK_ZSTD_LITERALS, PK_ZSTD_DESCRIBED, in, text);
        tables->built[PK_ZSTD_LITERALS] = 0;
        in += text;
        coded -= text;
    }
    if (huffman_table(tables, &state->tables[PK_ZSTD_LITERALS]))
        return PK_INVALID;
    return read_coded(tables, in, coded, size, block->format ? 4 : 1);
}

/* ---- Sequences ---- */

static pk_status fse_table(pk_zstd_tables *tables, const pk_zstd_text *text, unsigned table)
{
    if (tables->built[table])
        return PK_OK;
    pk_fse shares;
    size_t used;
    if (text->mode == PK_ZSTD_PREDEFINED) {
        shares = pk_zstd_predefined[table];
    } else if (text->mode == PK_ZSTD_DESCRIBED) {
        if (pk_fse_read(&shares, text->bytes, text->length, pk_zstd_logs[table],
                        pk_zstd_symbols[table], &used))
            return PK_INVALID;
    } else if (text->mode == PK_ZSTD_ONE && text->bytes[0] < pk_zstd_symbols[table]) {
        tables->cells[table][0] = (pk_fse_cell){0, text->bytes[0], 0};
        tables->logs[table] = 0;
        tables->built[table] = 1;
        return PK_OK;
    } else {
        return PK_INVALID;
    }
    pk_fse_decoder(tables->cells[table], &shares);
    tables->logs[table] = shares.log;
    tables->built[table] = 1;
    return PK_OK;
}

static pk_status read_tables(pk_zstd_tables *tables, pk_zstd_state *state,
                             pk_zstd_segment *segment, pk_zstd_block *block, const uint8_t *in,
                             size_t length, size_t *used)
{
    static const unsigned shift[3] = {6, 4, 2};
    size_t at = 1;
    if (!length || in[0] & 3)
        return PK_INVALID;
    for (unsigned table = 0; table < 3; table++) {
        unsigned mode = in[0] >> shift[table] & 3;
        size_t text = 0;
        block->modes[table] = (uint8_t)mode;
        if (mode == PK_ZSTD_ONE) {
            if (at == length)
                return PK_INVALID;
            text = 1;
        } else if (mode == PK_ZSTD_DESCRIBED) {
            pk_fse shares;
            if (pk_fse_read(&shares, in + at, length - at, pk_zstd_logs[table],
                            pk_zstd_symbols[table], &text))
                return PK_INVALID;
        }
        if (mode != PK_ZSTD_REPEATED) {
            keep_text(state, segment, block, table, mode, in + at, text);
            tables->built[table] = 0;
        }
        at += text;
        if (fse_table(tables, &state->tables[table], table))
            return PK_INVALID;
    }
    *used = at;
    return PK_OK;
}

static pk_status read_sequences(const pk_zstd_tables *tables, pk_zstd_sequence *out,
                                uint32_t count, const uint8_t *in, size_t length)
{
    back_bits from;
    if (back_begin(&from, in, length))
        return PK_INVALID;
    unsigned state[3];
    for (unsigned table = 0; table < 3; table++)
        state[table] = back_take(&from, tables->logs[table]);
    for (uint32_t i = 0; i < count; i++) {
        pk_fse_cell lengths = tables->cells[PK_ZSTD_LENGTHS][state[PK_ZSTD_LENGTHS]];
        pk_fse_cell offsets = tables->cells[PK_ZSTD_OFFSETS][state[PK_ZSTD_OFFSETS]];
        pk_fse_cell matches = tables->cells[PK_ZSTD_MATCHES][state[PK_ZSTD_MATCHES]];
        if (from.left < 0 || offsets.symbol > 30)
            return PK_INVALID;
        back_fill(&from);
        out[i].offset = (1u << offsets.symbol) + back_take(&from, offsets.symbol);
        if (from.left < 0)
            return PK_INVALID;
        back_fill(&from);
        out[i].length = pk_zstd_match_base[matches.symbol]
                        + back_take(&from, pk_zstd_match_bits[matches.symbol]);
        out[i].literals = pk_zstd_length_base[lengths.symbol]
                          + back_take(&from, pk_zstd_length_bits[lengths.symbol]);
        if (i == count - 1)
            break;
        if (from.left < 0)
            return PK_INVALID;
        back_fill(&from);
        state[PK_ZSTD_LENGTHS] = lengths.base + back_take(&from, lengths.bits);
        state[PK_ZSTD_MATCHES] = matches.base + back_take(&from, matches.bits);
        state[PK_ZSTD_OFFSETS] = offsets.base + back_take(&from, offsets.bits);
    }
    return from.left ? PK_INVALID : PK_OK;
}

pk_status pk_zstd_read_sections(pk_zstd_tables *tables, pk_zstd_state *state,
                                pk_zstd_segment *segment, pk_zstd_block *block, const uint8_t *in,
                                size_t length)
{
    size_t used, at;
    uint32_t count;
    if (!length || read_literals(tables, state, segment, block, in, length, &at))
        return PK_INVALID;
    if (at == length)
        return PK_INVALID;
    size_t head = in[at] < 128 ? 1 : in[at] < 255 ? 2 : 3;
    if (length - at < head)
        return PK_INVALID;
    if (head == 1)
        count = in[at];
    else if (head == 2)
        count = (in[at] - 128u) << 8 | in[at + 1];
    else
        count = 0x7f00u + (in[at + 1] | (uint32_t)in[at + 2] << 8);
    at += head;
    block->first = (uint32_t)segment->sequence_count;
    block->sequences = count;
    if ((head == 2 && count < 128) || count > PK_ZSTD_BLOCK / PK_ZSTD_LEAST_MATCH)
        return PK_INVALID;
    if (!count)
        return at == length ? PK_OK : PK_INVALID;
    if (read_tables(tables, state, segment, block, in + at, length - at, &used))
        return PK_INVALID;
    at += used;
    if (pk_zstd_grow((void **)&segment->sequences, &segment->sequence_capacity,
                     segment->sequence_count + count, sizeof *segment->sequences))
        return PK_NO_MEMORY;
    if (read_sequences(tables, segment->sequences + segment->sequence_count, count, in + at,
                       length - at))
        return PK_INVALID;
    segment->sequence_count += count;
    return segment->texts.failed ? segment->texts.failed : PK_OK;
}
