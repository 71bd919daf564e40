/* The models of klauspost's encoders, miniz, zlib-ng and igzip predict matches that are there,
 * within what they see, whatever tokens they are told of: on texts of few letters, of repeats and
 * of noise, with flush points and restarts, and with every way to start. In runs klauspost's
 * predict the same. */
#include "check.h"
#include "draw.h"

#include "common/bytes.h"
#include "deflate/model.h"
#include "deflate/recipe.h"
#include "deflate/tokens.h"

enum { SIZE = 200000, ROUNDS = 24, DETAILS = 3 };

/* A hash of all that was predicted. Recipes hold what a model predicts wrong, so a model predicts
 * the same for ever. */
enum { PRIME = 16777619 };
static uint64_t predicted = 1;

/* A token that was not predicted: a literal, or any match that a recipe can hold. */
static pk_token other_token(const uint8_t *data, uint32_t at, uint32_t most)
{
    if (most < 3 || any(2))
        return data[at];
    uint32_t length = 3 + any((most < PK_MAX_MATCH ? most : PK_MAX_MATCH) - 2);
    return length << 16 | (1 + any(PK_WINDOW));
}

static uint64_t check_predictions(pk_model *model, const uint8_t *data, unsigned rule,
                                  unsigned round)
{
    const uint32_t size = round % 3 ? SIZE : 1 + any(3000), start = round % 2 ? 0 : any(size);
    const uint32_t follows[] = {0, PK_WINDOW, PK_FAR_WINDOW};
    const uint32_t strange = round % 4 ? 20 + any(2000) : UINT32_MAX;
    pk_model_start(model, &pk_rule_table[rule], round % DETAILS, data, start, size,
                   round % 5 ? 0 : 100000 + any(1000000), follows[any(3)]);
    uint64_t matches = 0;
    uint32_t end = start;
    for (uint32_t at = start; at < size;) {
        if (at >= end) {
            end = at + 1 + any(any(4) ? 150000 : 200);
            end = end < size ? end : size;
            if (!any(3))
                pk_model_restart(model, at);
            pk_model_see(model, end);
        }
        pk_token token = pk_model_predict(model, at);
        predicted = (predicted ^ token) * PRIME;
        const uint32_t length = token >> 16, distance = token & 0xffff;
        if (length) {
            CHECK(length >= 3 && length <= PK_MAX_MATCH && length <= end - at);
            CHECK(distance && distance <= PK_WINDOW && distance <= at);
            CHECK(pk_equal_ahead(data + at - distance, data + at, length) == length);
            matches++;
        } else {
            CHECK(token == data[at]);
        }
        pk_token actual = any(strange) ? token : other_token(data, at, end - at);
        pk_model_accept(model, at, token, actual);
        at += actual >> 16 ? actual >> 16 : 1;
    }
    return matches;
}

/* Runs give the tokens that the model predicts one by one, up to a wrong one. */
static void check_runs(pk_model *model, pk_model *other, const uint8_t *data, unsigned rule,
                       unsigned round)
{
    static pk_token actual[SIZE], out[SIZE];
    const uint32_t strange = round % 2 ? 500 + any(5000) : UINT32_MAX, start = any(1000);
    uint32_t count = 0, at = start, number = 0, runs = 0;
    pk_model_start(model, &pk_rule_table[rule], round % DETAILS, data, start, SIZE, 0, PK_WINDOW);
    pk_model_start(other, &pk_rule_table[rule], round % DETAILS, data, start, SIZE, 0, PK_WINDOW);
    while (at < SIZE) {
        pk_token token = pk_model_predict(model, at);
        actual[count] = any(strange) ? token : other_token(data, at, SIZE - at);
        pk_model_accept(model, at, token, actual[count]);
        at += pk_token_bytes(actual[count++]);
    }
    for (at = start; at < SIZE;) {
        const uint32_t last = at + any(3000) < SIZE ? at + any(3000) : SIZE, before = at,
                       run = pk_klauspost_run(other, &at, last, any(900), actual + number, out);
        uint32_t bytes = 0;
        for (uint32_t each = 0; each < run; each++) {
            CHECK(out[each] == actual[number + each]);
            bytes += pk_token_bytes(out[each]);
        }
        CHECK(run <= count - number && at == before + bytes && at <= last);
        number += run;
        runs += run;
        if (at == SIZE)
            break;
        pk_token token = pk_model_predict(other, at);
        pk_model_accept(other, at, token, actual[number]);
        at += pk_token_bytes(actual[number++]);
    }
    CHECK(number == count && runs);
}

/* A segment of an encoder that chose otherwise once, early in a unit: where the model looked ahead
 * and did not keep its tables. Its recipe has one correction. */
static void check_one_wrong(pk_model *model, const uint8_t *data, unsigned rule)
{
    enum { UNITS = 3 };
    pk_segment *made = pk_segment_new(), *read = pk_segment_new();
    pk_tokens *tokens = pk_tokens_new();
    pk_codec *codec = pk_codec_new();
    CHECK(made && read && tokens && codec);
    CHECK(pk_segment_fill(made, data, 0, data, UNITS * PK_UNIT) == PK_OK);
    made->tokens = calloc(UNITS * PK_UNIT, sizeof *made->tokens);
    made->blocks = calloc(UNITS, sizeof *made->blocks);
    CHECK(made->tokens && made->blocks);
    pk_model_clear(model);
    pk_model_start(model, &pk_rule_table[rule], 0, made->data, 0, UNITS * PK_UNIT, 0, PK_WINDOW);
    uint32_t at = 0, wrong = 0;
    for (unsigned unit = 0; unit < UNITS; unit++) {
        pk_block *block = &made->blocks[made->block_count++];
        *block = (pk_block){.type = PK_FIXED, .first_token = (uint32_t)made->token_count};
        block->start = at;
        block->plain = PK_UNIT;
        while (at < block->start + PK_UNIT) {
            pk_token token = pk_model_predict(model, at), actual = token;
            if (unit == 1 && token > 255 && !wrong++)
                actual = data[at];
            pk_model_accept(model, at, token, actual);
            made->tokens[made->token_count++] = actual;
            block->tokens++;
            at += pk_token_bytes(actual);
        }
    }
    made->last = 1;
    CHECK(wrong);
    uint64_t bits, counts[2];
    CHECK(pk_tokens_write(tokens, made, 0, 2 * UNITS * PK_UNIT, &bits) == PK_OK);
    CHECK(pk_segment_inflate(read, pk_tokens_result(tokens), (size_t)(bits + 7) / 8, 0, data, 0, 0,
                             UNITS * PK_UNIT, NULL, 0)
          == PK_OK);
    uint8_t recipe[200];
    size_t length;
    CHECK(pk_analyse(codec, read, (int)rule, recipe, sizeof recipe, &length, counts) == PK_OK);
    CHECK(recipe[0] == rule && counts[0] == made->token_count && counts[1] == 1);
    uint64_t end_bit;
    CHECK(pk_rebuild(codec, read->data, 0, read->size, 0, recipe, length, 0, 2 * UNITS * PK_UNIT,
                     &end_bit)
          == PK_OK);
    CHECK(end_bit == bits);
    CHECK(!memcmp(pk_codec_result(codec), pk_tokens_result(tokens), (size_t)(bits + 7) / 8));
    pk_codec_free(codec);
    pk_tokens_free(tokens);
    pk_segment_free(read);
    pk_segment_free(made);
}

int main(void)
{
    draw_state = 54321;
    static const uint32_t letters[] = {2, 3, 20, 250, 30, 1}, longest[] = {9, 40, 9, 300, 700, 9};
    pk_model *model = calloc(1, sizeof *model), *other = calloc(1, sizeof *other);
    uint8_t *data = calloc(SIZE + PK_PAD, 1);
    CHECK(model && other && data);
    uint64_t matches = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        fill(data, SIZE, letters[round % 6], longest[round % 6]);
        for (unsigned rule = 29; rule < 39; rule++)
            matches += check_predictions(model, data, rule, round);
    }
    CHECK(matches);
    CHECK(predicted == UINT64_C(0xcab753da3a1f539d));
    for (unsigned round = 0; round < ROUNDS; round++) {
        fill(data, SIZE, letters[round % 6], longest[round % 6]);
        for (unsigned rule = 39; rule < pk_rule_count; rule++) /* miniz, zlib-ng, igzip */
            CHECK(check_predictions(model, data, rule, round));
        for (unsigned rule = 29; rule < 36; rule++)
            check_runs(model, other, data, rule, round);
    }
    fill(data, SIZE, 20, 9);
    check_one_wrong(model, data, 33);
    check_one_wrong(model, data, 34);
    printf("ok: klauspost, %llu matches\n", (unsigned long long)matches);
    free(data);
    free(other);
    free(model);
    return 0;
}
