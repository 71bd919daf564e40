/* Recipes of zstd segments: what their coded bytes have that their plaintext does not tell.
 * docs/format.md, "Zstd streams", is the specification. */
#ifndef PK_ZSTD_RECIPE_H
#define PK_ZSTD_RECIPE_H

#include "zstd/frames.h"
#include "zstd/old.h"

/* The first byte of a recipe: it needs no predecessor; or a span of an old stream. */
enum { PK_ZSTD_EXPLICIT = 0, PK_ZSTD_FROM_OLD = 1 };

/* Memory for analysing and rebuilding, of one thread at a time. */
typedef struct pk_zstd_codec pk_zstd_codec;

pk_zstd_codec *pk_zstd_codec_new(void);
void pk_zstd_codec_free(pk_zstd_codec *codec);

/* Make the recipe of a parsed segment. It is verified: rebuilding gives the segment's coded bytes.
 *
 * old: a span of the old stream, all of it; NULL for an explicit recipe. window, before: plaintext
 * before the segment, at most PK_ZSTD_MOST_BEFORE bytes, whose alignment tells where matches from
 * there have moved; rebuilding does without. wrong: how many sequences were not predicted; may be
 * NULL. Returns PK_OK; PK_INVALID if there is none of
 * at most `most` bytes, which is known as soon as it is longer; PK_NO_MEMORY. */
pk_status pk_zstd_analyse(pk_zstd_codec *codec, pk_zstd_segment *segment, pk_zstd_old *old,
                          const uint8_t *window, size_t before, size_t most, uint64_t *wrong);

/* Read which span a recipe from a stranger needs; one of 0 bytes if it is explicit. Returns PK_OK
 * or PK_INVALID. */
pk_status pk_zstd_span(const uint8_t *recipe, size_t length, uint64_t *start, uint32_t *size);

/* Make blocks and sequences of `segment` from its plaintext, which pk_zstd_fill gave it, and a
 * recipe from a stranger. old: the span that it needs; NULL for an explicit one. What it makes may
 * be added to a span. Returns PK_OK, PK_INVALID or PK_NO_MEMORY. */
pk_status pk_zstd_decode(pk_zstd_codec *codec, pk_zstd_segment *segment, const pk_zstd_old *old,
                         const uint8_t *recipe, size_t length);

/* Write the coded bytes of a decoded segment, at most `most`. Returns as pk_zstd_decode. */
pk_status pk_zstd_encode(pk_zstd_codec *codec, const pk_zstd_segment *segment, size_t most);

/* What the last pk_zstd_analyse or pk_zstd_encode made. */
const uint8_t *pk_zstd_result(const pk_zstd_codec *codec, size_t *length);

/* Give a segment its plaintext, copied: at most PK_ZSTD_MOST_PLAIN bytes. Returns as above. */
pk_status pk_zstd_fill(pk_zstd_segment *segment, const uint8_t *plain, size_t size);

#endif
