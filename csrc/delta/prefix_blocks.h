/* Which blocks of the older bytes the rest of a text is compressed against: those that it has something in common with.
 *
 * zstd's strongest levels take 0.2 us for each byte they may refer to. A quick look, linear, tells which of them are
 * worth it: a twentieth, mostly, in which distances are shorter as well. docs/format.md, "Delta frames", specifies how
 * the choice is written.
 *
 * Source of the numbers' code: J. Teuhola, "A compression method for clustered bit-vectors", 1978 (exponential Golomb
 * codes). No state, no allocation; any number of threads. */
#ifndef PK_SELECT_H
#define PK_SELECT_H

#include <stddef.h>
#include <stdint.h>

#define PK_SELECT_HEADS 17 /* log of the number of heads that pk_select wants */

/* Memory for pk_select: contents do not matter. */
typedef struct pk_select_table {
    uint32_t *heads; /* 2^PK_SELECT_HEADS */
    uint32_t *places,
        *chains; /* `capacity` each: places beyond are not noted, so that more are found with more */
    size_t capacity; /* at least 1 */
} pk_select_table;

/* Choose blocks.
 *
 * older, older_length; rest, rest_length: together below 2^31 bytes.
 * sample_log: of one position in 2^sample_log, which content decides, a fingerprint is taken; at most 16.
 * depth: how many places with the same fingerprint are looked at, the newest first.
 * block_log: of the size of blocks.
 * kept: one byte a block, (older_length + 2^block_log - 1) >> block_log of them, set to 1 or 0.
 * Returns how many bytes of the rest were found in the older bytes. Depends on its arguments alone (of `table`: on the capacity). */
size_t pk_select(const uint8_t *older, size_t older_length, const uint8_t *rest,
                 size_t rest_length, unsigned sample_log, unsigned depth, unsigned block_log,
                 const pk_select_table *table, uint8_t *kept);

/* Write blocks that are kept, in order. out: room for them. Returns their length. */
size_t pk_select_gather(const uint8_t *older, size_t length, unsigned block_log,
                        const uint8_t *kept, uint8_t *out);

/* Write which of `count` blocks, below 2^31, are kept.
 *
 * out: room for `count` + 16 bytes. Returns the length. */
size_t pk_select_encode(const uint8_t *kept, size_t count, uint8_t *out);

/* Read that from a stranger. kept: `count` bytes. Returns 0, or -1 if it is not exactly for so many blocks. */
int pk_select_decode(const uint8_t *in, size_t length, uint8_t *kept, size_t count);

#endif
