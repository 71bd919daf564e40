/* Pieces of texts, by a hash of each: what two texts have in common, and where.
 *
 * A hash only proposes a place, and is never stored: who makes two pieces of equal hash gets a
 * larger update. Nothing keeps state or allocates; any number of threads. */
#ifndef PK_LOOKUP_PIECES_H
#define PK_LOOKUP_PIECES_H

#include <stddef.h>
#include <stdint.h>

enum { PK_PIECE_KEY = 8 /* bytes of a hash */ };

/* Hash pieces.
 *
 * data: the text. ends, count: where its pieces end, ascending; the first begins at 0.
 * keys: written, PK_PIECE_KEY bytes a piece; on all machines the same. */
void pk_piece_keys(const uint8_t *data, const uint64_t *ends, size_t count, uint8_t *keys);

#endif
