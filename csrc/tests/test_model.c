/* Searches that take short cuts find what walking the encoder's chain finds: for every rule that
 * has them, on texts of few letters, of repeats and of noise, with flush points and with tokens
 * that were not predicted. */
#include "check.h"
#include "draw.h"

#include "deflate/model.h"

enum { SIZE = 150000, ROUNDS = 6 };

static uint64_t compare(pk_model *quick, pk_model *plain, const uint8_t *data, unsigned rule,
                        unsigned round)
{
    const pk_rules *rules = &pk_rule_table[rule];
    const uint32_t start = round % 2 ? 0 : 40000, window = round % 4 ? PK_WINDOW : PK_FAR_WINDOW;
    const uint64_t origin = round % 3 ? 0 : 1000000;
    const unsigned hash_bits = round % 2 ? 15 : 8;
    pk_model_start(quick, rules, hash_bits, data, start, SIZE, origin, window);
    pk_model_start(plain, rules, hash_bits, data, start, SIZE, origin, window);
    if (!quick->climbs && !quick->seeks)
        return 0;
    plain->climbs = plain->seeks = 0;
    uint64_t matches = 0;
    uint32_t end = 0;
    for (uint32_t at = start; at < SIZE;) {
        if (at >= end) {
            end = at + 1 + any(80000);
            end = end < SIZE ? end : SIZE;
            pk_model_see(quick, end);
            pk_model_see(plain, end);
        }
        pk_token one = pk_model_predict(quick, at), other = pk_model_predict(plain, at);
        CHECK(one == other);
        pk_token actual = any(50) ? one : data[at];
        pk_model_accept(quick, at, one, actual);
        pk_model_accept(plain, at, other, actual);
        at += actual >> 16 ? actual >> 16 : 1;
        matches += actual >> 16 != 0;
    }
    return matches;
}

/* Tokens that a model knows without being asked are those that it is asked for, whatever runs are
 * taken, and with actual tokens that differ from the predicted ones. Returns how many they are. */
static uint64_t run_along(pk_model *runs, pk_model *asked, const uint8_t *data, unsigned rule,
                          unsigned round)
{
    static pk_token known[SIZE], actual[SIZE];
    const pk_rules *rules = &pk_rule_table[rule];
    const uint32_t start = round % 2 ? 0 : 40000, origin = round % 3 ? 0 : 1000000;
    const unsigned wrong = 1 + any(2) * 60;
    uint64_t count = 0;
    uint32_t end = 0;
    pk_model_start(runs, rules, 15, data, start, SIZE, origin, PK_WINDOW);
    pk_model_start(asked, rules, 15, data, start, SIZE, origin, PK_WINDOW);
    for (uint32_t at = start; at < SIZE;) {
        if (at >= end) {
            end = at + 1 + any(80000);
            end = end < SIZE ? end : SIZE;
            pk_model_see(runs, end);
            pk_model_see(asked, end);
        }
        uint32_t behind = at, most = any(4) ? any(2000) : 0, last = at + any(end - at);
        if (pk_model_may_run(runs)) {
            for (uint32_t each = 0; each < most; each++)
                actual[each] = at + each < SIZE ? data[at + each] : 0;
            const uint32_t run =
                pk_model_run(runs, &behind, last, most, any(2) ? actual : NULL, known);
            CHECK(run <= most && behind <= last);
            for (uint32_t each = 0; each < run; each++) {
                CHECK(pk_model_predict(asked, at) == known[each]);
                pk_model_accept(asked, at, known[each], known[each]);
                at += known[each] >> 16 ? known[each] >> 16 : 1;
            }
            CHECK(at == behind);
            count += run;
        }
        pk_token one = pk_model_predict(runs, at), other = pk_model_predict(asked, at);
        CHECK(one == other);
        pk_token token = wrong == 1 || any(wrong) ? one : data[at];
        pk_model_accept(runs, at, one, token);
        pk_model_accept(asked, at, other, token);
        at += token >> 16 ? token >> 16 : 1;
    }
    return count;
}

/* A cleared model is as new, whatever it was used for. */
static void check_cleared(pk_model *model, const uint8_t *data, unsigned rule, uint32_t size)
{
    const unsigned hash_bits = 8 + any(9);
    const uint32_t start = any(size);
    pk_model_start(model, &pk_rule_table[rule], hash_bits, data, start, size, start,
                   any(2) ? PK_WINDOW : PK_FAR_WINDOW);
    for (uint32_t at = start; at < size;) {
        pk_token token = pk_model_predict(model, at);
        pk_model_accept(model, at, token, token);
        at += token >> 16 ? token >> 16 : 1;
    }
    if (any(2))
        return; /* to be cleared together with the next use */
    pk_model_clear(model);
    const uint8_t *bytes = (const uint8_t *)model;
    uint8_t left = 0;
    for (size_t at = 0; at < sizeof *model; at++)
        left |= bytes[at];
    CHECK(!left);
}

int main(void)
{
    draw_state = 12345;
    static const uint32_t letters[ROUNDS] = {2, 3, 4, 20, 250, 30},
                          longest[ROUNDS] = {9, 40, 4, 9, 300, 700};
    pk_model *quick = calloc(1, sizeof *quick), *plain = calloc(1, sizeof *plain);
    uint8_t *data = calloc(SIZE + PK_PAD, 1);
    CHECK(quick && plain && data);
    unsigned rules = 0;
    uint64_t matches = 0, runs = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        fill(data, SIZE, letters[round], longest[round]);
        for (unsigned rule = 0; rule < pk_rule_count; rule++) {
            pk_model_start(quick, &pk_rule_table[rule], 8, data, 0, 0, 0, PK_WINDOW);
            runs += run_along(quick, plain, data, rule, round);
            if (!quick->climbs && !quick->seeks)
                continue;
            matches += compare(quick, plain, data, rule, round);
            rules++;
        }
    }
    CHECK(rules && matches && runs);
    pk_model_clear(quick);
    for (unsigned round = 0; round < 4; round++)
        for (unsigned rule = 0; rule < pk_rule_count; rule++)
            check_cleared(quick, data, rule, round % 2 ? 1 + any(2000) : 1 + any(SIZE));
    printf(
        "%u runs of rules with short cuts, %llu matches, as without; %llu tokens known unasked\n",
        rules, (unsigned long long)matches, (unsigned long long)runs);
    free(data);
    free(plain);
    free(quick);
    return 0;
}
