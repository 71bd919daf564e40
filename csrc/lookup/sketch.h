/* Sketches: a few numbers that similar chunks have in common.
 *
 * Twelve features of a chunk are hashed in pairs into six super-features. A feature is the
 * greatest value of one linear function over the rolling hashes at positions that the content
 * selects. An edit changes only the hashes near it, so chunks that differ in a few places share
 * most features, and with high probability at least one super-feature: 93 % of chunks that
 * have 60 % of their content in common. Unrelated chunks share none.
 *
 * Sources: A. Broder, "On the resemblance and containment of documents", 1997 (features as
 * extremes); P. Shilane et al., "WAN optimized replication of backup datasets using
 * stream-informed delta compression", FAST 2012 (super-features); X. Zou et al., "Odess", 2021
 * (sampling by content).
 * A sketch is no part of the format: it only proposes a chunk to compress another one against.
 */
#ifndef PK_LOOKUP_SKETCH_H
#define PK_LOOKUP_SKETCH_H

#include <stddef.h>
#include <stdint.h>

enum { PK_SUPER_FEATURES = 6 };

/* Compute the super-features of a chunk.
 *
 * data, length: the chunk, any number of bytes; borrowed for the call.
 * out: PK_SUPER_FEATURES numbers, written. Only equal indices of two sketches are comparable.
 * Returns 1; or 0 and zeros in `out` if the chunk is too short or too uniform (fewer than six
 * sampled positions, one in 32 bytes on average). No state, no allocation; any number of threads.
 */
int pk_sketch(const uint8_t *data, size_t length, uint64_t out[PK_SUPER_FEATURES]);

#endif
