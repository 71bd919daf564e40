#include "deflate/flush_points.h"

int pk_ends_at_flush(const pk_segment *segment, const pk_settings *with, size_t block)
{
    const pk_block *one = &segment->blocks[block];
    if (with->flags & PK_FLAG_TRUNCATES || pk_kind_of(with) == PK_GO_SPEED
        || pk_kind_of(with) == PK_MINIZ || pk_is_klauspost(with) || pk_kind_of(with) >= PK_QUICK)
        return 0;
    return one->type != PK_STORED && one->tokens < with->limit && block + 1 < segment->block_count
           && one[1].plain && !one[1].bit;
}

size_t pk_next_flush(const pk_segment *segment, const pk_settings *with, size_t block)
{
    while (block < segment->block_count && segment->blocks[block].plain) {
        if (pk_ends_at_flush(segment, with, block))
            return block + 1;
        block++;
    }
    return block;
}

uint32_t pk_flush_position(const pk_segment *segment, size_t block)
{
    return block < segment->block_count ? segment->blocks[block].start : (uint32_t)segment->size;
}

size_t pk_behind_empty(const pk_segment *segment, size_t block)
{
    while (block < segment->block_count && !segment->blocks[block].plain)
        block++;
    return block;
}

int pk_are_aligning(const pk_block *empty, size_t count)
{
    if (empty->bit & 1)
        return count == 1 && empty->type == PK_STORED;
    for (size_t at = 0; at < count; at++)
        if (empty[at].type != PK_FIXED)
            return 0;
    return count == ((8u - empty->bit) & 7) / 2;
}
