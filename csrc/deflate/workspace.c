#include "deflate/workspace.h"

#include <string.h>

void pk_put(buffer *to, const void *bytes, size_t length)
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

pk_codec *pk_codec_new(void)
{
    return calloc(1, sizeof(pk_codec));
}

void pk_codec_free(pk_codec *codec)
{
    if (!codec)
        return;
    free(codec->recipe.bytes);
    free(codec->blocks.bytes);
    free(codec->corrections.bytes);
    free(codec->output.bytes);
    free(codec->tokens);
    pk_tape_free(&codec->tape);
    free(codec);
}

const uint8_t *pk_codec_result(const pk_codec *codec)
{
    return codec->output.bytes;
}
