/* Deflate streams (RFC 1951) to tokens: what the encoder decided, block by block.
 *
 * A segment is a run of blocks of one stream, with up to 128 KiB of the plaintext before it. It is
 * the unit that is opened, predicted and rebuilt on its own. Only long blocks are cut.
 *
 * A segment is used by one thread at a time; different segments are independent. All other
 * functions keep no state and may run in any number of threads.
 */
#ifndef PK_DEFLATE_INFLATE_H
#define PK_DEFLATE_INFLATE_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/* Bytes, unless said otherwise. */
enum {
    PK_WINDOW = 32768,             /* greatest distance of a match */
    PK_FAR_WINDOW = 4 * PK_WINDOW, /* plaintext before a segment that a model may look at */
    PK_MAX_MATCH = 258,            /* greatest length of a match */
    PK_PAD = 288,                  /* readable bytes behind the plaintext: searches may read on */
    PK_MAX_BLOCK_PLAIN = 16 << 20, /* greatest plaintext of a block that is opened */
    PK_MAX_BLOCK_TOKENS = 2 << 20, /* tokens; greatest number in a block that is opened */
    PK_MAX_BLOCKS = 4096,          /* blocks; greatest number in a segment */
    PK_SEGMENT_PLAIN = 2 << 20,    /* a segment ends with the block that reaches this, */
    PK_CUT_TOKENS = 1 << 17,       /* or within one of so many tokens */
    PK_MAX_SEGMENT_PLAIN = PK_SEGMENT_PLAIN + PK_MAX_BLOCK_PLAIN
};

/* Types of blocks, RFC 1951, 3.2.3. */
enum { PK_STORED = 0, PK_FIXED = 1, PK_DYNAMIC = 2 };

/* Symbols of the alphabets: literals and lengths, distances, code lengths; and the first two
 * together. */
enum {
    PK_LITERALS = 288,
    PK_DISTANCES = 32,
    PK_CODES = 19,
    PK_LENGTHS = PK_LITERALS + PK_DISTANCES
};

/* A token: a literal's byte, or length << 16 | distance with length 3..258, distance 1..32768. */
typedef uint32_t pk_token;

/* Return the bytes of plaintext that a token stands for. */
static inline uint32_t pk_token_bytes(pk_token token)
{
    return token >> 16 ? token >> 16 : 1;
}

/* The header of a block with its own codes, as it was written. */
typedef struct pk_header {
    uint16_t literals;              /* code lengths given for literals and lengths: 257..286 */
    uint16_t distances;             /* code lengths given for distances: 1..30 */
    uint8_t codes;                  /* code length code lengths given: 4..19 */
    uint8_t code_lengths[PK_CODES]; /* by symbol, not in the order in which they are written */
    uint8_t lengths[PK_LENGTHS];    /* code lengths of literals, then of distances */
    uint16_t symbols;               /* run-length coded lengths: elements of the next two arrays */
    uint8_t symbol[PK_LENGTHS];     /* 0..18 */
    uint8_t extra[PK_LENGTHS];      /* value of the extra bits of symbols 16 to 18, else 0 */
} pk_header;

typedef struct pk_block {
    uint8_t type;
    uint32_t first_token; /* index in the segment's tokens */
    uint32_t tokens;      /* none in stored blocks; the end-of-block symbol is not counted */
    uint32_t start;       /* offset of its plaintext in the segment's data */
    uint32_t plain;       /* bytes of its plaintext; 0 in empty blocks */
    uint8_t bit;          /* bit of a byte where it starts, 0..7 */
    pk_header header;     /* of dynamic blocks; else undefined */
} pk_block;

/* A segment owns its memory, which grows as needed and is used again by the next
 * pk_segment_inflate. */
typedef struct pk_segment {
    uint8_t *data;     /* window, then plaintext, then PK_PAD zeros */
    size_t window;     /* bytes of the window */
    size_t size;       /* bytes of window and plaintext */
    size_t capacity;   /* bytes allocated */
    uint64_t position; /* of the plaintext in its stream, in bytes */
    pk_token *tokens;
    size_t token_count;
    size_t token_capacity;
    pk_block *blocks;
    size_t block_count;
    size_t block_capacity;
    uint8_t *input; /* a copy of the compressed bytes that hold the segment */
    size_t input_capacity;
    unsigned start_bit; /* bit of input[0] where the segment starts, 0..7 */
    uint64_t end_bit;   /* where it ends, counted from the first bit of input[0] */
    int last;           /* 1 if the last block is the last one of the stream */
    int goes_on;        /* 1 if the first block began before: its header is known, not written */
    int open;           /* 1 if the last block goes on behind the segment */
} pk_segment;

/* What is known of a block that a segment ends within. */
typedef struct pk_carry {
    uint8_t type; /* PK_FIXED or PK_DYNAMIC */
    uint8_t last; /* 1 if it is the last one of the stream */
    pk_header header;
} pk_carry;

/* Return an empty segment, or NULL without memory. Free it with pk_segment_free. */
pk_segment *pk_segment_new(void);

/* Free a segment and all its memory; NULL does nothing. */
void pk_segment_free(pk_segment *segment);

/* Inflate blocks until there are `target` bytes of plaintext or the stream ends.
 *
 * Encoders that write one block for a whole stream would make segments without a bound. So a
 * segment ends within a block too: behind the first token by which it has PK_SEGMENT_PLAIN bytes
 * and PK_CUT_TOKENS tokens of it, or PK_MAX_BLOCK_PLAIN - PK_MAX_MATCH bytes, unless
 * the block ends there.
 *
 * segment: overwritten; undefined after anything but PK_OK, and then only to be used again or
 *     freed.
 * in, length: the compressed bytes, borrowed for the call.
 * bit: bit of in[0] where the first block starts, 0..7.
 * window, window_length: the plaintext before it, copied; at most PK_FAR_WINDOW bytes.
 * position: bytes of plaintext before it, in all: window_length or more.
 * target: bytes; at most PK_SEGMENT_PLAIN keeps the bounds above.
 * carry: the block that the segment before ended within; NULL if it ended with one.
 * partial: 1 to end it earlier where the stream is cut off or damaged: with the last whole
 *     block, or, if there is none and the input ends, behind the last whole token of a block
 *     with codes.
 * Returns PK_OK; PK_NEED_MORE: the blocks do not end within the input; PK_INVALID: this is no
 * deflate stream, or one that is not opened: too many blocks, codes that no encoder writes;
 * PK_NO_MEMORY. */
pk_status pk_segment_inflate(pk_segment *segment, const uint8_t *in, size_t length, unsigned bit,
                             const uint8_t *window, size_t window_length, uint64_t position,
                             size_t target, const pk_carry *carry, int partial);

/* Write what a later segment must know of the block that this one ends within. Returns 1, or 0 if
 * it ends with a block. */
int pk_segment_carry(const pk_segment *segment, pk_carry *carry);

/* Base and extra bits of the length symbols, less 257, and of the distance symbols; the order in
 * which code length code lengths are written. RFC 1951, 3.2.5 and 3.2.7. */
extern const uint16_t pk_length_base[29], pk_distance_base[30];
extern const uint8_t pk_length_extra[29], pk_distance_extra[30], pk_code_order[PK_CODES];

/* Write the code lengths of fixed blocks, RFC 1951, 3.2.6: literals, then distances. */
void pk_fixed_lengths(uint8_t lengths[PK_LENGTHS]);

/* The symbols of match lengths 3..258, less 257. */
extern const uint8_t pk_length_symbols[256];

/* Return the symbol of a match length 3..258, less 257: 0..28. */
static inline unsigned pk_length_symbol(unsigned length)
{
    return pk_length_symbols[(length - 3) & 255];
}

/* Return the symbol of a distance 1..32768: 0..29. */
static inline unsigned pk_distance_symbol(unsigned distance)
{
    unsigned value = distance - 1;
    if (value < 4)
        return value;
    unsigned bits = 31 - (unsigned)__builtin_clz(value);
    return bits * 2 + (value >> (bits - 1) & 1);
}

#endif
