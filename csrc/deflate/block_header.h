/* Headers of deflate blocks as encoders make them: prefix codes from frequencies, run lengths, and the
 * choice between stored, fixed and dynamic. */
#ifndef PK_CODES_H
#define PK_CODES_H

#include "deflate/inflate.h"

enum { PK_TREES_ZLIB = 0, PK_TREES_GO = 1, PK_TREES_GO_SPEED = 2 };

typedef struct pk_counts {
    uint32_t symbol[PK_LENGTHS]; /* literals and lengths, then distances; without end of block */
    uint32_t extra_bits;
} pk_counts;

void pk_count(pk_counts *counts, const pk_token *tokens, size_t count);

/* Make the header that encoders of this kind write, and return the type they choose for the block. */
int pk_make_header(pk_header *header, int trees, const pk_counts *counts, uint32_t plain);

/* Assign canonical codes, bits reversed as deflate writes them. */
void pk_assign_codes(uint16_t *codes, const uint8_t *lengths, unsigned symbols);

#endif
