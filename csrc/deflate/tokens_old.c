/* A span of an old stream, and the alignment with it. */
#include "deflate/tokens_walk.h"

pk_old *pk_old_new(void)
{
    return calloc(1, sizeof(pk_old));
}

void pk_old_free(pk_old *old)
{
    if (!old)
        return;
    free(old->memory);
    free(old->tokens);
    free(old->ends);
    free(old->marks);
    free(old);
}

uint32_t pk_old_size(const pk_old *old)
{
    return (uint32_t)old->size;
}

pk_status pk_old_begin(pk_old *old, uint64_t start, uint32_t size)
{
    if (size > PK_OLD_PLAIN || start > UINT64_MAX - PK_OLD_PLAIN)
        return PK_INVALID;
    old->start = start;
    old->wanted = size;
    old->plain = old->memory;
    old->size = old->count = old->end_count = old->mark_count = 0;
    return PK_OK;
}

/* Count `count` tokens that stand behind the last one, and mark places; the first begins at `at`,
 * which moves behind them. */
static void count_tokens(pk_old *old, size_t *at, size_t count)
{
    const pk_token *const tokens = old->tokens;
    const size_t end = old->count + count;
    size_t place = *at, next = old->mark_count << MARK_LOG;
    for (size_t i = old->count; i < end; i++) {
        if (place >= next) {
            do
                old->marks[old->mark_count++] = (mark){(uint32_t)i, (uint32_t)place};
            while (old->mark_count << MARK_LOG <= place);
            next = old->mark_count << MARK_LOG;
        }
        place += token_bytes(tokens[i]);
    }
    old->count = end;
    *at = place;
}

/* Add a token, for which there is room; it begins at `at`. */
static inline void add_token(pk_old *old, size_t *at, pk_token token)
{
    old->tokens[old->count] = token;
    count_tokens(old, at, 1);
}

pk_status pk_old_add(pk_old *old, const pk_segment *segment)
{
    const uint64_t end = old->start + old->wanted, next = old->start + old->size;
    const uint64_t first = segment->position, last = first + (segment->size - segment->window);
    if (last <= next || next == end)
        return PK_OK;
    if (first > next)
        return PK_INVALID;
    const uint64_t stop = last < end ? last : end;
    const size_t from = segment->window + (size_t)(next - first),
                 to = segment->window + (size_t)(stop - first);
    size_t at = old->size, wanted = old->size + (to - from), literals = 0;
    for (size_t i = 0; i < segment->block_count; i++)
        if (segment->blocks[i].type == PK_STORED)
            literals += segment->blocks[i].plain;
    size_t most = segment->token_count + literals + 2 * PK_MAX_MATCH;
    if (most > to - from)
        most = to - from;
    if (old->count + most > PK_OLD_TOKENS || old->end_count + segment->block_count > PK_OLD_ENDS)
        return PK_INVALID;
    /* Memory for the tokens of the whole span, if the rest of it has as many for its bytes. */
    const size_t tokens = old->count + most,
                 expected = (size_t)((uint64_t)tokens * old->wanted / wanted);
    if (pk_segment_grow((void **)&old->memory, &old->capacity, old->wanted + PK_PAD, 1)
        || (tokens > old->token_capacity
            && pk_segment_grow((void **)&old->tokens, &old->token_capacity, expected,
                               sizeof *old->tokens))
        || pk_segment_grow((void **)&old->ends, &old->end_capacity,
                           old->end_count + segment->block_count, sizeof *old->ends)
        || pk_segment_grow((void **)&old->marks, &old->mark_capacity,
                           ((size_t)old->wanted >> MARK_LOG) + 1, sizeof *old->marks))
        return PK_NO_MEMORY;
    old->plain = old->memory;
    memcpy(old->plain + old->size, segment->data + from, to - from);
    memset(old->plain + wanted, 0, PK_PAD);
    size_t place = segment->window;
    for (size_t i = 0; i < segment->block_count && place < to; i++) {
        const pk_block *block = &segment->blocks[i];
        const pk_token *token = segment->tokens + block->first_token;
        size_t block_end = (size_t)block->start + block->plain;
        if (block->type == PK_STORED) {
            for (place = block->start > from ? block->start : from;
                 place < block_end && place < to; place++)
                add_token(old, &at, segment->data[place]);
        } else if (block->start >= from && block_end <= to) {
            memcpy(old->tokens + old->count, token, block->tokens * sizeof *token);
            count_tokens(old, &at, block->tokens);
        } else {
            for (place = block->start; place < block_end && place < to;
                 place += token_bytes(*token++)) {
                size_t behind = place + token_bytes(*token);
                if (place >= from && behind <= to) {
                    add_token(old, &at, *token);
                    continue;
                }
                for (size_t byte = place < from ? from : place; byte < behind && byte < to; byte++)
                    add_token(old, &at, segment->data[byte]);
            }
        }
        place = block_end;
        const int is_open = segment->open && i + 1 == segment->block_count;
        if (block->plain && !is_open && block_end > from && block_end <= to)
            old->ends[old->end_count++] = (uint32_t)(old->size + (block_end - from));
    }
    old->size = wanted;
    return at == wanted ? PK_OK : PK_INVALID;
}

uint32_t pk_old_cut(pk_old *old, uint32_t from, uint32_t to)
{
    old_place first = {0, 0}, last = {0, 0};
    if (from >= to) {
        pk_old_begin(old, old->start, 0);
        return 0;
    }
    old_seek(old, &first, from);
    old_seek(old, &last, to - 1);
    from = first.at;
    to = last.at + token_bytes(old->tokens[last.token]);
    const size_t count = last.token + 1 - first.token;
    uint8_t *const plain = old->plain + from;
    memmove(old->tokens, old->tokens + first.token, count * sizeof *old->tokens);
    size_t ends = 0, at = 0;
    for (size_t i = 0; i < old->end_count; i++)
        if (old->ends[i] > from && old->ends[i] <= to)
            old->ends[ends++] = old->ends[i] - from;
    pk_old_begin(old, old->start + from, to - from);
    old->plain = plain;
    count_tokens(old, &at, count);
    old->end_count = ends;
    old->size = to - from;
    memset(old->plain + old->size, 0, PK_PAD);
    return from;
}

size_t pk_shifts_of(const pk_copy *copies, size_t count, size_t prefix, uint32_t base,
                    shift *shifts, size_t most)
{
    size_t made = 0;
    for (size_t i = 0; i < count && made < most; i++) {
        if (copies[i].from >= prefix)
            continue; /* a repetition within the new text */
        uint32_t at = (uint32_t)(copies[i].at - prefix) + base;
        int32_t by = (int32_t)at - (int32_t)copies[i].from;
        if (made && shifts[made - 1].by == by)
            continue;
        shifts[made] = (shift){made ? at : base, by};
        made++;
    }
    return made;
}
