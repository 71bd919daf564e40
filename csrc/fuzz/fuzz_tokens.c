/* libFuzzer target: recipes from tokens.
 *
 * The first byte holds the bit that the new stream begins at, and above it what the rest is.
 * Its next two bytes are a length; so many bytes are an old deflate stream. If the first byte
 * is below 128, the others are a new deflate stream: its recipe comes back bit for bit, or
 * there is none. Otherwise they are the length of a plaintext in two bytes, a plaintext, and a
 * recipe from a stranger, which makes tokens of that plaintext within its bounds, or is
 * refused.
 */
#include "../tests/check.h"

#include "deflate/tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static pk_segment *inflated(const uint8_t *stream, size_t length, unsigned bit)
{
    pk_segment *segment = pk_segment_new();
    CHECK(segment);
    int status = pk_segment_inflate(segment, stream, length, bit, stream, 0, 0, 1 << 16, NULL, 0);
    CHECK(status != PK_NO_MEMORY);
    if (status == PK_OK)
        return segment;
    pk_segment_free(segment);
    return NULL;
}

static void fill(pk_old *old, const pk_segment *segment, uint64_t start, uint32_t size)
{
    CHECK(pk_old_begin(old, start, size) == PK_OK);
    CHECK(pk_old_add(old, segment) == PK_OK);
    CHECK(pk_old_size(old) <= size);
}

static void check_analysis(const pk_segment *before, const uint8_t *stream, size_t length,
                           unsigned bit)
{
    pk_segment *now = inflated(stream, length, bit);
    if (!now)
        return;
    pk_old *old = pk_old_new();
    pk_tokens *tokens = pk_tokens_new(), *other = pk_tokens_new();
    CHECK(old && tokens && other);
    uint32_t whole = (uint32_t)before->size, start = whole / 7;
    size_t most = (size_t)now->end_bit / 24 + 64;
    uint8_t *recipe = malloc(most);
    CHECK(recipe);
    for (int cut = 0; cut < 2; cut++) { /* with all of the old stream, and with the middle of it */
        pk_tokens_report report;
        fill(old, before, cut ? start : 0, cut ? whole - 2 * start : whole);
        size_t coded;
        int status =
            pk_tokens_analyse(tokens, now, old, UINT64_MAX, recipe, most, &coded, &report);
        CHECK(status == PK_OK || status == PK_INVALID);
        if (status)
            continue;
        CHECK(coded <= most);
        uint64_t from;
        uint32_t bytes;
        CHECK(pk_tokens_span(recipe, coded, &from, &bytes) == PK_OK);
        fill(old, before, from, bytes);
        CHECK(pk_old_size(old) == bytes);
        uint8_t *exact = exact_copy(recipe, coded);
        pk_segment *made = pk_segment_new();
        CHECK(made && pk_segment_fill(made, now->data, 0, now->data, now->size) == PK_OK);
        CHECK(pk_tokens_decode(other, made, old, exact, coded) == PK_OK);
        uint64_t bits;
        CHECK(pk_tokens_write(other, made, bit, (size_t)(now->end_bit / 8) + 1, &bits) == PK_OK);
        CHECK(bits == now->end_bit);
        const uint8_t *out = pk_tokens_result(other);
        for (uint64_t i = bit; i < now->end_bit; i++)
            CHECK(!((out[i >> 3] ^ stream[i >> 3]) >> (i & 7) & 1));
        fill(old, made, 0, (uint32_t)made->size); /* the next link of a chain */
        pk_segment_free(made);
        free(exact);
    }
    free(recipe);
    pk_tokens_free(other);
    pk_tokens_free(tokens);
    pk_old_free(old);
    pk_segment_free(now);
}

static void check_recipe(const pk_segment *before, const uint8_t *input, size_t size, unsigned bit)
{
    if (size < 2)
        return;
    size_t length = input[0] | (size_t)input[1] << 8;
    if (length > size - 2)
        length = size - 2;
    uint8_t *recipe = exact_copy(input + 2 + length, size - 2 - length);
    uint64_t start;
    uint32_t bytes;
    pk_old *old = pk_old_new();
    pk_tokens *tokens = pk_tokens_new();
    pk_segment *made = pk_segment_new();
    CHECK(old && tokens && made);
    if (pk_tokens_span(recipe, size - 2 - length, &start, &bytes) == PK_OK
        && pk_old_begin(old, start, bytes) == PK_OK && pk_old_add(old, before) != PK_NO_MEMORY) {
        size_t window = length / 3, most = 8 * length + 4096;
        CHECK(pk_segment_fill(made, input + 2, window, input + 2 + window, length - window)
              == PK_OK);
        int status = pk_tokens_decode(tokens, made, old, recipe, size - 2 - length);
        CHECK(status == PK_OK || status == PK_INVALID);
        if (status == PK_OK) {
            uint64_t bits = 0;
            status = pk_tokens_write(tokens, made, bit, most, &bits);
            CHECK(status != PK_NO_MEMORY && bits <= 8 * (uint64_t)most);
            CHECK(pk_old_begin(old, 0, (uint32_t)length) == PK_OK);
            made->position = 0;
            CHECK(pk_old_add(old, made) == PK_OK && pk_old_size(old) == made->size - window);
        }
    }
    pk_segment_free(made);
    pk_tokens_free(tokens);
    pk_old_free(old);
    free(recipe);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    if (size < 4)
        return 0;
    size_t length = input[1] | (size_t)input[2] << 8;
    if (length > size - 3)
        length = size - 3;
    uint8_t *stream = exact_copy(input + 3, length);
    uint8_t *rest = exact_copy(input + 3 + length, size - 3 - length);
    pk_segment *before = inflated(stream, length, 0);
    if (before && input[0] < 128)
        check_analysis(before, rest, size - 3 - length, input[0] & 7);
    else if (before)
        check_recipe(before, rest, size - 3 - length, input[0] & 7);
    pk_segment_free(before);
    free(rest);
    free(stream);
    return 0;
}
