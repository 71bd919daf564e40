/* The walk: what is predicted of a segment, and a coder that writes or reads where it is
 * otherwise.
 *
 * Analysis and rebuilding take the same steps and make the same predictions. So each step
 * stands here once, and the coder tells which of the two it is.
 */
#include "deflate/tokens_walk.h"

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
                        is->right[kind][zone][recent][class][agrees] =
                            (chance){agrees == 1 ? 50000 : 62000, 3};
}

void pk_walk_starts(pk_tokens *own, walker *with, const pk_old *old, const pk_segment *segment,
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
    with->recent = RECENT;
    with->most_work = UINT64_MAX;
    reset_contexts(&own->is);
    pk_finder_start(&own->find, rule, segment->data, with->size);
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
    if (may_be_literal && (most < 3 || code_bit(to, &is->literal[kind], token == literal)))
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
    uint32_t whole = (uint32_t)pk_equal_ahead(with->data + at - distance, with->data + at, most);
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

/* Tell that so many tokens far from changes were right before a wrong one, and return 0; or
 * read how many will be. */
uint32_t pk_walk_run(walker *with, uint32_t count)
{
    if (code_bit(with->runs, &with->is->no_run, count == UINT32_MAX))
        return UINT32_MAX;
    count = code_number(with->runs, &with->is->runs, count);
    return with->runs->decodes ? count : 0;
}

/* ---- Ends of blocks ---- */

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
            target = pk_walk_old_end(with, block->start);
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
        end.at = pk_walk_old_end(with, at);
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
    if (to->decodes)
        *header = made; /* what is analysed stays as it is, also where the recipe is too long */
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

/* Tokens that are compared at once: few segments differ from their predecessor often. */
enum { SAME_AT_ONCE = 64 };

/* Return how many of the first tokens are the same, up to `most`. */
static uint32_t same_tokens(const pk_token *one, const pk_token *other, uint32_t most)
{
    uint32_t count = 0;
    while (count + SAME_AT_ONCE <= most
           && !memcmp(one + count, other + count, SAME_AT_ONCE * sizeof *one))
        count += SAME_AT_ONCE;
    while (count < most && one[count] == other[count])
        count++;
    return count;
}

/* Go over tokens that are those of the old stream, from `at` until one begins at `stop` or behind,
 * at most `most` of them. given: what they are, NULL in rebuilding; made: where to. Returns their
 * number, and sets `at` to where the next one begins. */
static uint32_t walk_clear(walker *with, uint32_t *at, uint32_t stop, uint32_t most,
                           const pk_token *given, pk_token *made)
{
    const old_place first = with->place;
    const pk_token *tokens = with->old->tokens + first.token;
    old_place to = first;
    old_reach(with->old, &to, first.at + (stop - *at));
    uint32_t count = to.token - first.token, wanted = count < most ? count : most;
    if (given)
        wanted = same_tokens(tokens, given, wanted);
    else
        memcpy(made, tokens, wanted * sizeof *made);
    if (wanted < count) {
        to = first;
        old_skip(with->old, &to, first.token + wanted);
    }
    with->place = to;
    with->aligned += to.at - first.at;
    *at += to.at - first.at;
    return wanted;
}

/* Code the tokens of a block from `at` to its end, and move `at` there. Returns how many there
 * are, or PK_INVALID. */
static inline int64_t walk_block(walker *with, uint32_t *from, const block_end *end,
                                 const pk_token *given, pk_token *made)
{
    uint32_t at = *from;
    coder *to = with->coder;
    const int decodes = to->decodes;
    uint32_t count = 0, stop = end->at < with->size ? end->at : with->size;
    const uint32_t most = end->count < PK_MAX_BLOCK_TOKENS ? end->count : PK_MAX_BLOCK_TOKENS;
    while (at < stop && count < most) {
        uint32_t clear = pk_walk_clear(with, at);
        if (clear > at) {
            if (clear > stop)
                clear = stop;
            uint32_t left = most - count;
            if (decodes && left > with->right)
                left = with->right;
            const uint32_t done =
                walk_clear(with, &at, clear, left, decodes ? NULL : given + count, made);
            count += done;
            made += decodes ? done : 0;
            with->right += decodes ? -done : done;
            if (at >= clear || count == most)
                continue; /* none of these was wrong */
            with->right = pk_walk_run(with, with->right);
            guess guess = pk_walk_predict(with, at);
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
        guess guess = pk_walk_predict(with, at);
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
        if (with->find->work > with->most_work)
            return PK_INVALID;
    }
    *from = at;
    return count;
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
int pk_walk(pk_tokens *own, walker *with, pk_segment *segment)
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
    pk_walk_shifts(with, own->shifts, own->shift_count);
    if (decodes) {
        segment->token_count = segment->block_count = 0;
        with->right = pk_walk_run(with, 0);
    }
    for (;; number++) {
        if (at == with->size && !code_bit(to, &is->more, decodes || number < segment->block_count))
            break;
        if (to->failed || number == PK_MAX_BLOCKS)
            return to->failed ? to->failed : PK_INVALID;
        if (decodes) {
            if (pk_segment_grow((void **)&segment->blocks, &segment->block_capacity, number + 1,
                                sizeof *segment->blocks)
                || pk_segment_grow((void **)&segment->tokens, &segment->token_capacity,
                                   segment->token_count + (with->size - at) + 1,
                                   sizeof *segment->tokens))
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
        const uint32_t start = at;
        int64_t count =
            walk_block(with, &at, &end, tokens, segment->tokens + segment->token_count);
        if (count < 0 || to->failed || with->runs->failed)
            return to->failed ? to->failed : with->runs->failed ? with->runs->failed : PK_INVALID;
        if (decodes) {
            block->tokens = (uint32_t)count;
            block->plain = at - start;
            segment->token_count += block->tokens;
            segment->block_count++;
        } else if ((uint32_t)count != block->tokens) {
            return PK_INVALID;
        }
        code_header(with, block, tokens, &make);
        if (to->failed)
            return to->failed;
    }
    return PK_OK;
}
