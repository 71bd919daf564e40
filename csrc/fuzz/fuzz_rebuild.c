/* libFuzzer target: a recipe from a stranger gives bytes within its bound, or is refused.
 *
 * Five bytes: the bit the output begins at, how often the plaintext is repeated, how much of it is
 * window, its length in 16 bits; then the plaintext, then the recipe.
 */
#include "../tests/check.h"

#include "deflate/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    if (size < 6)
        return 0;
    unsigned bit = input[0] & 7;
    size_t length = input[3] | (size_t)input[4] << 8, repeat = 1 + (size_t)input[1] % 64 * 8;
    if (length > size - 5)
        length = size - 5;
    size_t whole = length * repeat > 40000 ? 40000 : length * repeat,
           window = whole * input[2] / 255;
    uint8_t *data = calloc(whole + PK_PAD, 1);
    CHECK(data);
    for (size_t i = 0; i < whole; i++)
        data[i] = input[5 + i % length];
    uint8_t *recipe = exact_copy(input + 5 + length, size - 5 - length);
    size_t most = 2 * whole;
    pk_codec *codec = pk_codec_new();
    CHECK(codec);
    uint64_t end_bit;
    pk_status status = pk_rebuild(codec, data, window, whole, window, recipe, size - 5 - length,
                                  bit, most, &end_bit);
    CHECK(status == PK_OK || status == PK_INVALID);
    if (status == PK_OK)
        CHECK(end_bit <= 8 * (uint64_t)most);
    pk_codec_free(codec);
    free(recipe);
    free(data);
    return 0;
}
