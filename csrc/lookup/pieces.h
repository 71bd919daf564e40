/* Pieces of texts, by a hash of each: what two texts have in common, and where.
 *
 * A hash only proposes a place, and is never stored: who makes two pieces of equal hash gets a
 * larger update. Nothing allocates; any number of threads. */
#ifndef PK_LOOKUP_PIECES_H
#define PK_LOOKUP_PIECES_H

#include <stddef.h>
#include <stdint.h>

#include "lookup/map.h"

enum { PK_PIECE_KEY = 8 /* bytes of a hash */ };

/* Hash pieces.
 *
 * data: the text. ends, count: where its pieces end, ascending; the first begins at 0.
 * keys: written, PK_PIECE_KEY bytes a piece; on all machines the same. */
void pk_piece_keys(const uint8_t *data, const uint64_t *ends, size_t count, uint8_t *keys);

/* Write where pieces begin in a text, given where they end in a part of it.
 *
 * ends, count: as for pk_piece_keys. position: of the part in the text.
 * starts: written, `count` of them. */
void pk_piece_starts(const uint64_t *ends, size_t count, uint64_t position, uint64_t *starts);

#define PK_NO_STREAM UINT32_MAX /* instead of a stream's number: its pieces do not count */

/* What pieces of a text have in common with old ones, column by column; room for all pieces. */
typedef struct pk_piece_votes {
    uint64_t *starts;    /* of a piece that is known, in the new text */
    uint32_t *streams;   /* that has it */
    uint64_t *positions; /* where it stands there */
    uint8_t *missing;    /* hashes of the pieces that are not known, in order */
} pk_piece_votes;

/* Two places in an old text that a new text may follow; PK_NO_PIECE and 0 at its start. */
#define PK_NO_PIECE UINT32_MAX
typedef struct pk_piece_course {
    size_t next, run;             /* number of the piece expected next, and how many came so */
    size_t other_next, other_run; /* the same of a place that one piece proposed last */
} pk_piece_course;

/* Old pieces, in the order of their texts, by number. */
typedef struct pk_piece_places {
    const pk_map *known;       /* from hashes to numbers: of equal pieces, one */
    const uint32_t *streams;   /* which stream has each */
    const uint64_t *positions; /* where it stands there */
    const uint32_t *hashes;    /* first four bytes of its hash */
    size_t count;              /* of the pieces */
} pk_piece_places;

/* Look pieces up.
 *
 * A piece that occurs more than once in the old texts is taken where the pieces before lead, if it
 * is there.
 *
 * old: the old pieces.
 * course: of the new text, updated; its parts come in order.
 * keys, starts, count: hashes of the new pieces, and where they begin.
 * Returns how many are known: so many rows of `out` are written, and the hashes of the others. */
size_t pk_piece_look_up(const pk_piece_places *old, pk_piece_course *course, const uint8_t *keys,
                        const uint64_t *starts, size_t count, const pk_piece_votes *out);

#endif
