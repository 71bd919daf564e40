/* Recipes "from tokens": a deflate stream of any encoder, rebuilt from its plaintext and the
 * tokens of its predecessor.
 *
 * Where two versions of a text agree, their encoder decided alike. So the tokens of an *old*
 * stream, carried over along an alignment of the two texts, predict those of the new one. No
 * model of the encoder is needed. A recipe holds the alignment, how blocks end, how their
 * headers are made, and what was predicted wrong. docs/deflate.md, "Recipes from tokens", is
 * the specification.
 */
#ifndef PK_TOKENS_H
#define PK_TOKENS_H

#include "common/status.h"
#include "deflate/inflate.h"

enum {
    PK_TOKENS_KIND = 64,     /* first byte of such a recipe; those with a model begin with less */
    PK_OLD_PLAIN = 16 << 20, /* greatest plaintext of a span */
    PK_OLD_TOKENS = 8 << 20, /* greatest number of its tokens: 32 MiB of memory */
    PK_OLD_ENDS = 1 << 16    /* greatest number of its blocks */
};

/* A span of an old stream: its plaintext, its tokens and where its blocks end. */
typedef struct pk_old pk_old;

pk_old *pk_old_new(void);
void pk_old_free(pk_old *old);

/* Begin a span of at most `size` bytes from `start` on, positions in the plaintext of the old
 * stream. Returns PK_OK, or PK_INVALID for a size above PK_OLD_PLAIN. */
pk_status pk_old_begin(pk_old *old, uint64_t start, uint32_t size);

/* Add what a segment of the old stream has of the span; segments come in the order of the
 * stream, without gaps from the span's start on. A token that lies across a border of the span
 * counts as literals, as stored blocks do. Returns PK_OK, PK_INVALID if the segment leaves a
 * gap or the span has too many tokens or blocks, or PK_NO_MEMORY. */
pk_status pk_old_add(pk_old *old, const pk_segment *segment);

/* Bytes of the span that are there. */
uint32_t pk_old_size(const pk_old *old);

/* Memory for analysing and rebuilding, of one thread at a time. */
typedef struct pk_tokens pk_tokens;

pk_tokens *pk_tokens_new(void);
void pk_tokens_free(pk_tokens *tokens);

/* What an analysis found. */
typedef struct pk_tokens_report {
    uint64_t tokens, wrong; /* of the segment; predicted wrong */
    uint64_t aligned;       /* bytes that are equal to what they are aligned with */
    uint32_t shifts;        /* entries of the alignment */
    uint32_t headers;       /* given in full */
} pk_tokens_report;

/* Write the recipe of a segment and its length. Returns PK_OK; PK_INVALID if there is none that
 * is at most a third of the segment and `capacity`, takes at most `most_work`, and gives back the
 * segment's bits; PK_NO_MEMORY.
 *
 * most_work: for all places that are aligned with nothing or near to changes; about 2 ns each, in
 * analysis and in rebuilding. UINT64_MAX: whatever it takes.
 *
 * The recipe is a function of segment and span, as far as the bounds do not end the analysis
 * early. Of the span it leaves what the recipe needs: the caller begins it anew for another
 * segment. */
pk_status pk_tokens_analyse(pk_tokens *tokens, const pk_segment *segment, pk_old *old,
                            uint64_t most_work, uint8_t *recipe, size_t capacity, size_t *length,
                            pk_tokens_report *report);

/* Read which span a recipe from a stranger needs. Returns PK_OK or PK_INVALID. */
pk_status pk_tokens_span(const uint8_t *recipe, size_t length, uint64_t *start, uint32_t *size);

/* Make tokens and blocks of `segment` from its data, which the caller has filled, with PK_PAD
 * bytes behind it: window, then plaintext; and from the old span and a recipe from a stranger.
 * Returns PK_OK, PK_INVALID, PK_NO_MEMORY. What it makes may be added to a span, so that the
 * next version's segment is rebuilt without its bits. */
pk_status pk_tokens_decode(pk_tokens *tokens, pk_segment *segment, const pk_old *old,
                           const uint8_t *recipe, size_t length);

/* Write the bits of a segment with tokens and blocks. The first `bit` bits of the output are
 * zero. Returns the number of bits before the segment's end, counted from the first byte of the
 * output; PK_INVALID if these are more than `most` bytes, PK_NO_MEMORY. */
pk_status pk_tokens_write(pk_tokens *tokens, const pk_segment *segment, unsigned bit, size_t most,
                          uint64_t *bits);

/* What the last pk_tokens_write wrote. */
const uint8_t *pk_tokens_result(const pk_tokens *tokens);

/* Fill a segment's data: `window` bytes of plaintext before, at most PK_FAR_WINDOW, then `size`
 * of its own. */
pk_status pk_segment_fill(pk_segment *segment, const uint8_t *window, size_t window_size,
                          const uint8_t *plain, size_t size);

#endif
