#include "deflate/choice.h"

#include "deflate/block_ends.h"
#include "deflate/flush_points.h"
#include "deflate/recipe_format.h"

uint64_t pk_try_rule(pk_codec *codec, const pk_segment *segment, const pk_settings *with,
                     uint64_t most)
{
    uint64_t wrong = 0, tried = 0;
    pk_model_start(&codec->model, &pk_rule_table[with->rule], pk_hash_bits_of(with), segment->data,
                   (uint32_t)segment->window, (uint32_t)segment->size,
                   segment->position - segment->window, pk_follow_of(with));
    for (size_t at = 0; at < segment->block_count && tried < PK_SAMPLE_TOKENS; at++) {
        const pk_block *block = &segment->blocks[at];
        uint32_t position = block->start;
        if (with->flags & PK_FLAG_PRIMED
            && (!block->plain || (at && pk_ends_at_flush(segment, with, at - 1))))
            pk_model_restart(&codec->model, position);
        const pk_token *tokens = segment->tokens + block->first_token;
        if (block->type == PK_STORED && block->plain) {
            pk_model_restart(&codec->model, block->start + block->plain);
            continue;
        }
        pk_model_see(&codec->model, pk_flush_position(segment, pk_next_flush(segment, with, at)));
        for (uint32_t token = 0; token < block->tokens && tried < PK_SAMPLE_TOKENS;
             token++, tried++) {
            pk_token guess = pk_model_predict(&codec->model, position);
            wrong += guess != tokens[token];
            if (wrong > most)
                return wrong;
            pk_model_accept(&codec->model, position, guess, tokens[token]);
            position += pk_token_bytes(tokens[token]);
        }
    }
    return wrong;
}

void pk_choose_limit(const pk_segment *segment, pk_settings *with)
{
    uint32_t greatest = 0, first = 0; /* tokens: of any block; of the first that ended by itself */
    size_t ended = 0, alike = 0;      /* blocks that ended by themselves; with `greatest` tokens */
    int multiples = 1, full = 1;      /* all of them ended as gzip's do; at a limit of zlib's */
    for (size_t at = 0; at < segment->block_count; at++) {
        const pk_block *block = &segment->blocks[at];
        if (block->tokens > greatest) {
            greatest = block->tokens;
            alike = 0;
        }
        int cut = at + 1 == segment->block_count || !segment->blocks[at + 1].plain;
        if (block->type == PK_STORED || cut)
            continue;
        if (!first)
            first = block->tokens;
        ended++;
        alike += block->tokens == greatest;
        multiples =
            multiples && (block->tokens % PK_TRUNCATION_EVERY == 0 || block->tokens == 32767);
        full = full && (block->tokens == 32767 || block->tokens == 16384);
    }
    if (first && multiples && (first == 32767 || !full)) {
        with->limit = 32767;
        with->flags |= PK_FLAG_TRUNCATES;
    } else if (alike * 2 > ended) {
        with->limit = greatest;
    } else {
        with->limit = greatest <= 16383 ? 16383 : greatest <= 32767 ? 32767 : greatest;
    }
}

void pk_choose_trees(const pk_segment *segment, pk_settings *with)
{
    enum { MOST_OTHERS = 4 }; /* headers that neither makes, after which none is tried */
    unsigned others = 0;
    for (size_t at = 0; at < segment->block_count && others < MOST_OTHERS; at++) {
        const pk_block *block = &segment->blocks[at];
        pk_counts counts;
        pk_header header;
        if (block->type != PK_DYNAMIC)
            continue;
        pk_count(&counts, segment->tokens + block->first_token, block->tokens);
        pk_make_header(&header, PK_TREES_ZLIB, &counts, block->plain);
        int zlib = pk_same_header(&header, &block->header);
        pk_make_header(&header, PK_TREES_GO, &counts, block->plain);
        int go = pk_same_header(&header, &block->header);
        if (zlib != go) {
            with->flags |= go ? PK_FLAG_GO_TREES : 0;
            return;
        }
        others += !go;
    }
}

int pk_aligns_as_pigz(const pk_segment *segment)
{
    int even = 0;
    uint32_t last = (uint32_t)segment->window;
    for (size_t at = 0; at < segment->block_count;) {
        const pk_block *empty = &segment->blocks[at];
        size_t end = pk_behind_empty(segment, at);
        if (end > at && end < segment->block_count) {
            if (!pk_are_aligning(empty, end - at)
                || (empty->start > last && empty->start - last < PK_PRIMED_GAP))
                return 0;
            last = empty->start;
            even = even || !(empty->bit & 1);
        }
        at = end > at ? end : at + 1;
    }
    return even;
}

uint64_t pk_choose_rule(pk_codec *codec, pk_trials *of, pk_settings *with, int guess)
{
    uint64_t best = UINT64_MAX - 1;
    unsigned chosen = 0, first = 0;
    int behind = 1; /* a rule behind the chosen one must be better; before it, as good is enough */
    while (first < of->count && of->list[first].rule != guess)
        first++;
    if (first < of->count && pk_trials_set(of, first, with)) {
        best = pk_try_rule(codec, of->segment, with, best);
        chosen = first;
        behind = 0;
    }
    for (unsigned place = 0; place < of->count && best >= (unsigned)behind; place++) {
        if (place && place == of->likely && best <= PK_SAMPLE_TOKENS / 4)
            break;
        if (!behind && place == chosen) {
            behind = 1;
            continue;
        }
        if (!pk_trials_set(of, place, with))
            continue;
        uint64_t wrong = pk_try_rule(codec, of->segment, with, best - (unsigned)behind);
        if (wrong <= best - (unsigned)behind) {
            best = wrong;
            chosen = place;
            behind = 1;
        }
    }
    pk_trials_set(of, chosen, with);
    return best;
}

void pk_follow_far(const pk_segment *segment, pk_settings *with)
{
    if (pk_is_fast(with) && !(with->flags & PK_FLAG_PRIMED) && segment->window > PK_WINDOW)
        with->flags |= PK_FLAG_FAR;
}
