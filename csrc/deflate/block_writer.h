/* Blocks to the bits of a deflate stream (RFC 1951, 3.2). Internal.
 *
 * Errors stick: after the first one, all further calls do nothing, and pk_writer_end tells it. A
 * writer is used by one thread at a time. */
#ifndef PK_DEFLATE_BLOCK_WRITER_H
#define PK_DEFLATE_BLOCK_WRITER_H

#include "deflate/inflate.h"

/* Zeros are a writer without memory; start it before anything is written. */
typedef struct pk_writer {
    uint8_t *bytes; /* owned by the writer */
    size_t length, capacity;
    size_t most;      /* greatest length */
    uint64_t bits;    /* not yet among the bytes */
    unsigned count;   /* of them; below 8 between calls */
    pk_status failed; /* PK_OK, PK_NO_MEMORY, or PK_INVALID: longer than `most` */
} pk_writer;

/* Begin anew, keeping the memory. The first `bit` bits, 0..7, of the output are zero. It has
 * `most` bytes or less. */
void pk_writer_start(pk_writer *to, unsigned bit, size_t most);

/* Write the `count` bits of `value`, at most 32; the bits above are 0. */
void pk_write_bits(pk_writer *to, uint32_t value, unsigned count);

/* Write a stored block of at most PK_MAX_STORED bytes; last: 1 if it ends the stream. */
void pk_write_stored(pk_writer *to, unsigned last, const uint8_t *bytes, uint32_t length);

/* Write what is behind the type of a block with codes of its own, up to its first token. */
void pk_write_header(pk_writer *to, const pk_header *header);

/* Write tokens with codes of these lengths; ends: and the end of the block. */
void pk_write_tokens(pk_writer *to, const uint8_t lengths[PK_LENGTHS], const pk_token *tokens,
                     size_t count, int ends);

/* Move the last bits to the output. Returns PK_OK or the first error.
 *
 * bits: set to the number of bits before the end, counted from the output's first byte on. */
pk_status pk_writer_end(pk_writer *to, uint64_t *bits);

/* Free the writer's memory, but not the writer. */
void pk_writer_free(pk_writer *writer);

#endif
