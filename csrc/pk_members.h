/* Members of a tar archive in memory, many at a time: docs/format.md, "Recipes". */
#ifndef PK_MEMBERS_H
#define PK_MEMBERS_H

#include "pk_tar.h"

#define PK_MEMBERS_MOST 256

typedef struct pk_members {
    uint8_t header[PK_TAR_BLOCK]; /* in: the header before the first member; out: the last one's */
    size_t taken;                 /* bytes of the archive */
    size_t operations_length, coded_length, piece_count;
    uint64_t kept;                         /* bytes kept behind the last header, whose operation is not there yet */
    uint8_t operations[8 * PK_MEMBERS_MOST]; /* of the recipe */
    uint8_t coded[PK_MEMBERS_MOST * PK_TAR_CODED]; /* the headers */
    uint32_t pieces[3 * PK_MEMBERS_MOST];  /* of the archive: start, end, and 1 if the recipe keeps it, 0 if it is content */
} pk_members;

/* Take members from the start of data[0..length), up to the first that needs a closer look: it is not all there, is
 * longer than `most`, has an odd header or padding, holds an archive, or may (if `look` is set) hold a deflate stream.
 * Names and attributes that have members of their own are kept in the recipe. No allocation; any number of threads. */
void pk_members_take(pk_members *members, const uint8_t *data, size_t length, size_t most, int look);

#endif
