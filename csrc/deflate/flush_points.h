/* Flush points of an encoder, found in the blocks of a segment. Internal.
 *
 * Nothing here keeps state; any number of threads. */
#ifndef PK_DEFLATE_FLUSH_POINTS_H
#define PK_DEFLATE_FLUSH_POINTS_H

#include "deflate/settings.h"

/* Return whether the encoder was flushed behind a block without an empty block that shows it: pigz
 * writes none where a byte has just ended. Other encoders' blocks end at their limit there, or in
 * the manner of gzip. */
int pk_ends_at_flush(const pk_segment *segment, const pk_settings *with, size_t block);

/* Return the next flush point from `block` on, as the index of the first block behind it: often an
 * empty one. */
size_t pk_next_flush(const pk_segment *segment, const pk_settings *with, size_t block);

/* Return the offset in the segment's data where a block starts; its end behind the last block. */
uint32_t pk_flush_position(const pk_segment *segment, size_t block);

/* Return the first block from `block` on that has plaintext. */
size_t pk_behind_empty(const pk_segment *segment, size_t block);

/* Return whether empty blocks are the ones with which pigz aligns its output: one stored block at
 * an odd bit, else as many fixed ones as it takes. */
int pk_are_aligning(const pk_block *empty, size_t count);

#endif
