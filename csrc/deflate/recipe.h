/* Recipes of deflate segments: what turns plaintext back into the very bits an encoder wrote.
 *
 * A model of the encoder predicts every token, every end of a block and every header; the recipe holds
 * the model's parameters and what it got wrong. docs/deflate.md is the specification.
 */
#ifndef PK_DEFLATE_H
#define PK_DEFLATE_H

#include "deflate/inflate.h"

typedef struct pk_codec pk_codec;

pk_codec *pk_codec_new(void);
void pk_codec_free(pk_codec *codec);

/* Write a segment's recipe and return its length, or -1 if it does not pay, does not fit or does not give
 * back the input's bits; PK_NO_MEMORY. It is at most 3 % of the segment and 16 bytes.
 *
 * It is a function of the segment alone: `guess`, the first byte of a recipe of the same stream, or -1, saves
 * time where no rule is quite right. `tokens` gets how many the segment has, and how many of them were
 * predicted wrong; if it has no recipe, up to where that was certain. */
int64_t pk_analyse(pk_codec *codec, const pk_segment *segment, int guess, uint8_t *recipe,
                   size_t capacity, uint64_t tokens[2]);

/* Returns the number of bits before the segment's end, counted from the first byte of the output, whose
 * first `bit` bits are zero; PK_INVALID for a recipe that does not fit, PK_NO_MEMORY.
 *
 * data[0..size) is the window, of `window` bytes, and the plaintext; `position` that of the plaintext
 * in its stream. */
int64_t pk_rebuild(pk_codec *codec, const uint8_t *data, size_t window, size_t size,
                   uint64_t position, const uint8_t *recipe, size_t recipe_length, unsigned bit,
                   size_t most);

/* What the last pk_rebuild wrote. */
const uint8_t *pk_codec_result(const pk_codec *codec);

#endif
