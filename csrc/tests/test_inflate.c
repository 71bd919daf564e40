/* Blocks with codes of any shape, up to 15 bits long, give back the tokens that were written in
 * them; cut off anywhere they want more, and a match that no encoder writes is refused. */
#include "check.h"
#include "draw.h"

#include "deflate/block_header.h"
#include "deflate/block_writer.h"

enum { MOST = 30000 };

/* Tokens of which some are much rarer than others: few letters, or all; short matches, or all. */
static size_t draw_tokens(pk_token *tokens, uint32_t letters, uint32_t matches, uint32_t longest)
{
    size_t count = 1 + any(MOST), bytes = 0;
    for (size_t at = 0; at < count; at++) {
        uint32_t rare = any(1 << any(16)), most = bytes < PK_WINDOW ? (uint32_t)bytes : PK_WINDOW;
        if (bytes && any(8) < matches) {
            uint32_t length = 3 + any(longest), distance = 1 + any(any(3) ? most : 1 + most / 99);
            tokens[at] = length << 16 | distance;
            bytes += length;
        } else {
            tokens[at] = (uint8_t)(rare % letters);
            bytes++;
        }
    }
    return count;
}

/* What is whole of a block that is cut off: all tokens but one, which has 48 bits at most. */
static void check_part(pk_segment *segment, const uint8_t *cut, size_t part, unsigned bit,
                       const pk_token *tokens)
{
    const pk_status status =
        pk_segment_inflate(segment, cut, part, bit, cut, 0, 0, SIZE_MAX, NULL, 1);
    CHECK(status == PK_OK || (status == PK_NEED_MORE && part < 300));
    if (status != PK_OK)
        return;
    CHECK(segment->open && segment->last && segment->block_count == 1);
    CHECK(segment->end_bit <= 8 * part && segment->end_bit + 48 > 8 * part);
    CHECK(segment->blocks->tokens == segment->token_count);
    CHECK(segment->blocks->plain == segment->size);
    CHECK(!memcmp(segment->tokens, tokens, segment->token_count * sizeof *tokens));
}

static void check_round(pk_token *tokens, unsigned round)
{
    static const uint32_t letters[] = {1, 4, 90, 256}, longest[] = {1, 8, 256};
    const unsigned bit = any(8), fixed = round % 5 == 4;
    const size_t count = draw_tokens(tokens, letters[round % 4], any(8), longest[round % 3]);
    pk_counts counts;
    pk_header header;
    uint8_t lengths[PK_LENGTHS];
    pk_writer writer = {0};
    pk_count(&counts, tokens, count);
    pk_make_header(&header, PK_TREES_ZLIB, &counts, UINT32_MAX);
    pk_fixed_lengths(lengths);
    pk_writer_start(&writer, bit, MOST * 8);
    pk_write_bits(&writer, 1 | (fixed ? PK_FIXED : PK_DYNAMIC) << 1, 3);
    if (!fixed)
        pk_write_header(&writer, &header);
    pk_write_tokens(&writer, fixed ? lengths : header.lengths, tokens, count, 1);
    uint64_t bits;
    CHECK(pk_writer_end(&writer, &bits) == PK_OK);
    const size_t size = (size_t)(bits + 7) / 8;
    uint8_t *exact = exact_copy(writer.bytes, size);
    pk_segment *segment = pk_segment_new();
    CHECK(segment);
    CHECK(pk_segment_inflate(segment, exact, size, bit, exact, 0, 0, SIZE_MAX, NULL, 0) == PK_OK);
    CHECK(segment->end_bit == bits && segment->last && segment->token_count == count);
    CHECK(!memcmp(segment->tokens, tokens, count * sizeof *tokens));
    for (size_t at = 0, token = 0; token < count; at += pk_token_bytes(tokens[token++])) {
        if (tokens[token] < 256)
            CHECK(segment->data[at] == tokens[token]);
        else
            for (uint32_t byte = 0; byte < tokens[token] >> 16; byte++)
                CHECK(segment->data[at + byte]
                      == segment->data[at + byte - (tokens[token] & 0xffff)]);
    }
    for (unsigned times = 0; times < 20; times++) {
        const size_t part = any((uint32_t)size);
        uint8_t *cut = exact_copy(exact, part);
        CHECK(pk_segment_inflate(segment, cut, part, bit, cut, 0, 0, SIZE_MAX, NULL, 0)
              == PK_NEED_MORE);
        check_part(segment, cut, part, bit, tokens);
        free(cut);
    }
    free(exact);
    pk_segment_free(segment);
    pk_writer_free(&writer);
}

/* 258 written as 227 and 31 more, and distance symbols that are none: refused, wherever they
 * are. */
static void check_refusals(void)
{
    for (unsigned behind = 0; behind < 2; behind++) {
        pk_writer writer = {0};
        pk_segment *segment = pk_segment_new();
        const pk_token literals[100] = {0};
        uint8_t lengths[PK_LENGTHS];
        uint64_t bits;
        CHECK(segment);
        pk_fixed_lengths(lengths);
        for (unsigned wrong = 0; wrong < 3; wrong++) {
            pk_writer_start(&writer, 0, 1000);
            pk_write_bits(&writer, 1 | PK_FIXED << 1, 3);
            pk_write_tokens(&writer, lengths, literals, 10, 0);
            pk_write_bits(&writer, 0x23, 8);                 /* symbol 284 */
            pk_write_bits(&writer, wrong == 1 ? 31 : 30, 5); /* its extra bits */
            pk_write_bits(&writer, wrong == 2 ? 15 : 0, 5);  /* distance 1, or symbol 30 */
            pk_write_tokens(&writer, lengths, literals, behind ? 100 : 0, 1);
            CHECK(pk_writer_end(&writer, &bits) == PK_OK);
            CHECK(pk_segment_inflate(segment, writer.bytes, (size_t)(bits + 7) / 8, 0,
                                     writer.bytes, 0, 0, SIZE_MAX, NULL, 0)
                  == (wrong ? PK_INVALID : PK_OK));
            if (!wrong)
                CHECK(segment->tokens[10] == (257u << 16 | 1));
        }
        pk_segment_free(segment);
        pk_writer_free(&writer);
    }
}

int main(void)
{
    draw_state = 97531;
    pk_token *tokens = malloc(MOST * sizeof *tokens);
    CHECK(tokens);
    for (unsigned round = 0; round < 120; round++)
        check_round(tokens, round);
    free(tokens);
    check_refusals();
    puts("inflate: ok");
    return 0;
}
