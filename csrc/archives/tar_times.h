/* Modification times in the headers of tar archives.
 *
 * An archive that is written anew often has a new time in each header, and nothing else there is
 * new. With the times of the older archive replaced, a delta finds its headers again.
 *
 * Specification: docs/format.md, "Recipes", "Deltas". Nothing here keeps state or allocates; any
 * number of threads. A header is a block of PK_TAR_BLOCK bytes at a multiple of that, with the
 * magic "ustar", a time of eleven octal digits, and its checksum as six octal digits,
 * NUL and space.
 */
#ifndef PK_ARCHIVES_TAR_TIMES_H
#define PK_ARCHIVES_TAR_TIMES_H

#include "archives/tar_header.h"

/* The time of a header, by a hash of its name and its type. */
typedef struct pk_header_time {
    uint64_t name;
    uint64_t time;
} pk_header_time;

/* List the times of the headers in a text.
 *
 * data, length: the text, from the start of a block on; borrowed for the call.
 * out, capacity: written; the search ends when it is full.
 * Returns their number. */
size_t pk_tar_times(const uint8_t *data, size_t length, pk_header_time *out, size_t capacity);

/* Replace times in the headers of a text, and make their checksums right again.
 *
 * data, length: the text, from the start of a block on; changed.
 * pairs, count: an old time and a new one each; the first pair with a header's old time counts.
 *     New times are below 2^33.
 * Returns the number of headers changed. */
size_t pk_tar_retime(uint8_t *data, size_t length, const uint64_t *pairs, size_t count);

#endif
