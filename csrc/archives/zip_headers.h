/* Headers of zip archives: their times, and the offsets in central directories.
 *
 * An archive that is written anew has a new time in two headers of each entry, and once the length
 * of one entry changes, the central directory has another offset for each entry behind it. With
 * the older archive's times replaced, and offsets told as what an entry has more than is due, a
 * delta finds all headers again.
 *
 * Specification: docs/format.md, "Recipes", "Deltas". Nothing here keeps state or allocates; any
 * number of threads. A header is whatever begins with the signature of a local header, or of an
 * entry of the central directory, and has all fields of fixed length. */
#ifndef PK_ARCHIVES_ZIP_HEADERS_H
#define PK_ARCHIVES_ZIP_HEADERS_H

#include "archives/tar_times.h"

/* List the times of the headers in a text: of each the DOS time, then Unix times beside it.
 *
 * data, length: the text; borrowed for the call.
 * out, capacity: written; the search ends when it is full.
 * Returns their number. */
size_t pk_zip_times(const uint8_t *data, size_t length, pk_header_time *out, size_t capacity);

/* Replace times in the headers of a text.
 *
 * data, length: the text; changed.
 * pairs, count: an old time and a new one each; the first pair with an old time counts. Of a new
 *     time the lower 32 bits are written.
 * Returns the number of times replaced. */
size_t pk_zip_retime(uint8_t *data, size_t length, const uint64_t *pairs, size_t count);

/* Replace the offsets in the central directories of a text by what they are more than is due, or
 * these by the offsets. The first entry of each directory keeps its offset.
 *
 * data, length: the text; changed.
 * undo: whether to give back the offsets.
 * Returns the number of offsets replaced. */
size_t pk_zip_relink(uint8_t *data, size_t length, int undo);

#endif
