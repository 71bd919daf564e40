/* Tokens, blocks and headers to the bits of a deflate stream (RFC 1951). Internal.
 *
 * What writes takes `most`, the greatest number of bytes. It returns PK_OK; PK_NO_MEMORY; or
 * PK_INVALID: there are more bytes, which is found at the next call at the latest. */
#ifndef PK_DEFLATE_BITS_OUT_H
#define PK_DEFLATE_BITS_OUT_H

#include "common/status.h"
#include "deflate/inflate.h"

/* Zeros are a writer without memory, to be begun. */
typedef struct pk_writer {
    uint8_t *bytes;
    size_t length, capacity;
    uint64_t bits; /* not yet among the bytes: `count` of them, at most 7 */
    unsigned count;
} pk_writer;

/* Begin to write at a bit of the first byte; those before it are zeros. */
void pk_writer_begin(pk_writer *to, unsigned bit);

/* Write the `count` bits of `value`, at most 32; the bits above are 0. */
pk_status pk_write_bits(pk_writer *to, uint32_t value, unsigned count, size_t most);

/* Write a stored block of at most PK_MAX_STORED bytes; last: 1 if it ends the stream. */
pk_status pk_write_stored(pk_writer *to, unsigned last, const uint8_t *bytes, uint32_t length,
                          size_t most);

/* Write the header of a block with codes of its own, behind the three bits of its type. */
pk_status pk_write_header(pk_writer *to, const pk_header *header, size_t most);

/* Write tokens, without the end of their block. */
pk_status pk_write_tokens(pk_writer *to, const uint8_t lengths[PK_LENGTHS], const pk_token *tokens,
                          size_t count, size_t most);

/* Write the end of a block with tokens. */
pk_status pk_write_end(pk_writer *to, const uint8_t lengths[PK_LENGTHS], size_t most);

/* Put the last bits among the bytes. bits: set to where they end. */
pk_status pk_writer_end(pk_writer *to, size_t most, uint64_t *bits);

/* Write a segment's bits, as pk_tokens_write. */
pk_status pk_write_segment(pk_writer *to, const pk_segment *segment, unsigned bit, size_t most,
                           uint64_t *bits);

void pk_writer_free(pk_writer *writer);

#endif
