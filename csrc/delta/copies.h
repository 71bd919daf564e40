/* Copies: long stretches that a text shares with an older one, and the rest without them.
 *
 * A delta frame holds copies and the rest of the text; zstd compresses the rest against the blocks
 * of the older bytes that prefix_blocks.h selects. A copy says where a stretch of the text stands
 * in the older bytes, or earlier in the text itself. A general compressor spends its time on the
 * megabytes that did not change; without them, its strongest level takes milliseconds.
 * docs/format.md, "Delta frames", specifies how copies and rests are written.
 *
 * Source of the idea: J. Bentley, D. McIlroy, "Data compression using long common strings", DCC
 * 1999 (fingerprints of aligned blocks, matches extended both ways).
 *
 * In all functions the buffer is the older bytes, then the text: `prefix` bytes of `size`. Nothing
 * keeps state or allocates; any number of threads.
 */
#ifndef PK_DELTA_COPIES_H
#define PK_DELTA_COPIES_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/* A stretch of the text: text[at - prefix ..] equals buffer[from ..], for `length` bytes. Offsets
 * count from the buffer's start: prefix <= at, from + length <= at. The source lies wholly in the
 * older bytes or wholly in the text. */
typedef struct pk_copy {
    uint32_t at;
    uint32_t from;
    uint32_t length; /* in bytes; 1 or more */
} pk_copy;

/* Find copies of 96 bytes or more, in the order of the text, without overlap.
 *
 * data, prefix, size: the buffer; size < 2^31.
 * table, table_log: working memory of 2^table_log numbers, 8 <= table_log <= 28; its contents
 *     before do not matter, and after are undefined. More memory finds more.
 * copies, capacity: written; the search ends when they are full.
 * Returns the number of copies, which depends on the arguments alone. */
size_t pk_delta_find(const uint8_t *data, size_t prefix, size_t size, uint32_t *table,
                     unsigned table_log, pk_copy *copies, size_t capacity);

#define PK_TOO_FRESH ((size_t)-1)

enum { PK_COVERED_LOG = 10 /* log of the size in bytes of a block of the older bytes */ };

/* Return how many blocks the older bytes have. */
static inline size_t pk_covered_blocks(size_t prefix)
{
    return (prefix + ((size_t)1 << PK_COVERED_LOG) - 1) >> PK_COVERED_LOG;
}

/* Find copies as pk_delta_find does, with two differences.
 *
 * most_fresh: the search ends early with PK_TOO_FRESH once more bytes of the text than that
 *     neither repeat earlier text nor can do so: they were left between copies, or stand in the
 *     older bytes. SIZE_MAX never ends early.
 * covered: one byte a block, set to 1 or 0: whether it lies within the source of a long copy.
 *     These blocks are not looked at for short copies: what is new is mostly like old text that
 *     was changed or removed, or stood beside it. NULL: all are looked at. */
size_t pk_delta_find_fresh(const uint8_t *data, size_t prefix, size_t size, size_t most_fresh,
                           uint32_t *table, unsigned table_log, uint8_t *covered, pk_copy *copies,
                           size_t capacity);

/* Return the bytes of those copies whose source begins before `end`: with `prefix` of the copies
 * from the older bytes, with `size` of all. */
size_t pk_delta_copied(const pk_copy *copies, size_t count, size_t end);

/* Write the rest of the text: the bytes that no copy covers.
 *
 * copies, count: sound ones (see pk_copy), in order.
 * out: room for the rest, size - prefix - pk_delta_copied(copies, count, size) bytes.
 * Returns its length. */
size_t pk_delta_rest(const uint8_t *data, size_t prefix, size_t size, const pk_copy *copies,
                     size_t count, uint8_t *out);

/* Put a text together: the inverse of pk_delta_rest. Copies and rest come from a stranger.
 *
 * older: the first `prefix` bytes of the buffer.
 * text: size - prefix bytes, written; undefined after an error.
 * Returns PK_OK, or PK_INVALID: a copy is not sound, or copies and rest do not fill the text
 * exactly. */
pk_status pk_delta_apply(const uint8_t *older, size_t prefix, size_t size, const pk_copy *copies,
                         size_t count, const uint8_t *rest, size_t rest_length, uint8_t *text);

/* Check that pk_delta_apply would write this text, without writing it.
 *
 * text: size - prefix bytes. What a copy takes from the text is compared before.
 * Returns PK_OK, or PK_INVALID. */
pk_status pk_delta_check(const uint8_t *older, size_t prefix, size_t size, const pk_copy *copies,
                         size_t count, const uint8_t *rest, size_t rest_length,
                         const uint8_t *text);

/* Code copies as columns: classes of gaps, of lengths and of places, and extra bits.
 *
 * copies, count: sound ones, in order, for a buffer of at most 2^25 bytes.
 * classes: 3 * count bytes, written.
 * extra: room for 9 * count bytes.
 * Returns the length of the extra bits in bytes. */
size_t pk_delta_encode(const pk_copy *copies, size_t count, size_t prefix, uint8_t *classes,
                       uint8_t *extra);

/* Decode copies from a stranger, and check that they are sound for a buffer of these sizes.
 *
 * classes: 3 * count bytes. extra, extra_length: exactly the extra bits.
 * prefix, size: of the buffer; size <= 2^25.
 * copies: room for `count`; undefined after an error.
 * Returns PK_OK, or PK_INVALID. */
pk_status pk_delta_decode(const uint8_t *classes, size_t count, const uint8_t *extra,
                          size_t extra_length, size_t prefix, size_t size, pk_copy *copies);

#endif
