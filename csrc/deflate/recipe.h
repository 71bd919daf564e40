/* Recipes of deflate segments: what turns plaintext back into the very bits an encoder wrote.
 *
 * A model of the encoder predicts every token, every end of a block and every header. The recipe
 * holds the model's parameters and its wrong predictions. Specification: docs/deflate.md.
 */
#ifndef PK_DEFLATE_RECIPE_H
#define PK_DEFLATE_RECIPE_H

#include "deflate/inflate.h"

/* Working memory for analysing and rebuilding: 2 MB, and more as segments need it. Used by one
 * thread at a time; results do not depend on what it was used for before. */
typedef struct pk_codec pk_codec;

/* Return a codec, or NULL without memory. Free it with pk_codec_free. */
pk_codec *pk_codec_new(void);

/* Free a codec and all its memory; NULL does nothing. */
void pk_codec_free(pk_codec *codec);

/* Find the recipe of a segment, and verify that it rebuilds the segment's bits.
 *
 * The recipe is a function of the segment alone.
 *
 * segment: as pk_segment_inflate left it; unchanged.
 * guess: the first byte of a recipe of the same stream, or -1. A good guess saves time where no
 *     rule is quite right; the result is the same.
 * recipe, capacity: written; a recipe takes at most 3 % of the segment's compressed bytes, and 16.
 * length: set to the recipe's bytes.
 * tokens: set to how many tokens the segment has, and how many of them were predicted wrong;
 *     without a recipe, to the numbers up to the token where that was certain.
 * Returns PK_OK; PK_INVALID: there is no recipe, as it would be too long or not fit `capacity`, or
 * would not rebuild the bits; PK_NO_MEMORY. The codec can be used again after all of them. */
pk_status pk_analyse(pk_codec *codec, const pk_segment *segment, int guess, uint8_t *recipe,
                     size_t capacity, size_t *length, uint64_t tokens[2]);

/* Rebuild a segment's compressed bits from its plaintext and its recipe, which comes from a
 * stranger.
 *
 * data: `size` bytes, the window and the plaintext, and PK_PAD readable bytes behind them;
 *     borrowed for the call.
 * window: bytes of the window, at most PK_FAR_WINDOW.
 * size: bytes of window and plaintext; at most PK_MAX_SEGMENT_PLAIN of plaintext.
 * position: bytes of the stream's plaintext before the segment; `window` or more.
 * recipe, recipe_length: the recipe.
 * bit: bit of the output's first byte where the segment starts, 0..7; the bits before are zero.
 * most: greatest number of bytes of output.
 * end_bit: set to where the segment ends, counted from the first bit of the output's first byte.
 * Returns PK_OK, and pk_codec_result has the bytes; PK_INVALID: the recipe does not fit the
 * plaintext, or its output exceeds `most`; PK_NO_MEMORY. */
pk_status pk_rebuild(pk_codec *codec, const uint8_t *data, size_t window, size_t size,
                     uint64_t position, const uint8_t *recipe, size_t recipe_length, unsigned bit,
                     size_t most, uint64_t *end_bit);

/* Return the bytes that the last pk_rebuild wrote; the codec owns them, until its next call. */
const uint8_t *pk_codec_result(const pk_codec *codec);

/* Write what is known of the block that the last rebuilt segment begins within, for
 * pk_segment_inflate. Returns 1, or 0 if it begins with a block. */
int pk_codec_carry(const pk_codec *codec, pk_carry *carry);

#endif
