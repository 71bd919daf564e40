/* Blocks to bytes: literals and sequences, from the last to the first, as all encoders write
 * them. What is to be written comes from a stranger, but for the plaintext. */
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "zstd/internal.h"

enum {
    /* Greater than any block is written: literals of 11 bits, and 16 bytes a sequence. */
    MOST_WRITTEN = PK_ZSTD_BLOCK * 2 + PK_ZSTD_BLOCK / PK_ZSTD_LEAST_MATCH * 16 + 4096
};

struct pk_zstd_writer {
    uint8_t *out;
    size_t length, capacity, most;
    uint8_t literals[PK_ZSTD_BLOCK + PK_ZSTD_PAD];
    pk_fse_encoder encoders[3];
    uint32_t codes[256];
    uint8_t built[PK_ZSTD_TABLES]; /* whether encoders and codes are those of the state's texts */
    uint8_t code[3][PK_ZSTD_BLOCK / PK_ZSTD_LEAST_MATCH + 1];
};

pk_zstd_writer *pk_zstd_writer_new(void)
{
    return calloc(1, sizeof(pk_zstd_writer));
}

void pk_zstd_writer_free(pk_zstd_writer *writer)
{
    if (!writer)
        return;
    free(writer->out);
    free(writer);
}

void pk_zstd_writer_begin(pk_zstd_writer *writer, size_t most)
{
    writer->length = 0;
    writer->most = most;
    memset(writer->built, 0, sizeof writer->built);
}

const uint8_t *pk_zstd_written(const pk_zstd_writer *writer, size_t *length)
{
    *length = writer->length;
    return writer->out;
}

/* ---- Bits ---- */

/* Whole words are written; the caller leaves room. */
typedef struct bit_sink {
    uint8_t *out;
    uint64_t bits;
    unsigned count;
} bit_sink;

static inline void put(bit_sink *to, uint32_t value, unsigned count)
{
    to->bits |= (uint64_t)value << to->count;
    to->count += count;
}

/* Between two of these at most 56 bits are put. */
static inline void flush(bit_sink *to)
{
    uint64_t bits = to->bits;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    bits = __builtin_bswap64(bits);
#endif
    memcpy(to->out, &bits, sizeof bits);
    unsigned bytes = to->count >> 3;
    to->out += bytes;
    to->bits = bytes == 8 ? 0 : to->bits >> (8 * bytes);
    to->count &= 7;
}

static uint8_t *end_mark(bit_sink *to)
{
    put(to, 1, 1);
    flush(to);
    return to->out + (to->count > 0);
}

static uint8_t *put_bytes(uint8_t *to, uint64_t value, unsigned count)
{
    for (; count--; value >>= 8)
        *to++ = (uint8_t)value;
    return to;
}

/* ---- Literals ---- */

static const uint8_t *gather(pk_zstd_writer *writer, const pk_zstd_segment *segment,
                             const pk_zstd_block *block, const uint8_t *plain)
{
    const pk_zstd_sequence *sequence = segment->sequences + block->first;
    uint8_t *to = writer->literals;
    uint32_t left = block->literals;
    if (!block->sequences)
        return plain;
    for (uint32_t i = 0; i < block->sequences; i++, sequence++) {
        memcpy(to, plain, sequence->literals);
        to += sequence->literals;
        plain += sequence->literals + sequence->length;
        left -= sequence->literals;
    }
    memcpy(to, plain, left);
    return writer->literals;
}

static uint8_t *write_stream(const uint32_t codes[256], const uint8_t *from, size_t size,
                             uint8_t *out)
{
    bit_sink to = {out, 0, 0};
    size_t i = size;
    for (; i & 3; i--) {
        uint32_t code = codes[from[i - 1]];
        put(&to, code & 0xffff, code >> 16);
    }
    flush(&to);
    for (; i; i -= 4) {
        uint32_t a = codes[from[i - 1]], b = codes[from[i - 2]];
        uint32_t c = codes[from[i - 3]], d = codes[from[i - 4]];
        put(&to, a & 0xffff, a >> 16);
        put(&to, b & 0xffff, b >> 16);
        put(&to, c & 0xffff, c >> 16);
        put(&to, d & 0xffff, d >> 16);
        flush(&to);
    }
    return end_mark(&to);
}

static pk_status use_huffman(pk_zstd_writer *writer, const pk_zstd_text *text)
{
    pk_huffman code;
    size_t used;
    if (writer->built[PK_ZSTD_LITERALS])
        return PK_OK;
    if (text->mode != PK_ZSTD_DESCRIBED || pk_huffman_read(&code, text->bytes, text->length, &used)
        || used != text->length)
        return PK_INVALID;
    pk_huffman_encoder(writer->codes, &code);
    writer->built[PK_ZSTD_LITERALS] = 1;
    return PK_OK;
}

static pk_status write_coded(pk_zstd_writer *writer, const pk_zstd_text *text,
                             const pk_zstd_block *block, const uint8_t *literals, uint8_t **out)
{
    const size_t size = block->literals, each = (size + 3) / 4;
    const unsigned bits = block->format < 2 ? 10 : block->format == 2 ? 14 : 18;
    const unsigned head = block->format < 2 ? 3 : block->format + 2u;
    if (size >> bits || !size || block->format > 3 || (block->format && 3 * each > size)
        || use_huffman(writer, text))
        return PK_INVALID;
    uint8_t has[256] = {0};
    for (size_t i = 0; i < size; i++)
        has[literals[i]] = 1;
    for (unsigned s = 0; s < 256; s++)
        if (has[s] && !writer->codes[s])
            return PK_INVALID;
    uint8_t *start = *out + head, *to = start;
    if (block->literals_kind == PK_ZSTD_COMPRESSED) {
        memcpy(to, text->bytes, text->length);
        to += text->length;
    }
    if (!block->format) {
        to = write_stream(writer->codes, literals, size, to);
    } else {
        uint8_t *jumps = to;
        to += 6;
        for (unsigned i = 0; i < 4; i++) {
            size_t part = i < 3 ? each : size - 3 * each;
            uint8_t *end = write_stream(writer->codes, literals + i * each, part, to);
            if (i < 3 && end - to > 0xffff)
                return PK_INVALID;
            if (i < 3)
                jumps = put_bytes(jumps, (uint64_t)(end - to), 2);
            to = end;
        }
    }
    size_t coded = (size_t)(to - start);
    if (coded >> bits)
        return PK_INVALID;
    put_bytes(*out,
              block->literals_kind | block->format << 2 | size << 4
                  | (uint64_t)coded << (4 + bits),
              head);
    *out = to;
    return PK_OK;
}

static pk_status write_literals(pk_zstd_writer *writer, const pk_zstd_text *text,
                                const pk_zstd_block *block, const uint8_t *literals, uint8_t **out)
{
    const uint32_t size = block->literals;
    if (block->literals_kind >= PK_ZSTD_COMPRESSED)
        return write_coded(writer, text, block, literals, out);
    uint8_t *to = *out;
    if (block->format == 0 && size < 32)
        to = put_bytes(to, block->literals_kind | size << 3, 1);
    else if (block->format == 1 && size < 4096)
        to = put_bytes(to, block->literals_kind | 1 << 2 | size << 4, 2);
    else if (block->format == 3)
        to = put_bytes(to, block->literals_kind | 3 << 2 | size << 4, 3);
    else
        return PK_INVALID;
    if (block->literals_kind == PK_ZSTD_RAW) {
        memcpy(to, literals, size);
        to += size;
    } else if (size) {
        *to++ = literals[0];
    } else {
        return PK_INVALID;
    }
    *out = to;
    return PK_OK;
}

/* ---- Sequences ---- */

static pk_status use_table(pk_zstd_writer *writer, const pk_zstd_text *text, unsigned table)
{
    pk_fse shares;
    size_t used;
    if (writer->built[table])
        return PK_OK;
    if (text->mode == PK_ZSTD_PREDEFINED) {
        pk_fse_encoder_of(&writer->encoders[table], &pk_zstd_predefined[table]);
    } else if (text->mode == PK_ZSTD_ONE) {
        if (text->length != 1 || text->bytes[0] >= pk_zstd_symbols[table])
            return PK_INVALID;
        pk_fse_encoder_of_one(&writer->encoders[table], text->bytes[0]);
    } else if (text->mode == PK_ZSTD_DESCRIBED) {
        if (pk_fse_read(&shares, text->bytes, text->length, pk_zstd_logs[table],
                        pk_zstd_symbols[table], &used)
            || used != text->length)
            return PK_INVALID;
        pk_fse_encoder_of(&writer->encoders[table], &shares);
    } else {
        return PK_INVALID;
    }
    writer->built[table] = 1;
    return PK_OK;
}

static inline void put_state(bit_sink *to, const pk_fse_encoder *encoder, unsigned symbol,
                             uint32_t *state)
{
    unsigned count = (*state + encoder->symbol[symbol].bits) >> 16;
    put(to, *state & ((1u << count) - 1), count);
    *state = encoder->state[(int32_t)(*state >> count) + encoder->symbol[symbol].find];
}

static inline void put_extra(bit_sink *to, const pk_zstd_sequence *sequence, unsigned lengths,
                             unsigned offsets, unsigned matches)
{
    put(to, sequence->literals - pk_zstd_length_base[lengths], pk_zstd_length_bits[lengths]);
    put(to, sequence->length - pk_zstd_match_base[matches], pk_zstd_match_bits[matches]);
    flush(to);
    put(to, sequence->offset - (1u << offsets), offsets);
    flush(to);
}

/* A table of one symbol has no states: its log is 0, and so its state stays 0. */
static uint8_t *write_states(const pk_zstd_writer *writer, const pk_zstd_sequence *sequences,
                             uint32_t count, uint8_t *out)
{
    bit_sink to = {out, 0, 0};
    const pk_fse_encoder *lengths = &writer->encoders[PK_ZSTD_LENGTHS];
    const pk_fse_encoder *offsets = &writer->encoders[PK_ZSTD_OFFSETS];
    const pk_fse_encoder *matches = &writer->encoders[PK_ZSTD_MATCHES];
    const uint8_t *length = writer->code[PK_ZSTD_LENGTHS], *offset = writer->code[PK_ZSTD_OFFSETS];
    const uint8_t *match = writer->code[PK_ZSTD_MATCHES];
    uint32_t at = count - 1;
    uint32_t of_length = lengths->symbol[length[at]].first;
    uint32_t of_offset = offsets->symbol[offset[at]].first;
    uint32_t of_match = matches->symbol[match[at]].first;
    put_extra(&to, &sequences[at], length[at], offset[at], match[at]);
    while (at--) {
        if (offsets->log)
            put_state(&to, offsets, offset[at], &of_offset);
        if (matches->log)
            put_state(&to, matches, match[at], &of_match);
        if (lengths->log)
            put_state(&to, lengths, length[at], &of_length);
        flush(&to);
        put_extra(&to, &sequences[at], length[at], offset[at], match[at]);
    }
    put(&to, of_match & ((1u << matches->log) - 1), matches->log);
    put(&to, of_offset & ((1u << offsets->log) - 1), offsets->log);
    put(&to, of_length & ((1u << lengths->log) - 1), lengths->log);
    flush(&to);
    return end_mark(&to);
}

static pk_status write_sequences(pk_zstd_writer *writer, pk_zstd_state *state,
                                 const pk_zstd_segment *segment, const pk_zstd_block *block,
                                 uint8_t **out)
{
    const pk_zstd_sequence *sequences = segment->sequences + block->first;
    const uint32_t count = block->sequences;
    uint8_t *to = *out;
    if (count < 128)
        to = put_bytes(to, count, 1);
    else if (count < 0x7f00)
        to = put_bytes(to, (count >> 8 | 128) | (count & 255) << 8, 2);
    else
        to = put_bytes(to, 255 | (count - 0x7f00) << 8, 3);
    *out = to;
    if (!count)
        return PK_OK;
    *to++ = (uint8_t)(block->modes[PK_ZSTD_LENGTHS] << 6 | block->modes[PK_ZSTD_OFFSETS] << 4
                      | block->modes[PK_ZSTD_MATCHES] << 2);
    for (unsigned table = 0; table < 3; table++) {
        const pk_zstd_text *text = &state->tables[table];
        if (use_table(writer, text, table))
            return PK_INVALID;
        if (block->modes[table] == PK_ZSTD_ONE || block->modes[table] == PK_ZSTD_DESCRIBED) {
            memcpy(to, text->bytes, text->length);
            to += text->length;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        unsigned length = pk_zstd_length_code(sequences[i].literals);
        unsigned match = pk_zstd_match_code(sequences[i].length);
        unsigned offset = pk_high_bit(sequences[i].offset);
        if (!writer->encoders[PK_ZSTD_LENGTHS].has[length]
            || !writer->encoders[PK_ZSTD_OFFSETS].has[offset]
            || !writer->encoders[PK_ZSTD_MATCHES].has[match])
            return PK_INVALID;
        writer->code[PK_ZSTD_LENGTHS][i] = (uint8_t)length;
        writer->code[PK_ZSTD_MATCHES][i] = (uint8_t)match;
        writer->code[PK_ZSTD_OFFSETS][i] = (uint8_t)offset;
    }
    *out = write_states(writer, sequences, count, to);
    return PK_OK;
}

/* ---- Blocks ---- */

/* Take the block's own texts into the state. */
static pk_status take_texts(pk_zstd_writer *writer, pk_zstd_state *state,
                            const pk_zstd_segment *segment, const pk_zstd_block *block)
{
    for (unsigned table = 0; table < PK_ZSTD_TABLES; table++) {
        unsigned mode;
        if (table != PK_ZSTD_LITERALS)
            mode = block->sequences ? block->modes[table] : PK_ZSTD_REPEATED;
        else
            mode =
                block->literals_kind == PK_ZSTD_COMPRESSED ? PK_ZSTD_DESCRIBED : PK_ZSTD_REPEATED;
        if (mode == PK_ZSTD_REPEATED)
            continue;
        pk_zstd_text *text = &state->tables[table];
        size_t length = block->text_length[table];
        if (length > PK_ZSTD_TEXT || (mode == PK_ZSTD_PREDEFINED) != !length)
            return PK_INVALID;
        text->mode = (uint8_t)mode;
        text->length = (uint8_t)length;
        if (length)
            memcpy(text->bytes, segment->texts.bytes + block->texts[table], length);
        writer->built[table] = 0;
    }
    return PK_OK;
}

static pk_status write_content(pk_zstd_writer *writer, pk_zstd_state *state,
                               const pk_zstd_segment *segment, const pk_zstd_block *block,
                               const uint8_t *plain, uint8_t **out, size_t *size)
{
    uint8_t *to = *out;
    if (block->kind == PK_ZSTD_RAW) {
        memcpy(to, plain, block->plain);
        *size = block->plain;
        *out += block->plain;
        return PK_OK;
    }
    if (block->kind == PK_ZSTD_RLE) {
        if (!block->plain)
            return PK_INVALID;
        *to = plain[0];
        *size = block->plain;
        *out += 1;
        return PK_OK;
    }
    const uint8_t *literals = gather(writer, segment, block, plain);
    if (take_texts(writer, state, segment, block)
        || write_literals(writer, &state->tables[PK_ZSTD_LITERALS], block, literals, out)
        || write_sequences(writer, state, segment, block, out))
        return PK_INVALID;
    *size = (size_t)(*out - to);
    return *size < 1u << 21 ? PK_OK : PK_INVALID;
}

pk_status pk_zstd_write_block(pk_zstd_writer *writer, pk_zstd_state *state,
                              const pk_zstd_segment *segment, const pk_zstd_block *block,
                              const uint8_t *plain)
{
    if (pk_zstd_grow((void **)&writer->out, &writer->capacity, writer->length + MOST_WRITTEN, 1))
        return PK_NO_MEMORY;
    uint8_t *to = writer->out + writer->length;
    if (block->header_length) {
        int checksum;
        if (pk_zstd_header(block->header, block->header_length, &checksum, NULL, NULL)
            != block->header_length)
            return PK_INVALID;
        to = put_bytes(to, (uint32_t)PK_ZSTD_MAGIC, 4);
        memcpy(to, block->header, block->header_length);
        to += block->header_length;
        pk_zstd_state_frame(state, checksum);
        memset(writer->built, 0, sizeof writer->built);
    }
    uint8_t *head = to;
    size_t size;
    to += 3;
    pk_status status = write_content(writer, state, segment, block, plain, &to, &size);
    if (status)
        return status;
    put_bytes(head, block->last | block->kind << 1 | size << 3, 3);
    if (block->last && state->checksum) {
        memcpy(to, block->checksum, 4);
        to += 4;
    }
    if (block->last)
        state->in_frame = 0;
    writer->length = (size_t)(to - writer->out);
    return writer->length <= writer->most ? PK_OK : PK_INVALID;
}

/* ---- Counts ---- */

void pk_zstd_count_literals(const pk_zstd_segment *segment, const pk_zstd_block *block,
                            const uint8_t *plain, uint32_t counts[256])
{
    const pk_zstd_sequence *sequence = segment->sequences + block->first;
    uint32_t left = block->literals;
    memset(counts, 0, 256 * sizeof *counts);
    for (uint32_t i = 0; i < block->sequences; i++, sequence++) {
        for (uint32_t j = 0; j < sequence->literals; j++)
            counts[plain[j]]++;
        plain += sequence->literals + sequence->length;
        left -= sequence->literals;
    }
    while (left--)
        counts[*plain++]++;
}

void pk_zstd_count_codes(const pk_zstd_segment *segment, const pk_zstd_block *block,
                         uint32_t counts[3][PK_FSE_SYMBOLS], int last[3])
{
    const pk_zstd_sequence *sequence = segment->sequences + block->first;
    memset(counts, 0, 3 * sizeof *counts);
    for (uint32_t i = 0; i < block->sequences; i++, sequence++) {
        last[PK_ZSTD_LENGTHS] = (int)pk_zstd_length_code(sequence->literals);
        last[PK_ZSTD_OFFSETS] = (int)pk_high_bit(sequence->offset);
        last[PK_ZSTD_MATCHES] = (int)pk_zstd_match_code(sequence->length);
        for (unsigned table = 0; table < 3; table++)
            counts[table][last[table]]++;
    }
}
