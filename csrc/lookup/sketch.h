/* Sketches: a few numbers that similar chunks have in common.
 *
 * Twelve features of a chunk, each the greatest value of one linear function over the rolling hashes at
 * content-defined positions, are hashed in pairs into six super-features. An edit changes
 * only the hashes near it, so that chunks which differ in a few places share most features, and with
 * high probability at least one super-feature (93 % of chunks that have 60 % of their content in common);
 * unrelated chunks share none.
 *
 * Sources: A. Broder, "On the resemblance and containment of documents", 1997 (features as extremes);
 * P. Shilane et al., "WAN optimized replication of backup datasets using stream-informed delta
 * compression", FAST 2012 (super-features); X. Zou et al., "Odess", 2021 (sampling by content).
 * A sketch is no part of the format: it only proposes what to compress a chunk against.
 */
#ifndef PK_SKETCH_H
#define PK_SKETCH_H

#include <stddef.h>
#include <stdint.h>

#define PK_SUPER_FEATURES 6

/* Write the super-features of data[0..length) to `out`. Returns 1, or 0 if the data is too short or too
 * uniform to have any (`out` is all zero then). No state, no allocation; any number of threads. */
int pk_sketch(const uint8_t *data, size_t length, uint64_t out[PK_SUPER_FEATURES]);

#endif
