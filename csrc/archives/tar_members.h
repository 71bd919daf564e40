/* Members of a tar archive in memory, many at a time: docs/format.md, "Recipes". */
#ifndef PK_MEMBERS_H
#define PK_MEMBERS_H

#include "archives/tar_header.h"

#define PK_MEMBERS_MOST 256

typedef struct pk_members {
    uint8_t header[PK_TAR_BLOCK]; /* in: the one before the first member; out: the last one's */
    size_t taken;                 /* bytes of the archive */
    size_t operations_length, coded_length, piece_count;
    uint64_t kept; /* bytes kept at the end, whose operation is not there yet */
    uint8_t operations
        [8
         * PK_MEMBERS_MOST]; /* of the recipe: HEADER, INLINE, ZEROS, the numbers of 3 and 2 bytes */
    uint8_t coded[PK_MEMBERS_MOST * PK_TAR_CODED]; /* the headers */
    uint32_t pieces
        [3 * PK_MEMBERS_MOST]; /* of the archive: start, end, and 1 if kept, 0 if it is content */
} pk_members;

/* Take members from the start of data[0..length), up to the first that needs a closer look: it is not all there, is
 * longer than `most`, has an odd header or padding, holds an archive, or may (if `look` is set) hold a deflate stream.
 * Names and attributes that have members of their own are kept in the recipe.
 *
 * most: below 2 MiB. length: below 4 GiB. No allocation; any number of threads. */
void pk_members_take(pk_members *members, const uint8_t *data, size_t length, size_t most,
                     int look);

#endif
