/* A segment's tokens, blocks and headers to its bits. */
#include "deflate/tokens_internal.h"

pk_status pk_write_segment(pk_writer *to, const pk_segment *segment, unsigned bit, size_t most,
                           uint64_t *bits)
{
    pk_writer_start(to, bit, most);
    for (size_t i = 0; i < segment->block_count && !to->failed; i++) {
        const pk_block *block = &segment->blocks[i];
        unsigned last = segment->last && i + 1 == segment->block_count;
        const pk_token *tokens = segment->tokens + block->first_token;
        if (block->type == PK_STORED) {
            pk_write_stored(to, last, segment->data + block->start, block->plain);
            continue;
        }
        const int is_new = i || !segment->goes_on,
                  ends = i + 1 < segment->block_count || !segment->open;
        if (is_new)
            pk_write_bits(to, last | (unsigned)block->type << 1, 3);
        uint8_t fixed[PK_LENGTHS];
        const uint8_t *lengths = fixed;
        if (block->type == PK_FIXED)
            pk_fixed_lengths(fixed);
        else
            lengths = block->header.lengths;
        if (is_new && block->type == PK_DYNAMIC)
            pk_write_header(to, &block->header);
        pk_write_tokens(to, lengths, tokens, block->tokens, ends);
    }
    return pk_writer_end(to, bits);
}
