#include "deflate/trials.h"

#include <string.h>

#include "deflate/block_ends.h"

/* Flags of the stream, not of its encoder. */
enum { KEPT = PK_FLAG_LAST | PK_FLAG_GOES_ON | PK_FLAG_OPEN };

/* Units of igzip's buffer by default, in the program and in Python. */
enum { USUAL_UNITS = 65380 };

enum { IN_UNITS_NOT = 0, IN_UNITS_MAYBE = 1, IN_UNITS = 2 };

int pk_same_header(const pk_header *one, const pk_header *other)
{
    return one->literals == other->literals && one->distances == other->distances
           && one->codes == other->codes && one->symbols == other->symbols
           && !memcmp(one->code_lengths, other->code_lengths, sizeof one->code_lengths)
           && !memcmp(one->symbol, other->symbol, one->symbols)
           && !memcmp(one->extra, other->extra, one->symbols);
}

/* Whether blocks end where klauspost's encoders end them: at levels 1 to 6 behind units of
 * 65535 bytes, counted from the last flush point, at levels 7 to 9 (lazy) behind units of
 * 32768 tokens. Short streams do not tell. */
static int ends_units(const pk_segment *segment, int lazy)
{
    uint32_t from = (uint32_t)segment->window;
    size_t ended = 0;
    for (size_t at = 0; at < segment->block_count; at++) {
        const pk_block *block = &segment->blocks[at];
        const uint32_t end = block->start + block->plain;
        if (!block->plain) {
            from = end;
            continue;
        }
        if (at + 1 == segment->block_count || !block[1].plain)
            continue; /* a flush ends it, or what is behind is not known */
        if (lazy && block->type == PK_STORED)
            continue;
        if (lazy ? block->tokens % PK_KLAUSPOST_TOKENS : (end - from) % PK_UNIT)
            return IN_UNITS_NOT;
        ended += block->type != PK_STORED;
    }
    return ended ? IN_UNITS : IN_UNITS_MAYBE;
}

/* Whether the first block that ended by itself ended as those of miniz do at level 1. */
static int ends_as_miniz(const pk_segment *segment)
{
    for (size_t at = 0; at + 1 < segment->block_count; at++) {
        const pk_block *block = &segment->blocks[at];
        const pk_token *tokens = segment->tokens + block->first_token;
        uint32_t matches = 0;
        if (!block->plain || !block[1].plain || block->type == PK_STORED)
            continue;
        if (pk_miniz_codes(block->tokens, block->tokens) <= PK_MINIZ_CODES
            || pk_miniz_codes(block->tokens, 0) > PK_MINIZ_CODES + 1)
            return IN_UNITS_NOT;
        for (uint32_t token = 0; token + 1 < block->tokens; token++)
            matches += tokens[token] >= 256;
        return pk_miniz_codes(block->tokens - 1, matches) <= PK_MINIZ_CODES
                       && pk_miniz_codes(block->tokens,
                                         matches + (tokens[block->tokens - 1] >= 256))
                              > PK_MINIZ_CODES
                   ? IN_UNITS
                   : IN_UNITS_NOT;
    }
    return IN_UNITS_MAYBE;
}

static pk_settings klauspost_settings(const pk_trials *of, int lazy, unsigned flags)
{
    return (pk_settings){lazy ? 38 : 33, (uint16_t)((of->plain.flags & PK_FLAG_LAST) | flags),
                         lazy ? PK_KLAUSPOST_TOKENS : 1};
}

/* Whether a header tells if all lengths are written: the last ones are 0, or left out. */
static int tells_filled(const pk_header *header)
{
    return header->literals < 286 || header->distances < 30 || !header->lengths[285]
           || !header->lengths[PK_LITERALS + 29];
}

/* Which of the ways that klauspost makes headers give most of the first ones, and of the next one
 * that tells whether all lengths are written. */
static void find_ways(pk_trials *of, int lazy)
{
    enum { HEADERS = 6 };
    static const uint8_t flags[PK_KLAUSPOST_WAYS] = {PK_FLAG_FILLED, 0, PK_FLAG_QUEUES};
    const pk_segment *segment = of->segment;
    pk_ways *ways = &of->ways[lazy];
    size_t right[PK_KLAUSPOST_WAYS] = {0}, tried = 0, most = 0;
    for (size_t at = 0; at < segment->block_count && tried <= HEADERS; at++) {
        const pk_block *block = &segment->blocks[at];
        const pk_token *tokens = segment->tokens + block->first_token;
        const int flushed = at + 1 == segment->block_count ? segment->last : !block[1].plain;
        const pk_settings plain = klauspost_settings(of, lazy, 0);
        pk_header_basis basis = {0, 0};
        pk_counts counts;
        if (block->type != PK_DYNAMIC || (tried == HEADERS && !tells_filled(&block->header)))
            continue;
        tried++;
        for (uint32_t token = 0, bytes = 0; token < block->tokens && !basis.tokens; token++) {
            bytes += pk_token_bytes(tokens[token]);
            pk_extend_basis(&basis, &plain, token + 1, bytes);
        }
        for (unsigned way = 0; way < PK_KLAUSPOST_WAYS; way++) {
            const pk_settings with = klauspost_settings(of, lazy, flags[way]);
            const pk_header_facts facts = pk_header_facts_of(
                &with, basis, block->tokens, block->plain, flushed ? block->plain : 0);
            pk_header header;
            if (!way)
                pk_count(&counts, tokens, facts.tokens);
            pk_make_header(&header, facts.trees, &counts, facts.plain);
            right[way] += pk_same_header(&header, &block->header);
        }
    }
    for (unsigned way = 0; way < PK_KLAUSPOST_WAYS; way++)
        most = right[way] > most ? right[way] : most;
    for (unsigned way = 0; way < PK_KLAUSPOST_WAYS; way++)
        if (right[way] == most)
            ways->flags[ways->count++] = flags[way];
}

static inline void add(pk_trials *to, unsigned rule, unsigned flags, unsigned way)
{
    to->list[to->count++] = (pk_trial){(uint8_t)rule, (uint8_t)flags, (uint8_t)way};
}

/* Klauspost's rules: the default level first. Level 9 chooses differently in each release. */
static void add_klauspost(pk_trials *to, int lazy, int flushes)
{
    static const uint8_t order[] = {33, 34, 29, 30, 31, 32, 35}, lazy_order[] = {38, 36, 37};
    const uint8_t *rules = lazy ? lazy_order : order;
    const unsigned count = lazy ? sizeof lazy_order : sizeof order;
    for (unsigned at = 0; at < count; at++) {
        for (unsigned way = 0; way < (rules[at] == 38 ? PK_KLAUSPOST_WAYS : 1); way++) {
            if (flushes)
                add(to, rules[at], PK_FLAG_PRIMED, way);
            add(to, rules[at], 0, way);
        }
    }
}

/* Whether blocks end where igzip ends them, but at level 0: all with as many units of its buffer,
 * or one more.
 *
 * limit: set to so many. */
static int ends_as_igzip(const pk_segment *segment, uint32_t *limit)
{
    uint32_t least = UINT32_MAX, most = 0, tokens_before = 0;
    int differ = 0; /* the numbers of tokens, which other encoders limit */
    *limit = USUAL_UNITS;
    for (size_t at = 0; at + 1 < segment->block_count; at++) {
        const pk_block *block = &segment->blocks[at];
        const pk_token *tokens = segment->tokens + block->first_token;
        pk_block_end end = {0, 0, block->start};
        int whole = 1;
        if (!block->plain || !block[1].plain || block->type == PK_STORED
            || (!block->start && !segment->position))
            continue; /* of a stream's first block one more is taken, by its first byte */
        for (uint32_t token = 0; token < block->tokens; token++)
            whole = pk_fills_igzip(&end, tokens[token]);
        least = end.distances < least ? end.distances : least;
        most = end.distances > most ? end.distances : most;
        if (!whole || most - least > 1)
            return IN_UNITS_NOT;
        *limit = least;
        differ = differ || (tokens_before && tokens_before != block->tokens);
        tokens_before = block->tokens;
    }
    return differ ? IN_UNITS : IN_UNITS_MAYBE;
}

/* Encoders that write one block for a whole stream. */
static void add_endless(pk_trials *to)
{
    const pk_segment *segment = to->segment;
    size_t at = 0;
    while (at < segment->block_count && segment->blocks[at].type == PK_STORED)
        at++;
    if (at == segment->block_count)
        return;
    const pk_block *block = &segment->blocks[at];
    pk_header usual;
    if (block->type == PK_FIXED)
        add(to, 40, 0, 0);
    else if (pk_igzip_usual(&usual), pk_same_header(&usual, &block->header))
        add(to, 41, 0, 0);
}

/* igzip at levels 1 and 2. */
static void add_igzip(pk_trials *to)
{
    add(to, 42, 0, 0);
    add(to, 43, 0, 0);
}

void pk_trials_list(pk_trials *to, const pk_segment *segment, const pk_settings *plain, int primed)
{
    /* The usual levels first, and rule 0 at the end. */
    static const uint8_t order[] = {6,  9,  23, 15, 18, 1,  2,  3,  4,  5,  7,  8,  10, 11, 12,
                                    13, 14, 16, 17, 19, 20, 28, 21, 22, 24, 25, 26, 27, 0};
    const int ends[2] = {ends_units(segment, 0), ends_units(segment, 1)};
    const int miniz = ends_as_miniz(segment);
    int flushes = 0;
    memset(to, 0, sizeof *to);
    const int igzip = ends_as_igzip(segment, &to->units);
    to->segment = segment;
    to->plain = *plain;
    if (segment->goes_on || segment->open) {
        add_endless(to);
        return;
    }
    for (size_t at = 0; at + 1 < segment->block_count; at++)
        flushes = flushes || !segment->blocks[at].plain;
    if (ends[0] == IN_UNITS)
        add(to, 28, 0, 0); /* Go's level 1 has the same units */
    for (int lazy = 0; lazy < 2; lazy++)
        if (ends[lazy] == IN_UNITS)
            add_klauspost(to, lazy, flushes);
    if (miniz == IN_UNITS)
        add(to, 39, 0, 0);
    if (igzip == IN_UNITS)
        add_igzip(to);
    to->likely = to->count;
    for (unsigned at = 0; at < sizeof order; at++)
        if (order[at] != 28 || ends[0] != IN_UNITS)
            add(to, order[at],
                primed && pk_rule_table[order[at]].kind == PK_FAST ? PK_FLAG_PRIMED : 0, 0);
    for (int lazy = 0; lazy < 2; lazy++)
        if (ends[lazy] == IN_UNITS_MAYBE)
            add_klauspost(to, lazy, flushes);
    if (miniz == IN_UNITS_MAYBE)
        add(to, 39, 0, 0);
    add_endless(to);
    if (igzip == IN_UNITS_MAYBE)
        add_igzip(to);
}

int pk_trials_set(pk_trials *of, unsigned place, pk_settings *with)
{
    const pk_trial *what = &of->list[place];
    const unsigned kind = pk_rule_table[what->rule].kind;
    *with = of->plain;
    if (kind == PK_KLAUSPOST || kind == PK_KLAUSPOST_LAZY) {
        const int lazy = kind == PK_KLAUSPOST_LAZY;
        if (!of->ways[lazy].count)
            find_ways(of, lazy);
        if (what->way >= of->ways[lazy].count)
            return 0;
        *with = klauspost_settings(of, lazy, of->ways[lazy].flags[what->way]);
    }
    if (kind >= PK_MINIZ)
        *with = (pk_settings){0, of->plain.flags & KEPT, kind == PK_IGZIP ? of->units : 1};
    with->rule = what->rule;
    with->flags |= what->flags;
    return 1;
}
