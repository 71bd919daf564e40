/* The models of klauspost's encoders predict matches that are there, within what they see,
 * whatever tokens they are told of: on texts of few letters, of repeats and of noise, with flush
 * points and restarts, and with every way to start. */
#include "check.h"

#include "common/bytes.h"
#include "deflate/model.h"

enum { SIZE = 200000, ROUNDS = 24, DETAILS = 3 };

static uint32_t state = 54321;

/* A hash of all that was predicted. Recipes hold what a model predicts wrong, so a model predicts
 * the same for ever. */
enum { PRIME = 16777619 };
static uint64_t predicted = 1;

static uint32_t any(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % below;
}

/* Letters, and copies from anywhere before. */
static void fill(uint8_t *data, uint32_t letters, uint32_t longest)
{
    for (uint32_t at = 0; at < SIZE;) {
        uint32_t length = 1 + any(longest), from = any(at + 1);
        int copies = at && any(3);
        for (uint32_t i = 0; i < length && at < SIZE; i++, at++)
            data[at] = copies ? data[from + i] : (uint8_t)any(letters);
    }
}

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

int main(void)
{
    static const uint32_t letters[] = {2, 3, 20, 250, 30, 1}, longest[] = {9, 40, 9, 300, 700, 9};
    pk_model *model = calloc(1, sizeof *model);
    uint8_t *data = calloc(SIZE + PK_PAD, 1);
    CHECK(model && data);
    uint64_t matches = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        fill(data, letters[round % 6], longest[round % 6]);
        for (unsigned rule = 29; rule < pk_rule_count; rule++)
            matches += check_predictions(model, data, rule, round);
    }
    CHECK(matches);
    CHECK(predicted == UINT64_C(0xcab753da3a1f539d));
    printf("ok: klauspost, %llu matches\n", (unsigned long long)matches);
    free(data);
    free(model);
    return 0;
}
