/* What headers are made of: symbols are counted as one by one; code lengths in Go's manner are
 * those of the package-merge algorithm in its plain form, bounded or not. */
#include "check.h"
#include "draw.h"

#include "deflate/block_header.h"

enum { MOST_TOKENS = 3000, SYMBOLS = 40, ITEMS = 2 * SYMBOLS, ROUNDS = 3000 };

static void check_counts(void)
{
    static pk_token tokens[MOST_TOKENS];
    const size_t count = any(MOST_TOKENS);
    const uint32_t matches = any(9);
    pk_counts expected, counts;
    memset(&expected, 0, sizeof expected);
    for (size_t at = 0; at < count; at++) {
        tokens[at] = any(256);
        if (any(8) < matches) {
            const uint32_t length = 3 + any(256), distance = 1 + any(1u << any(16));
            const unsigned first = pk_length_symbol(length), second = pk_distance_symbol(distance);
            tokens[at] = length << 16 | distance;
            expected.symbol[257 + first]++;
            expected.symbol[PK_LITERALS + second]++;
            expected.extra_bits += pk_length_extra[first] + pk_distance_extra[second];
        } else {
            expected.symbol[tokens[at]]++;
        }
    }
    pk_count(&counts, tokens, count);
    CHECK(!memcmp(&counts, &expected, sizeof counts));
}

/* A symbol, or two items of the level before. */
typedef struct item {
    uint32_t weight;
    uint8_t bits[SYMBOLS]; /* how often it has each symbol */
} item;

static void merge(uint8_t *lengths, const pk_weighted *list, unsigned total, unsigned most)
{
    static item levels[2][ITEMS];
    unsigned count = 0;
    for (unsigned level = 0; level < most; level++) {
        const item *before = levels[level & 1];
        item *to = levels[~level & 1];
        unsigned made = 0, symbol = 0, pair = 0;
        while (symbol < total || pair + 1 < count) {
            const uint32_t both =
                pair + 1 < count ? before[pair].weight + before[pair + 1].weight : UINT32_MAX;
            memset(&to[made], 0, sizeof *to);
            if (symbol == total || both <= list[symbol].count) {
                to[made].weight = both;
                for (unsigned at = 0; at < SYMBOLS; at++)
                    to[made].bits[at] = before[pair].bits[at] + before[pair + 1].bits[at];
                pair += 2;
            } else {
                to[made].weight = list[symbol].count;
                to[made].bits[list[symbol++].symbol] = 1;
            }
            made++;
        }
        count = made;
    }
    memset(lengths, 0, SYMBOLS);
    for (unsigned taken = 0; taken < 2 * total - 2; taken++)
        for (unsigned at = 0; at < SYMBOLS; at++)
            lengths[at] += levels[most & 1][taken].bits[at];
}

/* Returns the greatest length. */
static unsigned check_lengths(unsigned round)
{
    const unsigned symbols = 3 + any(SYMBOLS - 2), most = round & 1 ? 15 : 7;
    uint32_t counts[SYMBOLS] = {0}, rising = 1, before = 1;
    uint8_t lengths[SYMBOLS], expected[SYMBOLS];
    pk_weighted list[SYMBOLS];
    unsigned total = 0, greatest = 0;
    for (unsigned at = 0; at < symbols; at++) {
        const uint32_t next = rising + before;
        counts[at] = round % 3 == 0 ? any(5) : round % 3 == 1 ? any(4000) : rising;
        if (next < 100000 && any(4)) {
            before = rising;
            rising = next;
        }
        if (counts[at])
            list[total++] = (pk_weighted){counts[at], (uint16_t)at};
    }
    if (total < 3 || total > 1u << most)
        return 0;
    pk_sort_by_count(list, total);
    pk_go_lengths(lengths, counts, symbols, most);
    merge(expected, list, total, most);
    CHECK(!memcmp(lengths, expected, symbols));
    for (unsigned at = 0; at < symbols; at++)
        greatest = lengths[at] > greatest ? lengths[at] : greatest;
    return greatest;
}

int main(void)
{
    draw_state = 86421;
    unsigned of_length[16] = {0};
    for (unsigned round = 0; round < ROUNDS; round++) {
        check_counts();
        of_length[check_lengths(round)]++;
    }
    CHECK(of_length[5] && of_length[7] && of_length[10] && of_length[15]);
    puts("headers: ok");
    return 0;
}
