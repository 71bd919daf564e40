/* Recipes from tokens: analysis and rebuilding. */
#include "deflate/tokens_walk.h"

enum {
    SAMPLE = 512,             /* tokens by which the fall-back is chosen, */
    FIRST = 96,               /* so many of them the segment's first, */
    ENTERED = 12 * PK_WINDOW, /* from places that make so many positions enter its chains, about */
    DEPTHS = 9,               /* depths of chains that FALL_DEPTH may code: 8 << 0 to 8 << 8 */
    MIDDLE = 4,               /* the depth at which the styles are compared */
    STEP = 2,                 /* from there, depths are tried that are so far apart */
    BETTER = 16,              /* one is taken if one in so many of the wrong tokens gets right */
    GOOD = 64,                /* none is tried if one token in so many is wrong */
    STYLES = 1u << FALL_DEPTH,
    /* Where next to nothing changed, the fall-back decides next to nothing: */
    ANY_RULE = FALL_LAZY | FALL_FOUR | MIDDLE << FALL_DEPTH, /* so it is this one if that gives */
    SHORT = 32                                               /* up to so many bytes */
};

/* ---- Recipes ---- */

enum { FLAG_LAST = 1, FLAG_GOES_ON = 2, FLAG_OPEN = 4, FLAGS = 7 };

/* Whether the blocks that a segment begins and ends within are there, and may be cut. */
static int may_be_cut(const pk_segment *segment)
{
    const size_t count = segment->block_count;
    if (segment->goes_on && !(count && segment->blocks[0].type != PK_STORED))
        return 0;
    return !segment->open || (count && segment->blocks[count - 1].type != PK_STORED);
}

/* Numbers as in all recipes. Returns their bytes. */
static size_t put_number(uint8_t *to, uint64_t value)
{
    size_t length = 0;
    for (; value >= 0x80; value >>= 7)
        to[length++] = (uint8_t)(value | 0x80);
    to[length++] = (uint8_t)value;
    return length;
}

/* Returns 0 if there is none. */
static size_t get_number(const uint8_t *from, size_t left, uint64_t *value)
{
    *value = 0;
    for (size_t length = 0; length < left && length < 9; length++) {
        *value |= (uint64_t)(from[length] & 0x7f) << (7 * length);
        if (from[length] < 0x80)
            return length + 1;
    }
    return 0;
}

typedef struct head {
    unsigned flags, rule;
    uint64_t start, size, runs;
    size_t length;
} head;

static int read_head(head *to, const uint8_t *recipe, size_t length)
{
    if (length < 3 || recipe[0] != PK_TOKENS_KIND || recipe[1] > FLAGS || recipe[2] > FALL_MOST)
        return PK_INVALID;
    to->flags = recipe[1];
    to->rule = recipe[2];
    to->length = 3;
    uint64_t *numbers[] = {&to->start, &to->size, &to->runs};
    for (int i = 0; i < 3; i++) {
        size_t bytes = get_number(recipe + to->length, length - to->length, numbers[i]);
        if (!bytes)
            return PK_INVALID;
        to->length += bytes;
    }
    if (to->size > PK_OLD_PLAIN || to->runs > length - to->length)
        return PK_INVALID;
    return PK_OK;
}

pk_status pk_tokens_span(const uint8_t *recipe, size_t length, uint64_t *start, uint32_t *size)
{
    head with;
    if (read_head(&with, recipe, length))
        return PK_INVALID;
    *start = with.start;
    *size = (uint32_t)with.size;
    return PK_OK;
}

pk_tokens *pk_tokens_new(void)
{
    pk_tokens *own = calloc(1, sizeof *own);
    if (!own)
        return NULL;
    own->shifts = malloc(MOST_SHIFTS * sizeof *own->shifts);
    if (!own->shifts) {
        free(own);
        return NULL;
    }
    return own;
}

void pk_tokens_free(pk_tokens *own)
{
    if (!own)
        return;
    free(own->main.bytes);
    free(own->runs.bytes);
    free(own->made.tokens);
    free(own->made.blocks);
    free(own->copies);
    free(own->table);
    free(own->shifts);
    pk_writer_free(&own->out);
    free(own);
}

pk_status pk_segment_fill(pk_segment *segment, const uint8_t *window, size_t window_size,
                          const uint8_t *plain, size_t size)
{
    if (window_size > PK_FAR_WINDOW || size > PK_MAX_SEGMENT_PLAIN)
        return PK_INVALID;
    size_t whole = window_size + size;
    if (pk_segment_grow((void **)&segment->data, &segment->capacity, whole + PK_PAD, 1))
        return PK_NO_MEMORY;
    memcpy(segment->data, window, window_size);
    memcpy(segment->data + window_size, plain, size);
    memset(segment->data + whole, 0, PK_PAD);
    segment->window = window_size;
    segment->size = whole;
    segment->token_count = segment->block_count = 0;
    segment->last = segment->goes_on = segment->open = 0;
    return PK_OK;
}

pk_status pk_tokens_decode(pk_tokens *own, pk_segment *segment, const pk_old *old,
                           const uint8_t *recipe, size_t length)
{
    head with;
    walker walker;
    if (read_head(&with, recipe, length) || segment->window > segment->size
        || segment->window > PK_FAR_WINDOW
        || segment->size - segment->window > PK_MAX_SEGMENT_PLAIN || with.start != old->start
        || with.size != old->size)
        return PK_INVALID;
    const uint8_t *runs = recipe + with.length, *main = runs + with.runs;
    coder_decodes(&own->runs, runs, (size_t)with.runs);
    coder_decodes(&own->main, main, (size_t)(recipe + length - main));
    pk_walk_starts(own, &walker, old, segment, with.rule);
    int failed = pk_walk(own, &walker, segment);
    if (!failed && own->main.at != own->main.end)
        failed = PK_INVALID;
    segment->last = with.flags & FLAG_LAST;
    segment->goes_on = (with.flags & FLAG_GOES_ON) != 0;
    segment->open = (with.flags & FLAG_OPEN) != 0;
    if (!failed && !may_be_cut(segment))
        failed = PK_INVALID;
    return failed;
}

pk_status pk_tokens_write(pk_tokens *own, const pk_segment *segment, unsigned bit, size_t most,
                          uint64_t *bits)
{
    return pk_write_segment(&own->out, segment, bit, most, bits);
}

const uint8_t *pk_tokens_result(const pk_tokens *own)
{
    return own->out.bytes;
}

/* ---- Analysis ---- */

/* Find the alignment. The new text is put behind the old one. */
static int find_shifts(pk_tokens *own, const pk_segment *segment, pk_old *old)
{
    const size_t base = segment->window > PK_WINDOW ? segment->window - PK_WINDOW : 0;
    const size_t length = segment->size - base, prefix = old->size, size = prefix + length;
    if (pk_segment_grow((void **)&old->memory, &old->capacity, size + PK_PAD, 1))
        return PK_NO_MEMORY;
    old->plain = old->memory;
    memcpy(old->plain + prefix, segment->data + base, length);
    unsigned log = 10;
    while (log < 22 && (size_t)1 << log < size / 32)
        log++;
    size_t capacity = length / 64 + 1;
    if (capacity > MOST_SHIFTS)
        capacity = MOST_SHIFTS;
    if (pk_segment_grow((void **)&own->table, &own->table_capacity, (size_t)1 << log,
                        sizeof *own->table))
        return PK_NO_MEMORY;
    if (!own->copies && !(own->copies = malloc(MOST_SHIFTS * sizeof *own->copies)))
        return PK_NO_MEMORY;
    size_t count = pk_delta_find(old->plain, prefix, size, own->table, log, own->copies, capacity);
    memset(old->plain + prefix, 0, PK_PAD);
    own->shift_count =
        pk_shifts_of(own->copies, count, prefix, (uint32_t)base, own->shifts, MOST_SHIFTS);
    return PK_OK;
}

/* Leave out what the alignment does not refer to, so that rebuilding need not have it. */
static void cut_span(pk_tokens *own, const pk_segment *segment, pk_old *old)
{
    int64_t low = INT64_MAX, high = 0, size = (int64_t)old->size;
    for (size_t i = 0; i < own->shift_count; i++) {
        int64_t end = i + 1 < own->shift_count ? own->shifts[i + 1].at : segment->size;
        int64_t from = (int64_t)own->shifts[i].at - own->shifts[i].by,
                to = end - own->shifts[i].by;
        low = from < low ? from : low;
        high = to > high ? to : high;
    }
    low = low < 0 ? 0 : low;
    high = high > size ? size : high;
    uint32_t left_out =
        low < high ? pk_old_cut(old, (uint32_t)low, (uint32_t)high) : pk_old_cut(old, 0, 0);
    for (size_t i = 0; i < own->shift_count; i++)
        own->shifts[i].by += (int32_t)left_out;
}

/* Tokens that the fall-back will be asked about, in order. */
typedef struct sample {
    uint32_t count;
    uint32_t at[SAMPLE];
    pk_token token[SAMPLE];
} sample;

/* Take the first tokens, and then those that are aligned with nothing. */
static void take_sample(walker *with, const pk_segment *segment, sample *to)
{
    uint32_t entered = 0, last = 0;
    to->count = 0;
    for (size_t i = 0; i < segment->block_count && entered < ENTERED; i++) {
        const pk_block *block = &segment->blocks[i];
        const pk_token *token = segment->tokens + block->first_token;
        uint32_t at = block->start;
        for (uint32_t left = block->tokens; left && to->count < SAMPLE; left--) {
            if (to->count >= FIRST && at < with->equal_to) {
                at += token_bytes(*token++);
                continue;
            }
            if (to->count < FIRST || !pk_walk_align(with, at)) {
                to->at[to->count] = at;
                to->token[to->count++] = *token;
                entered += at - last < PK_WINDOW ? at - last : PK_WINDOW;
                last = at;
            }
            at += token_bytes(*token++);
        }
    }
}

/* Count for each rule how many tokens of the sample it predicts wrong. The rules look for matches
 * of equal least length, so that one entry of the positions into chains serves all of them. */
static void count_wrong(pk_tokens *own, const pk_segment *segment, const sample *on,
                        const unsigned *rules, unsigned count, uint32_t *wrong)
{
    pk_finder_start(&own->find, rules[0], segment->data, (uint32_t)segment->size);
    memset(wrong, 0, count * sizeof *wrong);
    for (uint32_t i = 0; i < on->count; i++)
        for (unsigned each = 0; each < count; each++) {
            pk_finder_follow(&own->find, rules[each]);
            wrong[each] += pk_finder_predict(&own->find, on->at[i]) != on->token[i];
        }
}

/* Choose the fall-back's style at a middling depth, then the depth of its chains: time grows with
 * it. */
static unsigned choose_rule(pk_tokens *own, const pk_segment *segment, const pk_old *old)
{
    walker walker;
    sample on;
    unsigned rules[STYLES], best = MIDDLE << FALL_DEPTH;
    uint32_t wrong[STYLES], least = UINT32_MAX;
    pk_walk_starts(own, &walker, old, segment, 0);
    pk_walk_shifts(&walker, own->shifts, own->shift_count);
    take_sample(&walker, segment, &on);
    for (unsigned four = FALL_FOUR, more = 1; more; four ^= FALL_FOUR) {
        unsigned count = 0;
        for (unsigned style = 0; style < STYLES; style++)
            if ((style & FALL_FOUR) == four)
                rules[count++] = style | MIDDLE << FALL_DEPTH;
        count_wrong(own, segment, &on, rules, count, wrong);
        for (unsigned each = 0; each < count; each++)
            if (wrong[each] < least || (wrong[each] == least && rules[each] < best)) {
                least = wrong[each];
                best = rules[each];
            }
        more = four && least > on.count / GOOD;
    }
    if (least <= on.count / GOOD)
        return best;
    for (int step = STEP; step >= -STEP; step -= 2 * STEP) {
        const unsigned before = best;
        for (int depth = MIDDLE + step; depth >= 0 && depth < DEPTHS; depth += step) {
            unsigned rule = (best & (STYLES - 1)) | (unsigned)depth << FALL_DEPTH;
            count_wrong(own, segment, &on, &rule, 1, wrong);
            if (wrong[0] >= least - least / BETTER)
                break;
            least = wrong[0];
            best = rule;
        }
        if (best != before)
            break;
    }
    return best;
}

/* Write a segment's runs and decisions, each at most `most` bytes. Returns PK_OK or an error. */
static int encode(pk_tokens *own, walker *with, const pk_segment *segment, const pk_old *old,
                  unsigned rule, size_t most, uint64_t most_work)
{
    coder_encodes(&own->main, most);
    coder_encodes(&own->runs, most);
    pk_walk_starts(own, with, old, segment, rule);
    with->most_work = most_work;
    own->find.tape_mode = TAPE_RECORDS;
    own->find.taped = own->find.played = 0;
    int failed = pk_walk(own, with, (pk_segment *)(uintptr_t)segment);
    own->find.tape_mode = TAPE_OFF;
    if (failed)
        return failed;
    pk_walk_run(with, UINT32_MAX);
    coder_ends(&own->main);
    coder_ends(&own->runs);
    return own->main.failed ? own->main.failed : own->runs.failed;
}

static int same_bits(const pk_segment *segment, const uint8_t *made, uint64_t bits)
{
    if (bits != segment->end_bit)
        return 0;
    const uint8_t *given = segment->input;
    uint64_t whole = bits / 8;
    uint8_t first = (uint8_t)(0xff << segment->start_bit),
            tail = (uint8_t)((1u << (bits & 7)) - 1);
    if (bits & 7 && (made[whole] ^ given[whole]) & tail & (whole ? 0xff : first))
        return 0;
    return !whole || !((made[0] ^ given[0]) & first || memcmp(made + 1, given + 1, whole - 1));
}

pk_status pk_tokens_analyse(pk_tokens *own, const pk_segment *segment, pk_old *old,
                            uint64_t most_work, uint8_t *recipe, size_t capacity, size_t *length,
                            pk_tokens_report *report)
{
    walker with;
    const size_t third = (size_t)((segment->end_bit - segment->start_bit) / 8 / 3) + 16;
    const size_t most = third < capacity ? third : capacity;
    memset(report, 0, sizeof *report);
    int failed = find_shifts(own, segment, old);
    if (failed)
        return failed;
    cut_span(own, segment, old);
    unsigned rule = ANY_RULE;
    failed = encode(own, &with, segment, old, rule, SHORT < most ? SHORT : most, most_work);
    if (failed == PK_INVALID) {
        rule = choose_rule(own, segment, old);
        failed = encode(own, &with, segment, old, rule, most, most_work);
    }
    report->tokens = segment->token_count;
    report->wrong = with.wrong;
    report->aligned = with.aligned;
    report->shifts = (uint32_t)own->shift_count;
    report->headers = with.headers;
    if (failed)
        return failed;
    const int flags = (segment->last ? FLAG_LAST : 0) | (segment->goes_on ? FLAG_GOES_ON : 0)
                      | (segment->open ? FLAG_OPEN : 0);
    uint8_t start[48] = {PK_TOKENS_KIND, (uint8_t)flags, (uint8_t)rule};
    size_t first = 3;
    first += put_number(start + first, old->start);
    first += put_number(start + first, old->size);
    first += put_number(start + first, own->runs.length);
    size_t whole = first + own->runs.length + own->main.length;
    if (whole > most)
        return PK_INVALID;
    memcpy(recipe, start, first);
    memcpy(recipe + first, own->runs.bytes, own->runs.length);
    memcpy(recipe + first + own->runs.length, own->main.bytes, own->main.length);
    /* Whatever the analysis got wrong, here it comes out: only what gives back the bits is
     * used. */
    pk_segment *made = &own->made;
    made->data = segment->data;
    made->window = segment->window;
    made->size = segment->size;
    made->position = segment->position;
    own->find.tape_mode = TAPE_PLAYS;
    failed = pk_tokens_decode(own, made, old, recipe, whole);
    own->find.tape_mode = TAPE_OFF;
    uint64_t bits = 0;
    if (!failed)
        failed = pk_tokens_write(own, made, segment->start_bit, (size_t)(segment->end_bit / 8) + 1,
                                 &bits);
    made->data = NULL;
    if (failed)
        return failed;
    *length = whole;
    return same_bits(segment, own->out.bytes, bits) ? PK_OK : PK_INVALID;
}
