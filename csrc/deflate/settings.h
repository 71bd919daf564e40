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
        16, /* at each flush point a fast encoder starts anew with the whole window in its
                            * tables, as pigz does */
    PK_FLAG_FILLED = 32, /* klauspost's headers, see block_header.h */
    PK_FLAG_QUEUES = 64,
    PK_FLAG_GOES_ON = 128, /* the first block began in the segment before */
    PK_FLAG_OPEN = 256,    /* the last one goes on in the next segment */
    PK_FLAGS = 511         /* all of them */
};

typedef struct pk_settings {
    uint8_t rule;   /* index in pk_rule_table */
    uint16_t flags; /* PK_FLAG_... */
    uint32_t limit; /* a block ends at this many tokens; 1..PK_MAX_BLOCK_TOKENS */
} pk_settings;

/* Return how the encoder's match finder decides: PK_NONE, PK_FAST ... */
static inline unsigned pk_kind_of(const pk_settings *with)
{
    return pk_rule_table[with->rule].kind;
}

/* Tell whether the rule is klauspost's. */
static inline int pk_is_klauspost(const pk_settings *with)
{
    return pk_kind_of(with) == PK_KLAUSPOST || pk_kind_of(with) == PK_KLAUSPOST_LAZY;
}

/* Tell whether the encoder writes one block, however long the stream is. */
static inline int pk_is_endless(const pk_settings *with)
{
    return pk_kind_of(with) == PK_QUICK || pk_kind_of(with) == PK_IGZIP_USUAL;
}

/* Tell whether the encoder may start anew at flush points, with a window or dictionary. */
static inline int pk_may_be_primed(const pk_settings *with)
{
    return pk_kind_of(with) == PK_FAST || pk_is_klauspost(with);
}

/* Return the bits of the encoder's hash, 8..16; of klauspost's, PK_DETAIL_... instead. zlib's
 * memLevel sets both its token buffer and its hash, so the limit tells; gzip's are fixed. */
static inline unsigned pk_hash_bits_of(const pk_settings *with)
{
    unsigned bits = 15;
    if (pk_is_klauspost(with))
        return with->flags & PK_FLAG_QUEUES   ? PK_DETAIL_QUEUES
               : with->flags & PK_FLAG_FILLED ? PK_DETAIL_FILLED
                                              : PK_DETAIL_NONE;
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
    return kind == PK_FAST || kind == PK_GO_FAST || kind == PK_GO_SPEED || kind == PK_KLAUSPOST
           || kind >= PK_MINIZ;
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
    if (pk_is_klauspost(with))
        return PK_TREES_KLAUSPOST | (with->flags & PK_FLAG_FILLED ? PK_TREES_FILLED : 0)
               | (with->flags & PK_FLAG_QUEUES ? PK_TREES_QUEUES : 0)
               | (pk_kind_of(with) == PK_KLAUSPOST_LAZY ? PK_TREES_LAZY : 0);
    if (pk_kind_of(with) == PK_GO_SPEED)
        return PK_TREES_GO_SPEED;
    if (pk_kind_of(with) == PK_MINIZ)
        return PK_TREES_MINIZ;
    if (pk_kind_of(with) == PK_QUICK)
        return PK_TREES_FIXED;
    if (pk_kind_of(with) == PK_IGZIP_USUAL)
        return PK_TREES_IGZIP_USUAL;
    if (pk_kind_of(with) == PK_IGZIP)
        return PK_TREES_IGZIP;
    return with->flags & PK_FLAG_GO_TREES ? PK_TREES_GO : PK_TREES_ZLIB;
}

/* The tokens and bytes of a block from which its header is made: of klauspost's only the first
 * unit, as further units may go on with its codes; of other encoders' all. Start with zeros. */
typedef struct pk_header_basis {
    uint32_t tokens, plain; /* 0 until the first unit ends */
} pk_header_basis;

/* Note the end of the first unit. count, plain: tokens and bytes of the block so far. */
static inline void pk_extend_basis(pk_header_basis *basis, const pk_settings *with, uint32_t count,
                                   uint32_t plain)
{
    if (basis->tokens || !pk_is_klauspost(with))
        return;
    if (pk_kind_of(with) == PK_KLAUSPOST ? plain >= PK_UNIT : count == with->limit)
        *basis = (pk_header_basis){count, plain};
}

/* What the header of a block is predicted from. */
typedef struct pk_header_facts {
    uint32_t tokens, plain; /* whose symbols are counted, and their bytes */
    int trees;              /* as pk_make_header takes it */
} pk_header_facts;

/* Return them.
 *
 * count: tokens of the block. plain: bytes of it. flush: how many bytes behind its start the next
 *     flush point, or the end of the stream, is; 0 if there is none in the segment. */
static inline pk_header_facts pk_header_facts_of(const pk_settings *with, pk_header_basis basis,
                                                 uint32_t count, uint32_t plain, uint32_t flush)
{
    pk_header_facts facts = {basis.tokens, basis.plain, pk_trees_of(with)};
    if (!basis.tokens) {
        facts.tokens = count;
        facts.plain = plain;
    }
    if (pk_is_klauspost(with) && facts.plain == flush)
        facts.trees |= PK_TREES_FLUSHED;
    return facts;
}

#endif
