/* A buffer that grows, with a bound and an error that sticks. Internal.
 *
 * Writers need not check each call: after the first failure all further ones do nothing, and
 * `failed` is looked at once in the end. A buffer is used by one thread at a time. */
#ifndef PK_COMMON_BUFFER_H
#define PK_COMMON_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/* Zeros are an empty buffer without memory, in which nothing can be put before pk_buffer_reset. */
typedef struct pk_buffer {
    uint8_t *bytes;   /* owned by the buffer; may be NULL while it is empty */
    size_t length;    /* bytes in it; undefined once it failed */
    size_t capacity;  /* bytes allocated */
    size_t most;      /* greatest length */
    pk_status failed; /* PK_OK, PK_NO_MEMORY, or PK_INVALID: it would be longer than `most` */
} pk_buffer;

/* Empty the buffer, keeping its memory, and bound it to `most` bytes. */
void pk_buffer_reset(pk_buffer *buffer, size_t most);

/* Append `length` bytes, copied; does nothing if the buffer failed before. */
void pk_buffer_put(pk_buffer *to, const void *bytes, size_t length);

/* Free the buffer's memory; it is as zeros then. */
void pk_buffer_free(pk_buffer *buffer);

#endif
