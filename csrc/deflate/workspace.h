/* What analysis and rebuilding have in common: memory, the settings of an encoder, where blocks end. Internal. */
#ifndef PK_CODEC_H
#define PK_CODEC_H

#include "deflate/recipe.h"

#include <stdlib.h>

#include "deflate/block_header.h"
#include "deflate/model.h"
#include "deflate/model_tape.h"

enum {
    FLAG_TRUNCATES = 1, /* blocks end early, in the manner of gzip */
    FLAG_GO_TREES = 2,
    FLAG_LAST = 4, /* the last block ends the stream */
    FLAG_FAR = 8,  /* the model follows all of the window, not 32 KiB */
    FLAG_PRIMED =
        16, /* at each flush point a fast encoder is given the window anew, as pigz does */
    FLAGS = 31
};
enum { EMPTY_STORED = 0, EMPTY_ALIGNED = 1, EMPTY_NONE = 2, EMPTY_LISTED = 3 };
enum { GIVES_COUNT = 1, GIVES_TYPE = 2, GIVES_HEADER = 4, GIVES_BYTES = 8 };
enum { MAX_EMPTY = 64 };
enum { PRIMED_GAP = 16384 }; /* least plaintext between flush points there: each enters a window */

typedef struct buffer {
    uint8_t *bytes;
    size_t length, capacity, most;
    int failed;
} buffer;

/* Append bytes; sets `failed` where memory or room is lacking, and does nothing then. */
void pk_put(buffer *to, const void *bytes, size_t length);

static inline void reset(buffer *what, size_t most)
{
    what->length = 0;
    what->most = most;
    what->failed = 0;
}

/* What of an encoder does not change within a segment. */
typedef struct settings {
    uint8_t rule;
    uint8_t flags;
    uint32_t limit; /* tokens of a block */
} settings;

static inline unsigned hash_bits_of(const settings *with)
{
    /* zlib's memLevel sets both: its buffer for tokens and its hash. gzip's are fixed. */
    unsigned bits = 15;
    if (!(with->flags & FLAG_TRUNCATES))
        for (bits = 8; bits < 16 && 1u << (bits - 1) <= with->limit; bits++)
            ;
    return bits;
}

static inline uint32_t step(pk_token token)
{
    return token >> 16 ? token >> 16 : 1;
}

struct pk_codec {
    pk_model model;
    pk_tape tape;
    buffer recipe, blocks, corrections, output;
    pk_token *tokens;
    size_t token_capacity;
    uint64_t bits; /* of the output's last byte, not yet in it */
    unsigned bit_count;
    uint64_t token_total, mispredicted;
};

static inline int add_token(pk_codec *codec, size_t count, pk_token token)
{
    if (count == codec->token_capacity) {
        size_t wanted = count * 2 + (1 << 14);
        pk_token *moved = realloc(codec->tokens, wanted * sizeof *moved);
        if (!moved)
            return PK_NO_MEMORY;
        codec->tokens = moved;
        codec->token_capacity = wanted;
    }
    codec->tokens[count] = token;
    return PK_OK;
}

/* gzip's guess whether to end a block at a multiple of 4096 tokens (trees.c, ct_tally). `in` is how far
 * its match finder had come, counted from the block's start. */
typedef struct truncation {
    uint32_t distances;
    uint64_t bits;
} truncation;

static inline int truncates(truncation *state, const settings *with, uint32_t count,
                            pk_token token, uint32_t in)
{
    if (token >= 256) {
        state->distances++;
        state->bits += 5 + pk_distance_extra[pk_distance_symbol(token & 0xffff)];
    }
    if (with->rule <= 2 || count % 4096)
        return 0;
    return state->distances < count / 2 && (((uint64_t)count * 8 + state->bits) >> 3) < in / 2;
}

/* Tokens of a block, up to where the encoder is predicted to end it: at its limit, at gzip's guess, or
 * where its input ends. */
typedef struct block_end {
    truncation guess;
    uint32_t start;
} block_end;

static inline int ends_block(block_end *state, const settings *with, uint32_t count,
                             pk_token token, uint32_t at, int lazy)
{
    if (pk_rule_table[with->rule].kind == PK_GO_SPEED)
        return at + step(token) - state->start == PK_SPEED_BLOCK;
    if (count == with->limit)
        return 1;
    if (!(with->flags & FLAG_TRUNCATES))
        return 0;
    return truncates(&state->guess, with, count, token, at + (lazy ? 1 : 0) - state->start);
}

static inline uint32_t follow_of(const settings *with)
{
    return with->flags & FLAG_PRIMED ? 0 : with->flags & FLAG_FAR ? PK_FAR_WINDOW : PK_WINDOW;
}

/* What is in the tables of these depends on all of the matches before. */
static inline int is_fast(const settings *with)
{
    unsigned kind = pk_rule_table[with->rule].kind;
    return kind == PK_FAST || kind == PK_GO_FAST || kind == PK_GO_SPEED;
}

static inline int is_lazy(const settings *with)
{
    return pk_rule_table[with->rule].kind == PK_LAZY;
}

static inline int trees_of(const settings *with)
{
    if (pk_rule_table[with->rule].kind == PK_GO_SPEED)
        return PK_TREES_GO_SPEED;
    return with->flags & FLAG_GO_TREES ? PK_TREES_GO : PK_TREES_ZLIB;
}

#endif
