/* Deltas: long stretches that a text shares with an older one, and what is left without them.
 *
 * A delta frame holds *copies* (where in the older bytes, or earlier in the text itself, a stretch of the text
 * stands) and the *rest* of the text, which zstd compresses against what pk_select keeps of the older bytes. A general
 * compressor spends its time on the megabytes that did not change; with those out of its way, its strongest
 * level costs milliseconds. docs/format.md, "Delta frames", specifies copies and rests.
 *
 * Source of the idea: J. Bentley, D. McIlroy, "Data compression using long common strings", DCC 1999 (fingerprints
 * of aligned blocks, matches extended both ways). The buffer is older bytes, then the text: `prefix` bytes of
 * `size`. No state, no allocation; any number of threads.
 */
#ifndef PK_DELTA_H
#define PK_DELTA_H

#include <stddef.h>
#include <stdint.h>

/* A stretch of the text. `at` and `from` are offsets in the buffer: prefix <= at, from + length <= at, and
 * the source lies wholly in the older bytes or wholly in the text. */
typedef struct pk_copy {
    uint32_t at, from, length;
} pk_copy;

/* Find copies, in the order of the text, without overlap.
 *
 * data, prefix, size: the buffer; size < 2^31.
 * table, table_log: memory for 2^table_log 32-bit numbers, 8 <= table_log <= 28; contents do not matter.
 * copies, capacity: where to; the search ends when it is full.
 * Returns the number of copies. Depends on its arguments alone. */
size_t pk_delta_find(const uint8_t *data, size_t prefix, size_t size, uint32_t *table,
                     unsigned table_log, pk_copy *copies, size_t capacity);

/* How many bytes the copies have whose source begins before `end`: the prefix's, or that of all. */
size_t pk_delta_copied(const pk_copy *copies, size_t count, size_t end);

/* Write the rest of the text: what no copy covers. out: room for it. Returns its length. */
size_t pk_delta_rest(const uint8_t *data, size_t prefix, size_t size, const pk_copy *copies,
                     size_t count, uint8_t *out);

/* Put the text together: the inverse of pk_delta_rest.
 *
 * older: the first `prefix` bytes of the buffer. text: the others, written.
 * Copies and rest come from a stranger: returns 0, or -1 if they do not fit (see pk_copy) or do not fill the
 * text exactly. */
int pk_delta_apply(const uint8_t *older, size_t prefix, size_t size, const pk_copy *copies,
                   size_t count, const uint8_t *rest, size_t rest_length, uint8_t *text);

/* Write copies as the classes of their gaps, of their lengths, and of their places, and extra bits.
 *
 * classes: 3 * count bytes. extra: room for 9 bytes a copy. size <= 2^25. Returns the length of the extra bits. */
size_t pk_delta_encode(const pk_copy *copies, size_t count, size_t prefix, uint8_t *classes,
                       uint8_t *extra);

/* Read copies from a stranger, and check that they are sound for a buffer of these sizes, at most 2^25.
 *
 * classes: 3 * count bytes. copies: room for count. Returns 0, or -1 if they are not sound. */
int pk_delta_decode(const uint8_t *classes, size_t count, const uint8_t *extra,
                    size_t extra_length, size_t prefix, size_t size, pk_copy *copies);

#endif
