/* The settings of an encoder that stay the same within a segment, and what follows from them.
 * Internal.
 *
 * Nothing here keeps state; any number of threads. */
#ifndef PK_DEFLATE_SETTINGS_H
#define PK_DEFLATE_SETTINGS_H

#include "deflate/block_header.h"
#include "deflate/model.h"

/* The flags of a recipe; docs/deflate.md. */
enum {
    PK_FLAG_TRUNCATES = 1, /* blocks end early, in the manner of gzip */
    PK_FLAG_GO_TREES = 2,  /* headers are made as Go makes them */
    PK_FLAG_LAST = 4,      /* the last block ends the stream */
    PK_FLAG_FAR = 8,       /* the model follows all of the window, not 32 KiB */
    PK_FLAG_PRIMED =
        16,       /* at each flush point a fast encoder starts anew with the whole window in its
                            * tables, as pigz does */
    PK_FLAGS = 31 /* all of them */
};

typedef struct pk_settings {
    uint8_t rule;   /* index in pk_rule_table */
    uint8_t flags;  /* PK_FLAG_... */
    uint32_t limit; /* a block ends at this many tokens; 1..PK_MAX_BLOCK_TOKENS */
} pk_settings;

/* Return how the encoder's match finder decides: PK_NONE, PK_FAST ... */
static inline unsigned pk_kind_of(const pk_settings *with)
{
    return pk_rule_table[with->rule].kind;
}

/* Return the bits of the encoder's hash, 8..16. zlib's memLevel sets both its token buffer and its
 * hash, so the limit tells; gzip's are fixed. */
static inline unsigned pk_hash_bits_of(const pk_settings *with)
{
    unsigned bits = 15;
    if (!(with->flags & PK_FLAG_TRUNCATES))
        for (bits = 8; bits < 16 && 1u << (bits - 1) <= with->limit; bits++)
            ;
    return bits;
}

/* Return how many bytes before a segment the model follows, for pk_model_start. */
static inline uint32_t pk_follow_of(const pk_settings *with)
{
    if (with->flags & PK_FLAG_PRIMED)
        return 0;
    return with->flags & PK_FLAG_FAR ? PK_FAR_WINDOW : PK_WINDOW;
}

/* Tell whether the encoder's tables depend on all of its matches before. */
static inline int pk_is_fast(const pk_settings *with)
{
    unsigned kind = pk_kind_of(with);
    return kind == PK_FAST || kind == PK_GO_FAST || kind == PK_GO_SPEED;
}

/* Tell whether the encoder has looked one byte further, as zlib does, when it decides on a token.
 */
static inline int pk_is_lazy(const pk_settings *with)
{
    return pk_kind_of(with) == PK_LAZY;
}

/* Return how the encoder makes headers, for pk_make_header. */
static inline int pk_trees_of(const pk_settings *with)
{
    if (pk_kind_of(with) == PK_GO_SPEED)
        return PK_TREES_GO_SPEED;
    return with->flags & PK_FLAG_GO_TREES ? PK_TREES_GO : PK_TREES_ZLIB;
}

#endif
