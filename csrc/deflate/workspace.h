/* The working memory of pk_analyse and pk_rebuild. Internal. */
#ifndef PK_DEFLATE_WORKSPACE_H
#define PK_DEFLATE_WORKSPACE_H

#include "common/buffer.h"
#include "deflate/block_writer.h"
#include "deflate/model.h"
#include "deflate/model_tape.h"
#include "deflate/recipe.h"

struct pk_codec {
    pk_model model;
    pk_tape tape;
    /* Parts of the recipe that is written: the whole, flush points, records of blocks,
     * corrections. */
    pk_buffer recipe, points, blocks, corrections;
    /* Tokens of the block that is rebuilt, or of a stored one that is predicted. */
    pk_token *tokens;
    size_t token_capacity;
    /* The bits that are rebuilt. */
    pk_writer output;
    /* The block that the rebuilt segment begins within, if `begins_within`. */
    pk_carry begun;
    int begins_within;
    /* Tokens seen by the analysis, and how many of them were predicted wrong. */
    uint64_t token_total, mispredicted;
};

/* Make room for more tokens. Returns PK_OK, or PK_NO_MEMORY: the tokens stay as they are. */
pk_status pk_grow_tokens(pk_codec *codec);

/* Store a token behind the first `count` of the codec's tokens. Returns PK_OK or PK_NO_MEMORY. */
static inline pk_status pk_add_token(pk_codec *codec, size_t count, pk_token token)
{
    if (count == codec->token_capacity) {
        pk_status status = pk_grow_tokens(codec);
        if (status != PK_OK)
            return status;
    }
    codec->tokens[count] = token;
    return PK_OK;
}

#endif
