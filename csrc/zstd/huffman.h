/* Huffman codes of literals, RFC 8878, 4.2: descriptions, tables of both directions, and the
 * rules by which known encoders make codes from counts. Internal.
 *
 * Nothing here allocates; all functions may run on any thread.
 */
#ifndef PK_ZSTD_HUFFMAN_H
#define PK_ZSTD_HUFFMAN_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "zstd/fse.h"

enum {
    PK_HUFFMAN_BITS = 11,
    PK_HUFFMAN_TEXT = 129, /* a description is no longer */
    PK_RULE_SEARCHED = 2,  /* libzstd's, with the height that takes the fewest bytes */
    PK_HUFFMAN_RULES = 3   /* PK_RULE_LIBZSTD, PK_RULE_KLAUSPOST, PK_RULE_SEARCHED */
};

typedef struct pk_huffman {
    uint8_t bits[256]; /* of each symbol; 0: it has no code */
    uint8_t most;      /* the greatest of them */
} pk_huffman;

/* Read a description and how many bytes it has. Returns PK_OK or PK_INVALID. */
pk_status pk_huffman_read(pk_huffman *to, const uint8_t *in, size_t length, size_t *used);

/* Write the description that a rule makes for `total` literals with these counts, at most
 * PK_HUFFMAN_TEXT bytes; returns its length, or 0 if the rule makes none. */
size_t pk_huffman_describe(unsigned rule, const uint32_t counts[256], uint32_t total,
                           uint8_t *out);

/* Cells of 1 << most: the symbol, and its bits above 8. */
void pk_huffman_decoder(uint16_t *cells, const pk_huffman *from);

/* The code of each symbol, and its bits above 16. */
void pk_huffman_encoder(uint32_t codes[256], const pk_huffman *from);

#endif
