/* Places of a segment's plaintext that begin as a place does. Internal. */
#ifndef PK_ZSTD_FINDER_H
#define PK_ZSTD_FINDER_H

#include "zstd/frames.h"

enum { PK_ZSTD_HEADS = 16, PK_ZSTD_DEPTH = 32, PK_ZSTD_LEAST_FOUND = 4, PK_ZSTD_COMPARED = 256 };

typedef struct pk_zstd_finder {
    const uint8_t *data;
    uint32_t size, inserted;
    uint32_t head[1 << PK_ZSTD_HEADS]; /* the last position of each hash, + 1 */
    uint32_t *back;                    /* of each position the one before it with its hash, + 1 */
    size_t capacity;
} pk_zstd_finder;

/* Begin with a text. Returns PK_OK or PK_NO_MEMORY. */
pk_status pk_zstd_finder_start(pk_zstd_finder *with, const uint8_t *data, uint32_t size);

/* The nearest PK_ZSTD_DEPTH places before `at` with its hash, those that have four bytes of it:
 * their offsets, the nearest first, and which has the longest match, of equals the nearest,
 * with at most `most` bytes and PK_ZSTD_COMPARED: a stranger decides how often this is asked.
 * Returns how many there are. Places asked about only rise. */
unsigned pk_zstd_find(pk_zstd_finder *with, uint32_t at, uint32_t most,
                      uint32_t offsets[PK_ZSTD_DEPTH], unsigned *best);

#endif
