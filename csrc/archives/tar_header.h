/* Headers of tar archives, coded as what differs from the header before: docs/format.md, "Recipes".
 *
 * Source of the fields: POSIX.1-2017, pax, "ustar Interchange Format". No state, no allocation; any number of threads.
 */
#ifndef PK_TAR_H
#define PK_TAR_H

#include <stddef.h>
#include <stdint.h>

#define PK_TAR_BLOCK 512
#define PK_TAR_TYPE 156 /* where in a header the member's type stands */
#define PK_TAR_CODED \
    560 /* longest coded header: all fields as they are, their lengths, and the mask */

/* Whether a block is a header: it begins with a name, and its checksum is right. */
int pk_tar_is_header(const uint8_t *block);

/* Return how many bytes of content follow a header, -1 if that cannot be told. */
int64_t pk_tar_size(const uint8_t *block);

/* Code a header, and see that it comes back.
 *
 * previous: the header before, or zeros. out: room for PK_TAR_CODED bytes. size: as pk_tar_size.
 * Returns the length; 0 if the block is no header, its size cannot be told, or it would come back otherwise. */
size_t pk_tar_encode(const uint8_t *block, const uint8_t *previous, uint8_t *out, int64_t *size);

enum { PK_TAR_CUT = -1, PK_TAR_LONG = -2, PK_TAR_RANGE = -3 };

/* Read a coded header from a stranger; the inverse of pk_tar_encode.
 *
 * block: room for PK_TAR_BLOCK bytes. Returns how many bytes it took, or what is wrong: PK_TAR_CUT, it is cut off;
 * PK_TAR_LONG, a field is longer than its place; PK_TAR_RANGE, a number does not fit. */
ptrdiff_t pk_tar_decode(const uint8_t *in, size_t length, const uint8_t *previous, uint8_t *block);

#endif
