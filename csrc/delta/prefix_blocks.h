/* Selects the blocks of the older bytes that the rest of a text is compressed against.
 *
 * zstd's strongest levels take 0.2 us for each byte they may refer to. A quick linear search finds
 * the blocks that have something in common with the rest: mostly a twentieth of all, in which
 * distances are shorter as well. docs/format.md, "Delta frames", specifies how the choice is
 * written.
 *
 * Source of the numbers' code: J. Teuhola, "A compression method for clustered bit-vectors", 1978
 * (exponential Golomb codes). Nothing keeps state or allocates; any number of threads. */
#ifndef PK_DELTA_PREFIX_BLOCKS_H
#define PK_DELTA_PREFIX_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

enum {
    PK_SELECT_HEADS = 17 /* log of the number of heads of a pk_select_table */
};

/* Working memory of pk_select, owned by the caller. Contents before do not matter. */
typedef struct pk_select_table {
    uint8_t *wanted;  /* 2^PK_SELECT_HEADS: hashes of the rest's fingerprints */
    uint32_t *heads;  /* 2^PK_SELECT_HEADS */
    uint32_t *places; /* `capacity` */
    uint32_t *chains; /* `capacity` */
    size_t capacity;  /* fingerprints that are remembered, 1 or more: later ones are not found */
} pk_select_table;

/* Select blocks.
 *
 * older, older_length, rest, rest_length: the bytes; together below 2^31.
 * sample_log: a fingerprint is taken of one position in 2^sample_log, which the content selects; 0
 *     to 16.
 * depth: how many places with the same fingerprint are compared, the newest first.
 * block_log: log of the size of a block in bytes.
 * table: working memory.
 * kept: one byte a block, (older_length + 2^block_log - 1) >> block_log of them. Blocks with 1 are
 *     not looked at; then it is set to 1 or 0.
 * Returns how many bytes of the rest were found in the older bytes. The result depends on the
 * arguments alone; of `table`, on its capacity. */
size_t pk_select(const uint8_t *older, size_t older_length, const uint8_t *rest,
                 size_t rest_length, unsigned sample_log, unsigned depth, unsigned block_log,
                 const pk_select_table *table, uint8_t *kept);

/* Estimate how many positions of the rest begin eight bytes that occur in the older bytes, by the
 * samples of both.
 *
 * older, older_length, rest, rest_length, sample_log, table: as for pk_select.
 * Returns about the number, a multiple of 2^sample_log, which depends on the arguments alone. */
size_t pk_select_estimate(const uint8_t *older, size_t older_length, const uint8_t *rest,
                          size_t rest_length, unsigned sample_log, const pk_select_table *table);

/* Write the kept blocks one behind another.
 *
 * older, length, block_log, kept: as for pk_select.
 * out: room for them; the last block of `older` may be shorter than the others.
 * Returns their bytes. */
size_t pk_select_gather(const uint8_t *older, size_t length, unsigned block_log,
                        const uint8_t *kept, uint8_t *out);

/* Code which blocks are kept.
 *
 * kept, count: one byte a block, 0 or 1; below 2^31 blocks.
 * out: room for count + 16 bytes.
 * Returns the coded length in bytes; 0 if none is kept. */
size_t pk_select_encode(const uint8_t *kept, size_t count, uint8_t *out);

/* Decode which blocks are kept. The coded bytes come from a stranger.
 *
 * kept: `count` bytes, written; undefined after an error.
 * Returns PK_OK, or PK_INVALID: the bytes are not exactly the code of at most `count` blocks. */
pk_status pk_select_decode(const uint8_t *in, size_t length, uint8_t *kept, size_t count);

#endif
