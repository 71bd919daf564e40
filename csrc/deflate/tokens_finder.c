/* The fall-back: what a plain hash-chain encoder would choose where there is no old token to go
 * by.
 *
 * Its answers depend on the data within PK_WINDOW before the place and on nothing else, so
 * positions enter its chains only when it is asked: those that were out of reach of every
 * question are left out.
 */
#include "deflate/tokens_internal.h"

enum {
    MASK = 2 * PK_WINDOW - 1,
    TOO_FAR = 4096,
    STEP_WORK = 2 /* time for a step along a chain, measured by what one position's entry takes */
};

static inline uint32_t hash_of(const finder *with, uint32_t at, unsigned bytes)
{
    const uint8_t *here = with->data + at;
    uint32_t value = (uint32_t)here[0] << 24 | (uint32_t)here[1] << 16 | (uint32_t)here[2] << 8;
    if (bytes == 4)
        value |= here[3];
    return value * 0x9e3779b1u >> (32 - FINDER_BITS);
}

void pk_finder_start(finder *with, unsigned rule, const uint8_t *data, uint32_t size)
{
    /* Heads of earlier starts are farther away than a window. */
    if (with->base > UINT32_MAX / 2 || !with->base) {
        memset(with->head, 0, sizeof with->head);
        memset(with->three_head, 0, sizeof with->three_head);
        with->base = PK_WINDOW + 1;
    } else {
        with->base += with->size + PK_WINDOW + 1;
    }
    with->data = data;
    with->size = size;
    with->inserted = with->three_inserted = 0;
    with->work = 0;
    with->least = rule & FALL_FOUR ? 4 : 3;
    with->depth = 0;
    pk_finder_follow(with, rule);
}

void pk_finder_follow(finder *with, unsigned rule)
{
    const uint32_t depth = 8u << (rule >> FALL_DEPTH);
    if (depth != with->depth)
        with->known[0].at = with->known[1].at = UINT32_MAX;
    with->rule = rule;
    with->depth = depth;
}

static inline void chain(uint32_t *head, uint16_t *back, uint32_t entry)
{
    uint32_t step = entry - *head;
    *head = entry;
    *back = (uint16_t)(step & (uint32_t)-(int32_t)(step <= PK_WINDOW));
}

/* Return the first position from which on those up to `at` enter, of which `done` are there. */
static inline uint32_t first_of(uint32_t done, uint32_t at)
{
    return at > PK_WINDOW && done < at - PK_WINDOW ? at - PK_WINDOW : done;
}

/* Enter all positions up to `at` and itself into the chains. */
static inline void insert(finder *with, uint32_t at)
{
    const uint32_t base = with->base + 1;
    uint32_t from = first_of(with->inserted, at);
    with->work += from <= at ? at + 1 - from : 0;
    if (with->least == 3)
        for (; from <= at; from++)
            chain(&with->head[hash_of(with, from, 3)], &with->back[from & MASK], base + from);
    else
        for (; from <= at; from++)
            chain(&with->head[hash_of(with, from, 4)], &with->back[from & MASK], base + from);
    if (with->inserted <= at)
        with->inserted = at + 1;
}

/* The same for the chains of three bytes beside those of four, which few places ask for. */
static void insert_threes(finder *with, uint32_t at)
{
    const uint32_t base = with->base + 1;
    for (uint32_t from = first_of(with->three_inserted, at); from <= at; from++)
        chain(&with->three_head[hash_of(with, from, 3)], &with->three_back[from & MASK],
              base + from);
    if (with->three_inserted <= at)
        with->three_inserted = at + 1;
}

static inline int can_search(const finder *with, uint32_t at, uint32_t bytes)
{
    return at < with->size && with->size - at >= bytes;
}

/* Take the answer from the tape. Returns 0 if there is none. */
static inline int plays(finder *with, uint32_t at, answer *to)
{
    if (with->tape_mode != TAPE_PLAYS)
        return 0;
    if (with->played == with->taped || with->tape[with->played].at != at) {
        with->tape_mode = TAPE_OFF;
        return 0;
    }
    *to = with->tape[with->played++];
    return 1;
}

uint32_t pk_finder_longest(finder *with, uint32_t at, uint32_t *distance)
{
    *distance = 0;
    if (!can_search(with, at, with->least))
        return 0;
    answer *known = &with->known[at & 1];
    if (known->at == at || plays(with, at, known)) {
        *distance = known->distance;
        return known->length;
    }
    insert(with, at);
    const uint8_t *here = with->data + at;
    uint32_t most = with->size - at < PK_MAX_MATCH ? with->size - at : PK_MAX_MATCH;
    uint32_t best = with->least - 1, there = at, left = with->depth, step;
    /* A longer match agrees in the last four of its bytes, or in the first three. */
    uint32_t tail = best < 3 ? 0 : best - 3, last = pk_load32(here + tail);
    unsigned ignored = best < 3 ? 8 : 0;
    for (; left && (step = with->back[there & MASK]); left--) {
        there -= step;
        if (at - there > PK_WINDOW)
            break;
        const uint8_t *other = with->data + there;
        if ((pk_load32(other + tail) ^ last) << ignored)
            continue;
        uint32_t length = (uint32_t)pk_equal_ahead(other, here, most);
        if (length > best) {
            best = length;
            *distance = at - there;
            if (best == most)
                break;
            tail = best - 3;
            last = pk_load32(here + tail);
            ignored = 0;
        }
    }
    with->work += STEP_WORK * (with->depth - left);
    uint32_t length = *distance ? best : 0;
    *known = (answer){at, length, *distance};
    if (with->tape_mode == TAPE_RECORDS && with->taped < TAPE_ANSWERS)
        with->tape[with->taped++] = *known;
    return length;
}

pk_token pk_finder_predict(finder *with, uint32_t at)
{
    uint32_t distance, other;
    uint32_t length = pk_finder_longest(with, at, &distance);
    pk_token literal = with->data[at];
    if (!length || (with->rule & FALL_NEAR && length == with->least && distance > TOO_FAR))
        return literal;
    if (with->rule & FALL_LAZY && length < PK_MAX_MATCH
        && pk_finder_longest(with, at + 1, &other) > length)
        return literal;
    return length << 16 | distance;
}

/* Places with a match of three bytes: of a chain of four-byte hashes first those with four. */
static uint32_t walk_ranks(finder *with, uint32_t at, uint32_t distance, uint32_t *rank)
{
    const uint32_t wanted = *rank;
    uint32_t seen = 0, step;
    if (!can_search(with, at, 4))
        return 0;
    insert(with, at);
    for (unsigned bytes = with->least;; bytes = 3) {
        const uint16_t *back = with->back;
        if (bytes != with->least) {
            insert_threes(with, at);
            back = with->three_back;
        }
        uint32_t there = at, left = with->depth;
        while (left-- && (step = back[there & MASK])) {
            there -= step;
            if (at - there > PK_WINDOW)
                break;
            size_t length = pk_equal_ahead(with->data + there, with->data + at, 4);
            if (length < bytes || (bytes != with->least && length > 3))
                continue;
            if (at - there == distance || seen == wanted) {
                *rank = seen;
                return at - there;
            }
            seen++;
        }
        if (bytes == 3)
            return 0;
    }
}

uint32_t pk_finder_nth(finder *with, uint32_t at, uint32_t rank)
{
    return walk_ranks(with, at, 0, &rank);
}

uint32_t pk_finder_rank(finder *with, uint32_t at, uint32_t distance)
{
    uint32_t rank = UINT32_MAX;
    return walk_ranks(with, at, distance, &rank) ? rank : UINT32_MAX;
}
