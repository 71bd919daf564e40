/* Headers of tar archives, coded as their differences from the header before.
 *
 * Specification: docs/format.md, "Recipes". Source of the fields: POSIX.1-2017, pax, "ustar
 * Interchange Format". Nothing here keeps state or allocates; any number of threads.
 */
#ifndef PK_ARCHIVES_TAR_HEADER_H
#define PK_ARCHIVES_TAR_HEADER_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

enum {
    PK_TAR_BLOCK = 512, /* bytes of a header, and of the blocks that content is padded to */
    PK_TAR_TYPE = 156,  /* offset of the member's type in a header */
    PK_TAR_CODED = 560 /* longest coded header in bytes: all fields, their lengths, and the mask */
};

/* Tell whether a block is a header: it begins with a name, and its checksum is right.
 *
 * block: PK_TAR_BLOCK bytes. Returns 1 or 0. */
int pk_tar_is_header(const uint8_t *block);

/* Return how many bytes of content follow a header, without padding; -1 if its size field is no
 * number below 2^63.
 *
 * block: PK_TAR_BLOCK bytes, a header. Links, devices, directories and fifos have none: 0. */
int64_t pk_tar_size(const uint8_t *block);

/* What pk_tar_next comes to. */
enum { PK_TAR_END = 0, PK_TAR_MORE = 1, PK_TAR_FOUND = 2 };

/* Follow headers to the next member that has so much content.
 *
 * data, length: bytes of the archive, from a header on.
 * left: bytes of the archive from there on, below 2^63.
 * least: bytes of content that are wanted.
 * headers: how many may be read; those that were are taken from it.
 * at: offset in data of the header to read; set to that of the last one.
 * size: set to the content of the last member that was read, if there was one.
 * Returns PK_TAR_FOUND; PK_TAR_MORE: the next header lies behind the data, or not all of it there;
 * PK_TAR_END: no member is left, or what is there is none. */
int pk_tar_next(const uint8_t *data, size_t length, uint64_t left, int64_t least,
                uint32_t *headers, uint64_t *at, int64_t *size);

/* Code a header, and check that it decodes to the same bytes.
 *
 * block: PK_TAR_BLOCK bytes.
 * previous: the header before, PK_TAR_BLOCK bytes; zeros for the first.
 * out: room for PK_TAR_CODED bytes, not overlapping the others.
 * size: set to pk_tar_size(block); undefined after 0.
 * Returns the coded length, 1 to PK_TAR_CODED; 0 if the block is no header, its size is unknown,
 * or it would not decode to the same bytes. */
size_t pk_tar_encode(const uint8_t *block, const uint8_t *previous, uint8_t *out, int64_t *size);

/* Decode a header; the inverse of pk_tar_encode. The coded bytes come from a stranger.
 *
 * in, length: the coded header and any bytes behind it.
 * previous: as for pk_tar_encode.
 * block: PK_TAR_BLOCK bytes, written; may be `previous`. Undefined after an error.
 * taken: set to the bytes that the coded header has.
 * Returns PK_OK; PK_CUT_OFF: the coded header goes on behind `in`; PK_TOO_LONG: a field is longer
 * than its place; PK_OUT_OF_RANGE: a number does not fit its field. */
pk_status pk_tar_decode(const uint8_t *in, size_t length, const uint8_t *previous, uint8_t *block,
                        size_t *taken);

#endif
