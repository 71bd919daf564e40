/* Parts of recipes from tokens: the coder, header constructions, spans, and the writer of bits;
 * under the sanitizers. */
#include "check.h"

#include "deflate/tokens_internal.h"

static uint64_t state = 88172645463325252u;

static uint32_t draw(uint32_t below)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

/* What a decision costs is learned; what is written comes back in any case, also at the ends of
 * the range. */
static void test_coder(void)
{
    enum { COUNT = 20000 };
    static uint32_t numbers_given[COUNT];
    static numbers chances[2];
    chance bits[2][3];
    for (int zeros = 0; zeros < 2; zeros++) {
        coder to = {0}, from = {0};
        for (size_t i = 0; i < sizeof chances / (sizeof(chance)); i++)
            ((chance *)chances)[i] = (chance){32768, 0};
        for (int i = 0; i < 6; i++)
            bits[i / 3][i % 3] = (chance){32768, 0};
        coder_encodes(&to, 1 << 24);
        for (int i = 0; i < COUNT; i++) {
            numbers_given[i] = zeros     ? 0
                               : draw(4) ? draw(20)
                                         : draw(UINT32_C(1) << (1 + draw(30)));
            code_number(&to, &chances[0], numbers_given[i]);
            code_bit(&to, &bits[0][i % 3], numbers_given[i] == 3);
            code_even(&to, numbers_given[i] & 31, 5 * !zeros);
        }
        coder_ends(&to);
        CHECK(!to.failed && (!zeros || to.length < 100));
        uint8_t *exact = exact_copy(to.bytes, to.length);
        coder_decodes(&from, exact, to.length);
        for (int i = 0; i < COUNT; i++) {
            CHECK(code_number(&from, &chances[1], 0) == numbers_given[i]);
            CHECK(code_bit(&from, &bits[1][i % 3], 0) == (numbers_given[i] == 3));
            CHECK(code_even(&from, 0, 5 * !zeros) == (numbers_given[i] & 31));
        }
        free(exact);
        free(to.bytes);
    }
}

/* Fill a segment with a text and tokens that make it, in blocks of several kinds. */
static pk_segment *made_segment(uint32_t size)
{
    pk_segment *segment = pk_segment_new();
    uint8_t *text = malloc(size);
    CHECK(segment && text);
    for (uint32_t i = 0; i < size; i++)
        text[i] =
            i > 300 && draw(3) ? text[i - 1 - draw(300)] : (uint8_t)("abcdefghij\n"[draw(11)]);
    CHECK(pk_segment_fill(segment, text, 0, text, size) == PK_OK);
    free(text);
    segment->tokens = malloc(size * sizeof *segment->tokens);
    segment->blocks = calloc(64, sizeof *segment->blocks);
    CHECK(segment->tokens && segment->blocks);
    segment->token_capacity = size;
    segment->block_capacity = 64;
    finder *with = calloc(1, sizeof *with);
    CHECK(with);
    pk_finder_start(with, FALL_LAZY | 2 << FALL_DEPTH, segment->data, size);
    for (uint32_t at = 0; at < size;) {
        pk_block *block = &segment->blocks[segment->block_count];
        uint32_t stop = at + draw(size / 20) + 1;
        block->type = (uint8_t)draw(7) > 1 ? PK_DYNAMIC : (uint8_t)draw(2);
        block->start = at;
        block->first_token = (uint32_t)segment->token_count;
        if (block->type == PK_STORED) {
            at = stop < size ? stop : size;
        } else {
            while (at < stop && at < size) {
                pk_token token = pk_finder_predict(with, at);
                segment->tokens[segment->token_count++] = token;
                block->tokens++;
                at += token_bytes(token);
            }
            pk_counts counts;
            pk_count(&counts, segment->tokens + block->first_token, block->tokens);
            if (block->type == PK_DYNAMIC)
                pk_tokens_header(&block->header, (unsigned)segment->block_count % MAKES_COUNT,
                                 &counts, at - block->start);
        }
        block->plain = at - block->start;
        segment->block_count++;
    }
    segment->last = 1;
    free(with);
    return segment;
}

/* What is written is a deflate stream of the same tokens, blocks and headers, whatever made
 * these. */
static void test_writer(void)
{
    for (int turn = 0; turn < 20; turn++) {
        pk_segment *segment = made_segment(1000 + draw(60000)), *read = pk_segment_new();
        pk_writer writer = {0};
        unsigned bit = draw(8);
        CHECK(read);
        uint64_t bits, again;
        CHECK(pk_write_segment(&writer, segment, bit, 1 << 20, &bits) == PK_OK && bits);
        CHECK(pk_write_segment(&writer, segment, bit, (size_t)bits / 8 - 1, &again) == PK_INVALID);
        CHECK(pk_write_segment(&writer, segment, bit, 1 << 20, &again) == PK_OK && again == bits);
        uint8_t *exact = exact_copy(writer.bytes, (size_t)(bits + 7) / 8);
        CHECK(pk_segment_inflate(read, exact, (size_t)(bits + 7) / 8, bit, exact, 0, 0, SIZE_MAX,
                                 NULL, 0)
              == PK_OK);
        CHECK(read->end_bit == bits && read->last && read->size == segment->size);
        CHECK(!memcmp(read->data, segment->data, read->size)
              && read->block_count == segment->block_count);
        CHECK(read->token_count == segment->token_count);
        CHECK(!memcmp(read->tokens, segment->tokens, read->token_count * sizeof *read->tokens));
        for (size_t i = 0; i < read->block_count; i++)
            if (read->blocks[i].type == PK_DYNAMIC)
                CHECK(pk_same_header(&read->blocks[i].header, &segment->blocks[i].header));
        free(exact);
        pk_writer_free(&writer);
        pk_segment_free(read);
        pk_segment_free(segment);
    }
}

/* Whatever part of a span is asked for, its tokens make its bytes, and each place finds the
 * token that covers it. */
static void test_spans(void)
{
    pk_segment *segment = made_segment(50000);
    pk_old *old = pk_old_new();
    CHECK(old);
    CHECK(pk_old_begin(old, 0, PK_OLD_PLAIN + 1) == PK_INVALID);
    segment->position = 7000;
    CHECK(pk_old_begin(old, 6999, 10) == PK_OK && pk_old_add(old, segment) == PK_INVALID);
    for (int turn = 0; turn < 200; turn++) {
        uint32_t start = draw(60000), size = draw(60000);
        CHECK(pk_old_begin(old, start < 7000 ? 7000 : start, size) == PK_OK
              && pk_old_add(old, segment) == PK_OK);
        if (turn & 1 && old->size) {
            uint32_t from = draw((uint32_t)old->size),
                     to = from + draw((uint32_t)old->size - from + 1);
            uint64_t before = old->start;
            uint32_t cut = pk_old_cut(old, from, to);
            CHECK(old->start == before + cut && cut <= from
                  && (from >= to || old->size >= to - cut));
        }
        uint32_t at = 0;
        for (size_t i = 0; i < old->count; i++)
            at += token_bytes(old->tokens[i]);
        CHECK(at == old->size && at <= size);
        if (!at)
            continue;
        CHECK(!memcmp(old->plain, segment->data + (old->start - 7000), at));
        old_place place = {0, 0};
        for (int i = 0; i < 500; i++) {
            uint32_t there = draw(at);
            old_seek(old, &place, there);
            CHECK(place.at <= there && there - place.at < token_bytes(old->tokens[place.token]));
            uint32_t sum = 0;
            for (uint32_t token = 0; i < 5 && token < place.token; token++)
                sum += token_bytes(old->tokens[token]);
            CHECK(i >= 5 || sum == place.at);
        }
        for (size_t i = 0; i < old->end_count; i++)
            CHECK(old->ends[i] > (i ? old->ends[i - 1] : 0) && old->ends[i] <= old->size);
    }
    pk_old_free(old);
    pk_segment_free(segment);
}

/* The fall-back's answers do not depend on what it was asked before. */
static void test_finder(void)
{
    pk_segment *segment = made_segment(200000);
    finder *one = calloc(1, sizeof *one), *other = calloc(1, sizeof *other);
    CHECK(one && other);
    for (unsigned rule = 0; rule <= FALL_MOST; rule += 5) {
        pk_finder_start(one, rule, segment->data, (uint32_t)segment->size);
        pk_finder_start(other, rule, segment->data, (uint32_t)segment->size);
        for (uint32_t at = draw(50); at < segment->size; at += draw(draw(3) ? 20 : 60000) + 1) {
            uint32_t rank = draw(6), distance = pk_finder_nth(one, at, rank);
            pk_token token = pk_finder_predict(one, at);
            for (uint32_t before = at < 300 ? 0 : at - 300; before < at; before += 7)
                pk_finder_predict(other, before);
            CHECK(pk_finder_predict(other, at) == token);
            CHECK(pk_finder_nth(other, at, rank) == distance);
            if (distance)
                CHECK(pk_finder_rank(other, at, distance) == rank);
        }
    }
    free(one);
    free(other);
    pk_segment_free(segment);
}

int main(void)
{
    test_coder();
    test_writer();
    test_spans();
    test_finder();
    puts("tokens: ok");
    return 0;
}
