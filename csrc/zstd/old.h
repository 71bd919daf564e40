/* Sequences of a stretch of an old stream, which predict those of its successor's. */
#ifndef PK_ZSTD_OLD_H
#define PK_ZSTD_OLD_H

#include "zstd/frames.h"

enum {
    PK_ZSTD_OLD_PLAIN = 16 << 20, /* greatest plaintext of a span */
    PK_ZSTD_MOST_BEFORE = 8 << 20 /* that is aligned before a segment */
};

/* A span of an old stream: its plaintext and the sequences whose matches lie in it. */
typedef struct pk_zstd_old pk_zstd_old;

pk_zstd_old *pk_zstd_old_new(void);
void pk_zstd_old_free(pk_zstd_old *old);

/* Begin a span of `size` bytes from `start` on, positions in the plaintext of the old stream.
 * Returns PK_OK, or PK_INVALID for a size above PK_ZSTD_OLD_PLAIN. */
pk_status pk_zstd_old_begin(pk_zstd_old *old, uint64_t start, uint32_t size);

/* A match of a segment. */
typedef struct pk_zstd_old_match {
    uint32_t at, length, offset; /* at: from the segment's start, or the span's */
    uint8_t value;               /* its Offset_Value if that is 1 to 3, else 0 */
    uint8_t written;             /* it is 0 though a repeated offset was the same */
} pk_zstd_old_match;

/* Tell the matches of a segment, in order; `out` has room for as many as it has sequences. Returns
 * their number. */
size_t pk_zstd_matches(const pk_zstd_segment *segment, pk_zstd_old_match *out);

/* Add what a segment, whose plaintext begins at `position`, has of the span; segments come in the
 * order of the stream, without gaps from the span's start on. Returns PK_OK, PK_INVALID if the
 * segment leaves a gap or its matches are not in order within it, or PK_NO_MEMORY. */
pk_status pk_zstd_old_add(pk_zstd_old *old, const uint8_t *plain, size_t size,
                          const pk_zstd_old_match *matches, size_t count, uint64_t position);

#endif
