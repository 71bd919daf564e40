/* Members of a tar archive in memory, taken many at a time.
 *
 * Specification: docs/format.md, "Recipes".
 *
 * Archives of small files have a header for every few hundred bytes: one call for each of them
 * would cost more than all other work. */
#ifndef PK_ARCHIVES_TAR_MEMBERS_H
#define PK_ARCHIVES_TAR_MEMBERS_H

#include "archives/tar_header.h"

enum { PK_MEMBERS_MOST = 256 }; /* members that one call takes */

/* The caller's memory. All but `header` is output, valid until the next call. */
typedef struct pk_members {
    /* In: the header before the first member, or zeros. Out: the last member's header. */
    uint8_t header[PK_TAR_BLOCK];
    /* Bytes of the archive that the members take: headers, content, padding. */
    size_t taken;
    /* Elements used of the three arrays: bytes, bytes, and pieces of three numbers. */
    size_t operations_length, coded_length, piece_count;
    /* Bytes of the last member's content if the recipe keeps it and its operation is not written
     * yet: more bytes that are kept may follow. */
    uint64_t kept;
    /* Operations of the recipe; INLINE and ZEROS are followed by a number of at most 3 and 2
     * bytes. */
    uint8_t operations[8 * PK_MEMBERS_MOST];
    /* Coded headers, one behind another. */
    uint8_t coded[PK_MEMBERS_MOST * PK_TAR_CODED];
    /* Of each stretch of content: start and end in `data`, and 1 if the recipe keeps it. */
    uint32_t pieces[3 * PK_MEMBERS_MOST];
} pk_members;

/* Take members from the start of an archive, up to the first that needs a closer look.
 *
 * Such a member is not wholly in `data`, is longer than `most`, has an odd header or padding,
 * begins like an archive, or, with `look`, contains a signature of a deflate stream. Names and
 * attributes that have members of their own are kept in the recipe.
 *
 * members: see above.
 * data, length: the archive from a member's header on; below 4 GiB; borrowed for the call.
 * most: greatest content of a member in bytes; below 2 MiB.
 * look: whether content is searched for signatures (pk_find_signature).
 * Cannot fail: members->taken is 0 if the first member needs a closer look. No allocation; threads
 * may call it with different `members`. */
void pk_members_take(pk_members *members, const uint8_t *data, size_t length, size_t most,
                     int look);

#endif
