#include "common/buffer.h"

#include <stdlib.h>
#include <string.h>

void pk_buffer_reset(pk_buffer *buffer, size_t most)
{
    buffer->length = 0;
    buffer->most = most;
    buffer->failed = PK_OK;
}

void pk_buffer_put(pk_buffer *to, const void *bytes, size_t length)
{
    if (to->failed)
        return;
    if (length > to->capacity - to->length) {
        size_t wanted = (to->length + length) * 2 + 256;
        uint8_t *moved = realloc(to->bytes, wanted);
        if (!moved) {
            to->failed = PK_NO_MEMORY;
            return;
        }
        to->bytes = moved;
        to->capacity = wanted;
    }
    if (length)
        memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
    if (to->length > to->most)
        to->failed = PK_INVALID;
}

void pk_buffer_free(pk_buffer *buffer)
{
    free(buffer->bytes);
    memset(buffer, 0, sizeof *buffer);
}
