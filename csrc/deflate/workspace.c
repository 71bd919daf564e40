#include "deflate/workspace.h"

#include <stdlib.h>

pk_codec *pk_codec_new(void)
{
    return calloc(1, sizeof(pk_codec));
}

void pk_codec_free(pk_codec *codec)
{
    if (!codec)
        return;
    pk_buffer_free(&codec->recipe);
    pk_buffer_free(&codec->points);
    pk_buffer_free(&codec->blocks);
    pk_buffer_free(&codec->corrections);
    pk_writer_free(&codec->output);
    free(codec->tokens);
    pk_tape_free(&codec->tape);
    free(codec);
}

const uint8_t *pk_codec_result(const pk_codec *codec)
{
    return codec->output.bytes;
}

pk_status pk_grow_tokens(pk_codec *codec)
{
    size_t wanted = codec->token_capacity * 2 + (1 << 14);
    pk_token *moved = realloc(codec->tokens, wanted * sizeof *moved);
    if (!moved)
        return PK_NO_MEMORY;
    codec->tokens = moved;
    codec->token_capacity = wanted;
    return PK_OK;
}
