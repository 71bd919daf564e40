/* libFuzzer target: zstd streams and their recipes.
 *
 * If bit 6 of the first byte is set, two bytes are a length, and so many bytes an old stream, of
 * which the first segment is taken. If bit 7 is not, the rest is a stream: each segment's recipe
 * gives back its bytes, or there is none; and without an old stream a parser that is given the
 * stream byte by byte makes the same segments. Otherwise two bytes are the length of a plaintext,
 * and a plaintext and a recipe from a stranger follow, which makes bytes within its bounds, or is
 * refused.
 */
#include "../tests/check.h"

#include "zstd/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

/* A span of the segment: all of it, or the middle. */
static pk_zstd_old *span_of(const pk_zstd_segment *segment, int middle)
{
    pk_zstd_old *old = pk_zstd_old_new();
    uint32_t size = (uint32_t)segment->size, start = middle ? size / 5 : 0;
    CHECK(old && pk_zstd_old_begin(old, start, size - 2 * start) == PK_OK);
    pk_zstd_old_match *matches = malloc((segment->sequence_count + 1) * sizeof *matches);
    CHECK(matches);
    size_t count = pk_zstd_matches(segment, matches);
    CHECK(count == segment->sequence_count);
    CHECK(pk_zstd_old_add(old, segment->plain, segment->size, matches, count, 0) == PK_OK);
    free(matches);
    return old;
}

static void check_segment(pk_zstd_codec *codec, pk_zstd_segment *segment, const uint8_t *stream,
                          pk_zstd_old *old)
{
    const uint8_t *window = segment->plain; /* any: it only helps */
    size_t length, bytes, before = segment->size / 2;
    CHECK(segment->size <= PK_ZSTD_MOST_PLAIN);
    CHECK(segment->coded <= pk_zstd_most_coded(segment->size));
    CHECK(!memcmp(segment->input, stream, segment->coded));
    pk_zstd_stored *raw = malloc((segment->size / 64 + 1) * sizeof *raw);
    CHECK(raw);
    for (size_t i = pk_zstd_raw_blocks(segment, 64, raw); i; i--) {
        const pk_zstd_stored *each = &raw[i - 1];
        CHECK(each->plain + each->length <= segment->size && each->input <= segment->coded);
        CHECK(each->length >= 64 && each->length <= segment->coded - each->input);
        CHECK(!memcmp(segment->plain + each->plain, stream + each->input, each->length));
    }
    free(raw);
    int status = pk_zstd_analyse(codec, segment, old, window, before, SIZE_MAX, NULL);
    CHECK(status == PK_OK || status == PK_INVALID);
    if (status)
        return;
    const uint8_t *result = pk_zstd_result(codec, &length);
    uint8_t *recipe = exact_copy(result, length);
    CHECK(pk_zstd_analyse(codec, segment, old, window, before, length, NULL) == PK_OK);
    CHECK(pk_zstd_analyse(codec, segment, old, window, before, length - 1, NULL) == PK_INVALID);
    pk_zstd_segment *made = pk_zstd_segment_new();
    CHECK(made && pk_zstd_fill(made, segment->plain, segment->size) == PK_OK);
    CHECK(pk_zstd_decode(codec, made, old, recipe, length) == PK_OK);
    CHECK(made->sequence_count == segment->sequence_count);
    CHECK(pk_zstd_encode(codec, made, segment->coded - 1) == PK_INVALID);
    CHECK(pk_zstd_encode(codec, made, segment->coded) == PK_OK);
    result = pk_zstd_result(codec, &bytes);
    CHECK(bytes == segment->coded && !memcmp(result, stream, bytes));
    pk_zstd_segment_free(made);
    free(recipe);
}

static void check_stream(pk_zstd_codec *codec, const uint8_t *stream, size_t size,
                         pk_zstd_old *old)
{
    pk_zstd_parser *parser = pk_zstd_parser_new(1 << 20), *other = pk_zstd_parser_new(1 << 20);
    pk_zstd_segment *segment = pk_zstd_segment_new(), *again = pk_zstd_segment_new();
    CHECK(parser && other && segment && again);
    size_t at = 0;
    for (segment->last = 0; !segment->last; at += segment->coded) {
        uint8_t *exact = exact_copy(stream + at, size - at);
        int status = pk_zstd_parser_next(parser, segment, exact, size - at, 1);
        free(exact);
        CHECK(status == PK_OK || status == PK_INVALID || status == PK_TOO_LONG);
        if (status)
            break;
        check_segment(codec, segment, stream + at, old);
        if (old)
            continue;
        for (size_t given = segment->coded < 64 ? 0 : segment->coded - 64;; given++) {
            CHECK(given <= size - at);
            exact = exact_copy(stream + at, given);
            status = pk_zstd_parser_next(other, again, exact, given, given == size - at);
            free(exact);
            if (status == PK_OK)
                break;
            CHECK(status == PK_NEED_MORE);
        }
        CHECK(again->coded == segment->coded && again->last == segment->last);
        CHECK(again->size == segment->size && !memcmp(again->plain, segment->plain, again->size));
    }
    pk_zstd_segment_free(again);
    pk_zstd_segment_free(segment);
    pk_zstd_parser_free(other);
    pk_zstd_parser_free(parser);
}

static void check_recipe(pk_zstd_codec *codec, const uint8_t *input, size_t size, pk_zstd_old *old)
{
    if (size < 2)
        return;
    size_t plain = input[0] | (size_t)input[1] << 8, bytes;
    if (plain > size - 2)
        plain = size - 2;
    uint8_t *recipe = exact_copy(input + 2 + plain, size - 2 - plain);
    pk_zstd_segment *made = pk_zstd_segment_new();
    CHECK(made && pk_zstd_fill(made, input + 2, plain) == PK_OK);
    int status = pk_zstd_decode(codec, made, old, recipe, size - 2 - plain);
    CHECK(status == PK_OK || status == PK_INVALID);
    if (status == PK_OK) {
        pk_zstd_old_free(span_of(made, 1)); /* the next link of a chain */
        status = pk_zstd_encode(codec, made, 4 * plain + 4096);
        CHECK(status == PK_OK || status == PK_INVALID);
        pk_zstd_result(codec, &bytes);
        CHECK(status || bytes <= 4 * plain + 4096);
    }
    pk_zstd_segment_free(made);
    free(recipe);
}

/* NULL: it is no stream. */
static pk_zstd_old *old_of(const uint8_t *stream, size_t size, int middle)
{
    pk_zstd_parser *parser = pk_zstd_parser_new(1 << 20);
    pk_zstd_segment *segment = pk_zstd_segment_new();
    CHECK(parser && segment);
    uint8_t *exact = exact_copy(stream, size);
    pk_zstd_old *old = NULL;
    if (pk_zstd_parser_next(parser, segment, exact, size, 1) == PK_OK)
        old = span_of(segment, middle);
    free(exact);
    pk_zstd_segment_free(segment);
    pk_zstd_parser_free(parser);
    return old;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    if (!size)
        return 0;
    const unsigned first = *input++;
    pk_zstd_old *old = NULL;
    if (size-- > 2 && first & 64) {
        size_t length = input[0] | (size_t)input[1] << 8;
        if (length > size - 2)
            length = size - 2;
        old = old_of(input + 2, length, first & 1);
        input += 2 + length;
        size -= 2 + length;
        if (!old)
            return 0;
    }
    pk_zstd_codec *codec = pk_zstd_codec_new();
    CHECK(codec);
    if (first < 128)
        check_stream(codec, input, size, old);
    else
        check_recipe(codec, input, size, old);
    pk_zstd_codec_free(codec);
    pk_zstd_old_free(old);
    return 0;
}
