/* Tokens, blocks and headers from those of an old stream, and how they differ: analysis and rebuilding.
 *
 * Both walk through the segment in the same way and make the same predictions; where analysis writes a decision, rebuilding
 * reads it. So most of this file is one walk, over a coder that does either.
 */
#include "deflate/tokens_internal.h"

enum {
    CLEAR =
        PK_WINDOW, /* so far behind a change, and so far ahead of one, an encoder has seen the same */
    MARGIN = 2 * PK_MAX_MATCH + 8,
    RECENT = 32,    /* tokens behind a wrong one that are asked about one by one */
    SAMPLE = 512,   /* tokens by which the fall-back is chosen */
    MOST_STEPS = 64 /* shifts that are looked through for a place, at most */
};

/* What a predicted token comes from. */
enum {
    KIND_LITERAL,
    KIND_SAME,
    KIND_MOVED,
    KIND_LONGER,
    KIND_SHORTER,
    KIND_REST,
    KIND_REST_LITERAL,
    KIND_FALL,
    KIND_LOST,
    KINDS
};

/* How a block ends. */
enum {
    ENDS_OLD = 0,      /* where the old block does */
    ENDS_COUNT = 1,    /* with as many tokens as the last block that told */
    ENDS_BYTES = 2,    /* with as many bytes as the last block that told */
    ENDS_ALL = 3,      /* with the segment */
    ENDS_AT_COUNT = 4, /* tells its tokens */
    ENDS_AT_BYTES = 5, /* tells its bytes */
    ENDS_NOW = 6,      /* is empty */
    ENDS_MODES = 7
};

enum { ZONES = 5, CLASSES = 6 };

typedef struct contexts {
    chance right[KINDS][ZONES][4][CLASSES][3];
    chance fall[8][4][2];    /* by the length found */
    chance second[KINDS][2]; /* the fall-back's token instead */
    chance literal[KINDS][2];
    chance distance[KINDS]; /* the predicted distance, another length */
    chance best[2], whole[2];
    chance lengths[2][256];
    chance found;
    numbers rank;
    chance far[32];
    numbers runs;
    chance no_run;
    numbers gap, by, shifts;
    chance more, last_mode[ENDS_MODES][8], stored[2], fixed[3];
    numbers count, bytes;
    chance make[16][16];
    chance code_lengths[17][16], given_runs, given_codes, header_counts[2][32], symbols[19][32];
    chance three[PK_CODES][8], extra[3][128];
} contexts;

struct pk_tokens {
    coder main, runs; /* decisions; counts of right tokens far from any change */
    contexts is;
    finder find;
    pk_segment made; /* what verification rebuilds; its data are borrowed */
    pk_copy *copies;
    uint32_t *table;
    size_t table_capacity;
    shift *shifts;
    size_t shift_count;
    pk_writer out;
};

const uint16_t pk_coder_rate[CODER_LIMIT + 1] = {32768, 26214, 18724, 14563, 11915, 10082, 8738, 7710, 6898, 6241, 5698, 5242, 4854, 4519, 4228, 3971, 3744, 3542, 3360, 3196, 3048, 2912, 2788, 2674, 2570, 2473, 2383, 2299, 2221, 2148, 2080};

typedef struct walker {
    coder *coder, *runs;
    contexts *is;
    finder *find;
    const pk_old *old;
    const uint8_t *data;
    uint32_t size, start;
    const shift *shifts;
    uint32_t shift_count, shift_at; /* the one that holds */
    uint32_t shift_end;
    uint32_t equal_from,
        equal_to; /* data[p] == old[p - by] there; equal_to <= p where they differ */
    old_place place;
    uint32_t recent; /* tokens since a wrong one, at most RECENT */
    uint32_t right;  /* analysis: right tokens far from changes; rebuilding: those to come */
    uint32_t last_count, last_bytes;
    pk_token *tokens; /* rebuilding: where to */
    uint64_t wrong, aligned;
    uint32_t headers;
} walker;

static void reset_contexts(contexts *is)
{
    chance *all = (chance *)is;
    for (size_t i = 0; i < sizeof *is / sizeof *all; i++)
        all[i] = (chance){32768, 0};
    /* What is rarely otherwise. */
    for (unsigned kind = 0; kind < KINDS; kind++)
        for (unsigned zone = 0; zone < ZONES; zone++)
            for (unsigned recent = 0; recent < 4; recent++)
                for (unsigned class = 0; class < CLASSES; class ++)
                    for (unsigned agrees = 0; agrees < 3; agrees++)
                        is->right[kind][zone][recent][class][agrees] = (chance){agrees == 1 ? 50000 : 62000, 3};
}

/* ---- Alignment ---- */

static void enter_shift(walker *with, uint32_t number)
{
    with->shift_at = number;
    with->shift_end = number + 1 < with->shift_count ? with->shifts[number + 1].at : with->size;
}

/* See how far data and old span agree around `at`. Returns whether they do there. */
static inline int align(walker *with, uint32_t at)
{
    if (at < with->equal_to)
        return 1;
    if (!with->shift_count)
        return 0;
    uint32_t differ =
        with->equal_to; /* the last place that is known to, but for the one at hand */
    if (at >= with->shift_end) {
        uint32_t number = with->shift_at;
        while (number + 1 < with->shift_count && with->shifts[number + 1].at <= at)
            number++;
        enter_shift(with, number);
        differ = 0;
    }
    const shift *now = &with->shifts[with->shift_at];
    int64_t there = (int64_t)at - now->by;
    uint32_t low = differ ? differ + 1 : now->at;
    with->equal_to = at;
    if (there < 0 || there >= (int64_t)with->old->size)
        return 0;
    uint32_t most = with->shift_end - at, left = (uint32_t)(with->old->size - (size_t)there);
    uint32_t length =
        (uint32_t)ahead(with->data + at, with->old->plain + there, most < left ? most : left);
    if (!length)
        return 0;
    uint32_t back = at > low ? at - low : 0;
    if (back > (uint32_t)there)
        back = (uint32_t)there;
    if (back > CLEAR)
        back = CLEAR;
    with->equal_from = at - (uint32_t)behind(with->data + at, with->old->plain + there, back);
    with->equal_to = at + length;
    return 1;
}

/* Where a place of the old span stands in the data, before `at`; UINT32_MAX if nowhere. */
static uint32_t new_place(const walker *with, int64_t there, uint32_t at)
{
    uint32_t end = with->shift_end;
    uint32_t low = with->shift_at < MOST_STEPS ? 0 : with->shift_at - MOST_STEPS;
    for (uint32_t number = with->shift_at + 1; number-- > low;) {
        const shift *now = &with->shifts[number];
        int64_t place = there + now->by;
        if (place >= (int64_t)now->at && place < (int64_t)end && place < (int64_t)at)
            return at - (uint32_t)place <= PK_WINDOW ? (uint32_t)place : UINT32_MAX;
        end = now->at;
        if (at - end > PK_WINDOW)
            break;
    }
    return UINT32_MAX;
}

typedef struct guess {
    pk_token token;
    unsigned kind;
    chance *chance;
} guess;

static inline unsigned recent_of(const walker *with)
{
    return with->recent < 2 ? 0 : with->recent < 8 ? 1 : with->recent < RECENT ? 2 : 3;
}

static inline unsigned zone_of(uint32_t since)
{
    return since < 64 ? 0 : since < 1024 ? 1 : since < 8192 ? 2 : since < PK_WINDOW ? 3 : 4;
}

static guess fall_back(walker *with, uint32_t at, unsigned kind)
{
    guess out = {with->data[at], kind, NULL};
    uint32_t distance, length = pk_finder_longest(with->find, at, &distance);
    out.token = pk_finder_predict(with->find, at);
    unsigned class = !length       ? 0
                     : length < 4  ? 1
                     : length < 5  ? 2
                     : length < 7  ? 3
                     : length < 12 ? 4
                     : length < 32 ? 5
                                   : 6;
    out.chance = &with->is->fall[class][recent_of(with)][out.token > 255];
    return out;
}

/* The length of a match that the old one, of `length` bytes, becomes. */
static inline uint32_t match_length(const walker *with, uint32_t at, uint32_t from, int64_t there,
                                    uint32_t distance, uint32_t length, unsigned *kind)
{
    uint32_t most = with->size - at < PK_MAX_MATCH ? with->size - at : PK_MAX_MATCH;
    uint32_t found = (uint32_t)ahead(with->data + from, with->data + at, most);
    if (found < length) {
        *kind = KIND_SHORTER;
        return found;
    }
    if (found == length)
        return length;
    /* Was the old one as long as it could be? */
    const pk_old *old = with->old;
    int64_t end = there + length;
    if (end < (int64_t)old->size
        && (end < distance || old->plain[end] == old->plain[end - distance]))
        return length;
    *kind = KIND_LONGER;
    return found;
}

/* Predict the token at a place that is not far from all changes. */
static guess predict(walker *with, uint32_t at)
{
    if (!align(with, at))
        return fall_back(with, at, KIND_FALL);
    const shift *now = &with->shifts[with->shift_at];
    uint32_t there = (uint32_t)((int64_t)at - now->by);
    old_seek(with->old, &with->place, there);
    pk_token token = with->old->tokens[with->place.token];
    uint32_t length = token_bytes(token), distance = token & 0xffff;
    guess out = {with->data[at], KIND_LITERAL, NULL};
    uint32_t since = at - with->equal_from;
    if (with->place.at != there) {
        length = with->place.at + length - there;
        out.kind = length < 3 ? KIND_REST_LITERAL : KIND_REST;
    }
    if (token >= 256 && out.kind != KIND_REST_LITERAL) {
        unsigned kind = out.kind == KIND_REST ? KIND_REST : KIND_SAME;
        uint32_t from;
        if (distance <= since) {
            from = at - distance;
        } else {
            from = new_place(with, (int64_t)there - distance, at);
            if (from == UINT32_MAX)
                return fall_back(with, at, KIND_LOST);
            if (kind == KIND_SAME)
                kind = KIND_MOVED;
        }
        if (distance > since || at + length >= with->equal_to) {
            length = match_length(with, at, from, there, distance, length, &kind);
            if (length < 3)
                return fall_back(with, at, KIND_LOST);
        }
        out.token = length << 16 | (at - from);
        out.kind = kind;
    } else {
        length = 1;
    }
    uint32_t end = at + length;
    unsigned recent = recent_of(with), class = end >= with->equal_to ? 0 : 1, agrees = 0;
    if (end + 8 <= with->equal_to) {
        uint32_t unused;
        if (recent < 3) {
            agrees = pk_finder_predict(with->find, at) == out.token ? 2 : 1;
            if (length == 1)
                length = pk_finder_longest(with->find, at, &unused);
        }
        class = length < 3 ? 2 : length < 5 ? length - 1 : length < 7 ? 4 : 5;
    }
    out.chance = &with->is->right[out.kind][zone_of(since)][recent][class][agrees];
    return out;
}

/* ---- What is not as predicted ---- */

static pk_token code_wrong(walker *with, uint32_t at, const guess *guess, pk_token token)
{
    coder *to = with->coder;
    contexts *is = with->is;
    const uint32_t most = with->size - at < PK_MAX_MATCH ? with->size - at : PK_MAX_MATCH;
    const pk_token literal = with->data[at];
    unsigned kind = guess->kind;
    int may_be_literal = guess->token != literal;
    pk_token second = guess->token;
    if (kind != KIND_FALL && kind != KIND_LOST) {
        second = pk_finder_predict(with->find, at);
        if (second != guess->token) {
            if (code_bit(to, &is->second[kind][second > 255], token == second))
                return second;
            may_be_literal = may_be_literal && second != literal;
        }
    }
    if (may_be_literal
        && (most < 3 || code_bit(to, &is->literal[kind][second == literal], token == literal)))
        return literal;
    if (most < 3) {
        to->failed = PK_INVALID;
        return literal;
    }
    uint32_t length = token >> 16, distance = token & 0xffff, best_distance;
    const unsigned matched = guess->token > 255;
    const uint32_t best = pk_finder_longest(with->find, at, &best_distance);
    if (best && second != (best << 16 | best_distance)
        && code_bit(to, &is->best[matched], token == (best << 16 | best_distance)))
        return best << 16 | best_distance;
    if (matched && code_bit(to, &is->distance[kind], distance == (guess->token & 0xffff))) {
        distance = guess->token & 0xffff;
    } else {
        uint32_t rank = to->decodes ? 0 : pk_finder_rank(with->find, at, distance);
        if (code_bit(to, &is->found, rank == UINT32_MAX)) {
            unsigned symbol =
                code_symbol(to, is->far, to->decodes ? 0 : pk_distance_symbol(distance), 5) & 31;
            if (symbol > 29) {
                to->failed = PK_INVALID;
                return literal;
            }
            unsigned base = pk_distance_base[symbol];
            distance = base + code_even(to, distance - base, pk_distance_extra[symbol]);
        } else {
            rank = code_number(to, &is->rank, rank);
            if (to->decodes)
                distance = pk_finder_nth(with->find, at, rank);
        }
    }
    if (!distance || distance > PK_WINDOW || distance > at) {
        to->failed = PK_INVALID;
        return literal;
    }
    uint32_t whole = (uint32_t)ahead(with->data + at - distance, with->data + at, most);
    if (whole >= 3 && whole << 16 != (guess->token & 0xffff0000u)
        && code_bit(to, &is->whole[matched], length == whole))
        length = whole;
    else
        length = (code_symbol(to, is->lengths[matched], length - 3, 8) & 255) + 3;
    if (length > most) {
        to->failed = PK_INVALID;
        return literal;
    }
    return length << 16 | distance;
}

/* Tell that so many tokens far from changes were right before a wrong one, and return 0; or read how many will be. */
static uint32_t code_run(walker *with, uint32_t count)
{
    if (code_bit(with->runs, &with->is->no_run, count == UINT32_MAX))
        return UINT32_MAX;
    count = code_number(with->runs, &with->is->runs, count);
    return with->runs->decodes ? count : 0;
}

/* The end of the place that is far from changes: behind it tokens are asked about one by one. */
static inline uint32_t clear_until(walker *with, uint32_t at)
{
    if (with->recent < RECENT || !align(with, at) || at - with->equal_from < CLEAR
        || with->equal_to - at <= MARGIN)
        return 0;
    uint32_t there = (uint32_t)((int64_t)at - with->shifts[with->shift_at].by);
    old_seek(with->old, &with->place, there);
    return with->place.at == there ? with->equal_to - MARGIN : 0;
}

/* ---- Ends of blocks ---- */

/* Where the first old block ends that ends behind `at`. */
static uint32_t old_end(const walker *with, uint32_t at)
{
    const pk_old *old = with->old;
    uint32_t number = with->shift_at;
    while (number + 1 < with->shift_count && with->shifts[number + 1].at <= at)
        number++;
    for (uint32_t last = number + 16 * MOST_STEPS; number < with->shift_count && number < last;
         number++) {
        const shift *now = &with->shifts[number];
        int64_t first = (int64_t)(at >= now->at ? at + 1 : now->at) - now->by;
        uint32_t stop =
            number + 1 < with->shift_count ? with->shifts[number + 1].at : with->size + 1;
        size_t low = 0, high = old->end_count;
        while (low < high) {
            size_t middle = (low + high) / 2;
            if ((int64_t)old->ends[middle] < first)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < old->end_count && (int64_t)old->ends[low] + now->by < (int64_t)stop)
            return (uint32_t)((int64_t)old->ends[low] + now->by);
    }
    return with->size;
}

typedef struct block_end {
    unsigned mode;
    uint32_t count, at; /* it ends with the token that makes so many, or reaches so far */
} block_end;

/* Which way of ending tells where this block ends. `last` is the length of its last token. */
static block_end choose_end(const walker *with, const pk_block *block, const pk_block *next,
                            uint32_t last, unsigned before)
{
    const uint32_t end = block->start + block->plain;
    int stored = block->type == PK_STORED;
    if (!block->plain)
        return (block_end){ENDS_NOW, UINT32_MAX, end};
    unsigned order[] = {before, ENDS_OLD, ENDS_COUNT, ENDS_BYTES, ENDS_ALL};
    for (unsigned i = 0; i < sizeof order / sizeof *order; i++) {
        uint32_t target = 0;
        switch (order[i]) {
        case ENDS_COUNT:
            if (!stored && with->last_count && block->tokens == with->last_count)
                return (block_end){ENDS_COUNT, with->last_count, UINT32_MAX};
            continue;
        case ENDS_OLD:
            target = old_end(with, block->start);
            break;
        case ENDS_BYTES:
            target = with->last_bytes ? block->start + with->last_bytes : 0;
            break;
        case ENDS_ALL:
            target = with->size;
            break;
        default:
            continue;
        }
        if (target > end - last && target <= end)
            return (block_end){order[i], UINT32_MAX, target};
    }
    if (stored || (next && next->plain && next->type != PK_STORED && next->plain == block->plain))
        return (block_end){ENDS_AT_BYTES, UINT32_MAX, end};
    return (block_end){ENDS_AT_COUNT, block->tokens, UINT32_MAX};
}

static block_end code_end(walker *with, uint32_t at, int stored, block_end end, unsigned *before)
{
    coder *to = with->coder;
    contexts *is = with->is;
    unsigned mode = code_symbol(to, is->last_mode[*before], end.mode, 3) & 7;
    uint64_t bytes;
    switch (mode) {
    case ENDS_OLD:
        end.at = old_end(with, at);
        break;
    case ENDS_COUNT:
        end.count = with->last_count;
        break;
    case ENDS_BYTES:
        bytes = (uint64_t)at + with->last_bytes;
        end.at = bytes < with->size ? (uint32_t)bytes : with->size;
        break;
    case ENDS_ALL:
        end.at = with->size;
        break;
    case ENDS_AT_COUNT:
        with->last_count = end.count = code_number(to, &is->count, end.count);
        break;
    case ENDS_AT_BYTES:
        with->last_bytes = code_number(to, &is->bytes, end.at - at);
        bytes = (uint64_t)at + with->last_bytes;
        end.at = bytes < with->size ? (uint32_t)bytes : with->size;
        if (bytes > with->size)
            to->failed = PK_INVALID;
        break;
    case ENDS_NOW:
        end.at = at;
        break;
    default:
        to->failed = PK_INVALID;
        return end;
    }
    if (mode == ENDS_COUNT || mode == ENDS_AT_COUNT) {
        end.at = UINT32_MAX;
        if (stored || end.count > PK_MAX_BLOCK_TOKENS)
            to->failed = PK_INVALID;
    } else {
        end.count = UINT32_MAX;
    }
    end.mode = *before = mode;
    return end;
}

/* ---- Headers ---- */

static void code_given(walker *with, pk_header *header, const pk_header *like, unsigned make)
{
    coder *to = with->coder;
    contexts *is = with->is;
    pk_header made = *header;
    made.literals =
        (uint16_t)((code_symbol(to, is->header_counts[0], header->literals - 257u, 5) & 31) + 257);
    made.distances =
        (uint16_t)((code_symbol(to, is->header_counts[1], header->distances - 1u, 5) & 31) + 1);
    if (made.literals > 286 || made.distances > 30) {
        to->failed = PK_INVALID;
        return;
    }
    memset(made.lengths, 0, sizeof made.lengths);
    for (unsigned at = 0; at < (unsigned)PK_LITERALS + made.distances; at++)
        if (at < made.literals || at >= PK_LITERALS)
            made.lengths[at] =
                code_symbol(to, is->code_lengths[like->lengths[at]], header->lengths[at], 4) & 15;
    pk_tokens_runs(&made, make);
    int same = made.symbols == header->symbols
               && !memcmp(made.symbol, header->symbol, made.symbols)
               && !memcmp(made.extra, header->extra, made.symbols);
    if (code_bit(to, &is->given_runs, !same)) {
        unsigned total = made.literals + made.distances, at = 0, count = 0;
        while (at < total && !to->failed) {
            unsigned before = count ? made.symbol[count - 1] : 0;
            unsigned symbol = code_symbol(to, is->symbols[before], header->symbol[count], 5) & 31;
            unsigned extra = 0, repeat = 1;
            if (symbol > 18 || (symbol == 16 && !at)) {
                to->failed = PK_INVALID;
                return;
            }
            if (symbol >= 16) {
                unsigned bits = symbol == 16 ? 2 : symbol == 17 ? 3 : 7;
                extra = code_symbol(to, is->extra[symbol - 16], header->extra[count], bits)
                        & ((1u << bits) - 1);
                repeat = extra + (symbol == 18 ? 11 : 3);
            }
            made.symbol[count] = (uint8_t)symbol;
            made.extra[count++] = (uint8_t)extra;
            at += repeat;
        }
        if (at != total)
            to->failed = PK_INVALID;
        made.symbols = (uint16_t)count;
    }
    same = made.codes == header->codes
           && !memcmp(made.code_lengths, header->code_lengths, sizeof made.code_lengths);
    if (code_bit(to, &is->given_codes, !same)) {
        made.codes = (uint8_t)((code_even(to, header->codes - 4u, 4) & 15) + 4);
        uint8_t lengths[PK_CODES] = {0};
        for (unsigned at = 0; at < made.codes && at < PK_CODES; at++)
            lengths[pk_code_order[at]] =
                code_symbol(to, is->three[at], header->code_lengths[pk_code_order[at]], 3) & 7;
        memcpy(made.code_lengths, lengths, sizeof lengths);
        if (made.codes > PK_CODES)
            to->failed = PK_INVALID;
    }
    *header = made;
}

/* Type and header of a block with tokens. `last` is how the last header was made. */
static void code_header(walker *with, pk_block *block, const pk_token *tokens, unsigned *last)
{
    coder *to = with->coder;
    contexts *is = with->is;
    pk_counts counts;
    pk_header made;
    pk_count(&counts, tokens, block->tokens);
    unsigned like = *last == MAKES_GIVEN ? MAKES_ZLIB : *last;
    int type = pk_tokens_header(&made, like, &counts, block->plain);
    unsigned fixed = code_bit(to, &is->fixed[type], block->type == PK_FIXED);
    block->type = fixed ? PK_FIXED : PK_DYNAMIC;
    if (fixed)
        return;
    unsigned make = *last;
    if (!to->decodes) {
        pk_header other = made;
        make = like;
        for (unsigned tried = 0; tried < MAKES_COUNT && !pk_same_header(&other, &block->header);
             tried++) {
            make = tried;
            pk_tokens_header(&other, make, &counts, block->plain);
        }
        if (!pk_same_header(&other, &block->header))
            make = MAKES_GIVEN;
    }
    make = code_symbol(to, is->make[*last], make, 4) & 15;
    if (make >= MAKES_COUNT && make != MAKES_GIVEN) {
        to->failed = PK_INVALID;
        return;
    }
    if (make == MAKES_GIVEN) {
        with->headers++;
        code_given(with, &block->header, &made, like);
        return;
    }
    if (to->decodes) {
        if (make != like)
            pk_tokens_header(&made, make, &counts, block->plain);
        block->header = made;
    }
    *last = make;
}

/* ---- The walk ---- */

/* Code the tokens of a block from `at` to its end. Returns how many there are, or PK_INVALID. */
static inline int64_t walk_block(walker *with, uint32_t at, const block_end *end,
                                 const pk_token *given, pk_token *made)
{
    coder *to = with->coder;
    const int decodes = to->decodes;
    const pk_old *old = with->old;
    uint32_t count = 0, stop = end->at < with->size ? end->at : with->size;
    const uint32_t most = end->count < PK_MAX_BLOCK_TOKENS ? end->count : PK_MAX_BLOCK_TOKENS;
    while (at < stop && count < most) {
        uint32_t clear = clear_until(with, at);
        if (clear > at) {
            const pk_token *token = old->tokens + with->place.token, *first = token;
            const uint32_t begin = at;
            if (clear > stop)
                clear = stop;
            uint32_t left = most - count;
            if (decodes) {
                if (left > with->right)
                    left = with->right;
                while (at < clear && left) {
                    pk_token now = *token++;
                    *made++ = now;
                    at += token_bytes(now);
                    left--;
                }
            } else {
                while (at < clear && left && *token == given[count + (uint32_t)(token - first)]) {
                    at += token_bytes(*token++);
                    left--;
                }
            }
            uint32_t done = (uint32_t)(token - first);
            count += done;
            with->place.token += done;
            with->place.at += at - begin;
            with->aligned += at - begin;
            int wrong;
            if (decodes) {
                with->right -= done;
                wrong = !with->right && at < clear && count < most;
            } else {
                with->right += done;
                wrong = at < clear && count < most;
            }
            if (!wrong)
                continue;
            with->right = code_run(with, with->right);
            guess guess = predict(with, at);
            pk_token now = code_wrong(with, at, &guess, decodes ? 0 : given[count]);
            with->wrong++;
            with->recent = 0;
            if (decodes)
                *made++ = now;
            count++;
            at += token_bytes(now);
            if (to->failed)
                return PK_INVALID;
            continue;
        }
        guess guess = predict(with, at);
        pk_token now = guess.token;
        if (code_bit(to, guess.chance, !decodes && given[count] != now)) {
            now = code_wrong(with, at, &guess, decodes ? 0 : given[count]);
            with->wrong++;
            with->recent = 0;
            if (to->failed)
                return PK_INVALID;
        } else if (with->recent < RECENT) {
            with->recent++;
        }
        with->aligned += guess.kind < KIND_FALL ? token_bytes(now) : 0;
        if (decodes)
            *made++ = now;
        count++;
        at += token_bytes(now);
    }
    return count;
}

static int grow(void **memory, size_t *capacity, size_t wanted, size_t unit)
{
    if (wanted <= *capacity)
        return PK_OK;
    size_t to = *capacity * 2 > wanted ? *capacity * 2 : wanted;
    void *moved = realloc(*memory, to * unit);
    if (!moved)
        return PK_NO_MEMORY;
    *memory = moved;
    *capacity = to;
    return PK_OK;
}

static void code_shifts(pk_tokens *own, coder *to, uint32_t base, uint32_t size)
{
    contexts *is = &own->is;
    uint32_t count = code_number(to, &is->shifts, (uint32_t)own->shift_count), at = base;
    if (count > MOST_SHIFTS) {
        to->failed = PK_INVALID;
        return;
    }
    own->shift_count = count;
    int32_t by = (int32_t)base; /* whatever is before the window does not count */
    for (uint32_t i = 0; i < count && !to->failed; i++) {
        shift *one = &own->shifts[i];
        uint32_t gap = code_number(to, &is->gap, to->decodes ? 0 : one->at - at);
        int64_t moved = (int64_t)by + code_signed(to, &is->by, to->decodes ? 0 : one->by - by);
        if (gap > size - at || (i && !gap) || moved > INT32_MAX / 4 || moved < INT32_MIN / 4) {
            to->failed = PK_INVALID;
            return;
        }
        at += gap;
        by = (int32_t)moved;
        *one = (shift){at, by};
    }
}

/* Walk through a segment. Its blocks are given, or made. */
static int walk(pk_tokens *own, walker *with, pk_segment *segment)
{
    coder *to = with->coder;
    contexts *is = with->is;
    const int decodes = to->decodes;
    unsigned mode = ENDS_OLD, make = MAKES_ZLIB, was_stored = 0;
    uint32_t at = with->start;
    size_t number = 0;
    const uint32_t base = with->start > PK_WINDOW ? with->start - PK_WINDOW : 0;
    code_shifts(own, to, base, with->size);
    if (to->failed)
        return to->failed;
    with->shifts = own->shifts;
    with->shift_count = (uint32_t)own->shift_count;
    with->shift_end = base;
    with->recent = RECENT;
    if (with->shift_count)
        enter_shift(with, 0);
    if (decodes) {
        segment->token_count = segment->block_count = 0;
        with->right = code_run(with, 0);
    }
    for (;; number++) {
        if (at == with->size && !code_bit(to, &is->more, decodes || number < segment->block_count))
            break;
        if (to->failed || number == PK_MAX_BLOCKS)
            return to->failed ? to->failed : PK_INVALID;
        if (decodes) {
            if (grow((void **)&segment->blocks, &segment->block_capacity, number + 1,
                     sizeof *segment->blocks)
                || grow((void **)&segment->tokens, &segment->token_capacity,
                        segment->token_count + (with->size - at) + 1, sizeof *segment->tokens))
                return PK_NO_MEMORY;
        }
        pk_block *block = &segment->blocks[number];
        const int stored =
            (int)code_bit(to, &is->stored[was_stored], decodes ? 0 : block->type == PK_STORED);
        was_stored = (unsigned)stored;
        const pk_token *tokens =
            segment->tokens + (decodes ? segment->token_count : block->first_token);
        block_end end = {0, 0, 0};
        if (!decodes) {
            const pk_block *next = number + 1 < segment->block_count ? block + 1 : NULL;
            uint32_t last = block->tokens ? token_bytes(tokens[block->tokens - 1]) : 1;
            end = choose_end(with, block, next, last, mode);
        }
        end = code_end(with, at, stored, end, &mode);
        if (to->failed)
            return to->failed;
        if (decodes)
            *block = (pk_block){
                .type = PK_STORED, .first_token = (uint32_t)segment->token_count, .start = at};
        if (stored) {
            if (end.at - at > 65535 || end.at > with->size)
                return PK_INVALID;
            block->plain = end.at - at;
            at = end.at;
            if (decodes)
                segment->block_count++;
            continue;
        }
        int64_t count = walk_block(with, at, &end, tokens, segment->tokens + segment->token_count);
        if (count < 0 || to->failed || with->runs->failed)
            return to->failed ? to->failed : with->runs->failed ? with->runs->failed : PK_INVALID;
        if (decodes) {
            block->tokens = (uint32_t)count;
            for (uint32_t i = 0; i < block->tokens; i++)
                block->plain += token_bytes(tokens[i]);
            segment->token_count += block->tokens;
            segment->block_count++;
        } else if ((uint32_t)count != block->tokens) {
            return PK_INVALID;
        }
        at += block->plain;
        code_header(with, block, tokens, &make);
        if (to->failed)
            return to->failed;
    }
    return PK_OK;
}

static void walk_starts(pk_tokens *own, walker *with, const pk_old *old, const pk_segment *segment,
                        unsigned rule)
{
    memset(with, 0, sizeof *with);
    with->coder = &own->main;
    with->runs = &own->runs;
    with->is = &own->is;
    with->find = &own->find;
    with->old = old;
    with->data = segment->data;
    with->size = (uint32_t)segment->size;
    with->start = (uint32_t)segment->window;
    reset_contexts(&own->is);
    pk_finder_start(&own->find, rule, segment->data, with->size);
}

/* ---- Recipes ---- */

enum { FLAG_LAST = 1, FLAGS = 1 };

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

int pk_tokens_span(const uint8_t *recipe, size_t length, uint64_t *start, uint32_t *size)
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

int pk_segment_fill(pk_segment *segment, const uint8_t *window, size_t window_size,
                    const uint8_t *plain, size_t size)
{
    if (window_size > PK_FAR_WINDOW || size > PK_MAX_SEGMENT_PLAIN)
        return PK_INVALID;
    size_t whole = window_size + size;
    if (grow((void **)&segment->data, &segment->capacity, whole + PK_PAD, 1))
        return PK_NO_MEMORY;
    memcpy(segment->data, window, window_size);
    memcpy(segment->data + window_size, plain, size);
    memset(segment->data + whole, 0, PK_PAD);
    segment->window = window_size;
    segment->size = whole;
    segment->token_count = segment->block_count = 0;
    return PK_OK;
}

int pk_tokens_decode(pk_tokens *own, pk_segment *segment, const pk_old *old, const uint8_t *recipe,
                     size_t length)
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
    walk_starts(own, &walker, old, segment, with.rule);
    int failed = walk(own, &walker, segment);
    if (!failed && own->main.at != own->main.end)
        failed = PK_INVALID;
    segment->last = with.flags & FLAG_LAST;
    return failed;
}

int64_t pk_tokens_write(pk_tokens *own, const pk_segment *segment, unsigned bit, size_t most)
{
    return pk_write_segment(&own->out, segment, bit, most);
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
    if (grow((void **)&old->plain, &old->capacity, size + PK_PAD, 1))
        return PK_NO_MEMORY;
    memcpy(old->plain + prefix, segment->data + base, length);
    unsigned log = 10;
    while (log < 22 && (size_t)1 << log < size / 32)
        log++;
    size_t capacity = length / 64 + 1;
    if (capacity > MOST_SHIFTS)
        capacity = MOST_SHIFTS;
    if (grow((void **)&own->table, &own->table_capacity, (size_t)1 << log, sizeof *own->table))
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

/* Tokens that the fall-back will be asked about. */
typedef struct sample {
    uint32_t count, most;
    uint32_t at[SAMPLE];
    pk_token token[SAMPLE];
} sample;

static void take_sample(walker *with, const pk_segment *segment, sample *to, int aligned)
{
    for (size_t i = 0; i < segment->block_count; i++) {
        const pk_block *block = &segment->blocks[i];
        const pk_token *token = segment->tokens + block->first_token;
        uint32_t at = block->start;
        for (uint32_t left = block->tokens; left && to->count < to->most; left--) {
            if (aligned || !align(with, at)) {
                to->at[to->count] = at;
                to->token[to->count++] = *token;
            }
            at += token_bytes(*token++);
        }
    }
}

static uint32_t count_wrong(pk_tokens *own, const pk_segment *segment, const sample *on,
                            unsigned rule)
{
    uint32_t wrong = 0;
    pk_finder_start(&own->find, rule, segment->data, (uint32_t)segment->size);
    for (uint32_t i = 0; i < on->count; i++)
        wrong += pk_finder_predict(&own->find, on->at[i]) != on->token[i];
    return wrong;
}

static unsigned choose_rule(pk_tokens *own, const pk_segment *segment, const pk_old *old)
{
    walker walker;
    sample on;
    on.count = 0;
    on.most = SAMPLE;
    walk_starts(own, &walker, old, segment, 0);
    walker.shifts = own->shifts;
    walker.shift_count = (uint32_t)own->shift_count;
    if (walker.shift_count)
        enter_shift(&walker, 0);
    take_sample(&walker, segment, &on, 0);
    if (on.count < SAMPLE / 4) {
        on.most = SAMPLE / 4;
        take_sample(&walker, segment, &on, 1);
    }
    unsigned best = 0;
    uint32_t least = UINT32_MAX;
    for (unsigned rule = 0; rule < 1u << FALL_DEPTH && least; rule++) {
        uint32_t wrong = count_wrong(own, segment, &on, rule | 4 << FALL_DEPTH);
        if (wrong < least) {
            least = wrong;
            best = rule | 4 << FALL_DEPTH;
        }
    }
    unsigned style = best & ((1u << FALL_DEPTH) - 1);
    for (unsigned depth = 0; depth <= 8 && least; depth += 2) {
        uint32_t wrong =
            depth == 4 ? UINT32_MAX : count_wrong(own, segment, &on, style | depth << FALL_DEPTH);
        if (wrong < least) {
            least = wrong;
            best = style | depth << FALL_DEPTH;
        }
    }
    return best;
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

int64_t pk_tokens_analyse(pk_tokens *own, const pk_segment *segment, pk_old *old,
                          const pk_copy *copies, size_t count, uint8_t *recipe, size_t capacity,
                          pk_tokens_report *report)
{
    walker with;
    const size_t most = (size_t)((segment->end_bit - segment->start_bit) / 8 / 3) + 16;
    const uint32_t base =
        segment->window > PK_WINDOW ? (uint32_t)(segment->window - PK_WINDOW) : 0;
    memset(report, 0, sizeof *report);
    if (copies) {
        own->shift_count = pk_shifts_of(copies, count, old->size, base, own->shifts, MOST_SHIFTS);
    } else {
        int failed = find_shifts(own, segment, old);
        if (failed)
            return failed;
    }
    cut_span(own, segment, old);
    unsigned rule = choose_rule(own, segment, old);
    coder_encodes(&own->main, most);
    coder_encodes(&own->runs, most);
    walk_starts(own, &with, old, segment, rule);
    int failed = walk(own, &with, (pk_segment *)(uintptr_t)segment);
    report->tokens = segment->token_count;
    report->wrong = with.wrong;
    report->aligned = with.aligned;
    report->shifts = (uint32_t)own->shift_count;
    report->headers = with.headers;
    if (failed)
        return failed;
    code_run(&with, UINT32_MAX);
    coder_ends(&own->main);
    coder_ends(&own->runs);
    if (own->main.failed || own->runs.failed)
        return own->main.failed ? own->main.failed : own->runs.failed;
    uint8_t start[48] = {PK_TOKENS_KIND, segment->last ? FLAG_LAST : 0, (uint8_t)rule};
    size_t length = 3;
    length += put_number(start + length, old->start);
    length += put_number(start + length, old->size);
    length += put_number(start + length, own->runs.length);
    size_t whole = length + own->runs.length + own->main.length;
    if (whole > most || whole > capacity)
        return PK_INVALID;
    memcpy(recipe, start, length);
    memcpy(recipe + length, own->runs.bytes, own->runs.length);
    memcpy(recipe + length + own->runs.length, own->main.bytes, own->main.length);
    /* Whatever the analysis got wrong, here it comes out: only what gives back the bits is used. */
    pk_segment *made = &own->made;
    made->data = segment->data;
    made->window = segment->window;
    made->size = segment->size;
    made->position = segment->position;
    failed = pk_tokens_decode(own, made, old, recipe, whole);
    made->data = NULL;
    if (failed)
        return failed;
    made->data = segment->data;
    int64_t bits =
        pk_tokens_write(own, made, segment->start_bit, (size_t)(segment->end_bit / 8) + 1);
    made->data = NULL;
    if (bits < 0)
        return bits;
    return same_bits(segment, own->out.bytes, (uint64_t)bits) ? (int64_t)whole : PK_INVALID;
}
