/* Deflate streams (RFC 1951) to tokens: what the encoder decided, block by block.
 *
 * A segment is a run of whole blocks of one stream, with up to 128 KiB of plaintext before it. It is the
 * unit that is opened, predicted and rebuilt on its own.
 */
#ifndef PK_INFLATE_H
#define PK_INFLATE_H

#include <stddef.h>
#include <stdint.h>

enum {
    PK_WINDOW = 32768,
    PK_FAR_WINDOW = 4 * PK_WINDOW, /* of plaintext before a segment, what a model may look at */
    PK_MAX_MATCH = 258,
    PK_PAD = 288,                  /* readable bytes behind the plaintext */
    PK_MAX_BLOCK_PLAIN = 16 << 20, /* greatest plaintext of a block that is opened */
    PK_MAX_BLOCK_TOKENS = 2 << 20,
    PK_MAX_BLOCKS = 4096,       /* of a segment */
    PK_SEGMENT_PLAIN = 2 << 20, /* a segment ends with the block that reaches this */
    PK_MAX_SEGMENT_PLAIN = PK_SEGMENT_PLAIN + PK_MAX_BLOCK_PLAIN
};

enum { PK_STORED = 0, PK_FIXED = 1, PK_DYNAMIC = 2 };
enum {
    PK_LITERALS = 288,
    PK_DISTANCES = 32,
    PK_CODES = 19,
    PK_LENGTHS = PK_LITERALS + PK_DISTANCES
};

/* A token: a literal's byte, or length << 16 | distance with length 3..258, distance 1..32768. */
typedef uint32_t pk_token;

/* The header of a block with its own codes, as it was written. */
typedef struct pk_header {
    uint16_t literals, distances; /* code lengths given: 257..286 and 1..30 */
    uint8_t codes;                /* code length code lengths given: 4..19 */
    uint8_t code_lengths[PK_CODES];
    uint8_t lengths[PK_LENGTHS]; /* literals, then distances */
    uint16_t symbols;
    uint8_t symbol[PK_LENGTHS], extra[PK_LENGTHS]; /* the run-length coded lengths */
} pk_header;

typedef struct pk_block {
    uint8_t type;
    uint32_t first_token,
        tokens;            /* none in stored blocks; the end-of-block symbol is not counted */
    uint32_t start, plain; /* in the segment's data */
    uint8_t bit;           /* where in a byte it starts */
    pk_header header;      /* of dynamic blocks */
} pk_block;

typedef struct pk_segment {
    uint8_t *data;                 /* window, then plaintext, then PK_PAD zeros */
    size_t window, size, capacity; /* bytes of the window; of window and plaintext; allocated */
    uint64_t position;             /* of the plaintext in its stream */
    pk_token *tokens;
    size_t token_count, token_capacity;
    pk_block *blocks;
    size_t block_count, block_capacity;
    uint8_t *input; /* a copy of the bytes that hold the segment */
    size_t input_capacity;
    unsigned start_bit;
    uint64_t end_bit; /* counted from the input's first byte */
    int last;         /* the stream ends here */
} pk_segment;

enum { PK_OK = 0, PK_NEED_MORE = 1, PK_INVALID = -1, PK_NO_MEMORY = -2 };

pk_segment *pk_segment_new(void);
void pk_segment_free(pk_segment *segment);

/* Read whole blocks from bit `bit` (0..7) of in[0], until there are `target` bytes of plaintext or the
 * stream ends. `window` is the plaintext before it, at most PK_FAR_WINDOW bytes; `position` its length
 * in full. PK_NEED_MORE: the blocks do not end within the input; PK_INVALID: no deflate stream, or one
 * that is not opened (blocks beyond the limits, codes that no encoder writes). */
int pk_segment_inflate(pk_segment *segment, const uint8_t *in, size_t length, unsigned bit,
                       const uint8_t *window, size_t window_length, uint64_t position,
                       size_t target);

/* RFC 1951, 3.2.5 and 3.2.7. */
extern const uint16_t pk_length_base[29], pk_distance_base[30];
extern const uint8_t pk_length_extra[29], pk_distance_extra[30], pk_code_order[PK_CODES];

/* The codes of fixed blocks. */
void pk_fixed_lengths(uint8_t lengths[PK_LENGTHS]);

/* The symbol of a length 3..258, less 257; and of a distance 1..32768. */
unsigned pk_length_symbol(unsigned length);
unsigned pk_distance_symbol(unsigned distance);

#endif
