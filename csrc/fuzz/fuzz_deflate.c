/* libFuzzer target: a deflate stream is opened and comes back bit for bit, or is refused.
 *
 * The first byte holds the bit the stream begins at, how soon segments end, and whether they may
 * end early; the rest is the stream.
 */
#include "../tests/check.h"

#include <string.h>

#include "deflate/workspace.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

/* Fill the tables: a model's answers must not depend on what was left there. */
static void scribble(pk_codec *codec, unsigned seed)
{
    pk_model *model = &codec->model;
    memset(model->back, (int)(seed * 37 + 1) & 255, sizeof model->back);
    memset(model->rank, (int)(seed * 59 + 5) & 255, sizeof model->rank);
    for (unsigned rung = 0; rung < PK_RUNGS; rung++)
        memset(model->rungs[rung].back, (int)(seed * 83 + 3) & 255,
               sizeof model->rungs[rung].back);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    if (size < 2)
        return 0;
    unsigned bit = input[0] & 7;
    size_t target = (size_t)1 << (4 + (input[0] >> 3) % 16);
    uint8_t *stream = exact_copy(input + 1, size - 1), *at = stream;
    size_t left = size - 1, window_length = 0;
    uint8_t window[PK_FAR_WINDOW];
    uint64_t position = 0;
    int guess = -1, goes_on = 0;
    pk_carry carry, known;
    pk_segment *segment = pk_segment_new();
    pk_codec *codec = pk_codec_new(), *other = pk_codec_new();
    CHECK(segment && codec && other);
    while (left
           && pk_segment_inflate(segment, at, left, bit, window, window_length, position, target,
                                 goes_on ? &carry : NULL, input[0] >> 7)
                  == PK_OK) {
        size_t length = segment->size - segment->window;
        uint64_t end = segment->end_bit;
        CHECK(end <= 8 * (uint64_t)left && length <= PK_MAX_SEGMENT_PLAIN);
        uint64_t tokens[2];
        size_t most = (size_t)end / 8 + 64;
        uint8_t *recipe = malloc(most);
        CHECK(recipe);
        size_t coded;
        pk_status status = pk_analyse(codec, segment, guess, recipe, most, &coded, tokens);
        CHECK(status == PK_OK || status == PK_INVALID);
        if (status == PK_OK) {
            size_t whole = window_length + length;
            uint8_t *data = calloc(whole + PK_PAD, 1);
            CHECK(data && coded <= (end - bit + 7) / 8 * 3 / 100 + 16);
            memcpy(data, window, window_length);
            memcpy(data + window_length, segment->data + segment->window, length);
            scribble(other, (unsigned)position);
            uint64_t end_bit;
            CHECK(pk_rebuild(other, data, window_length, whole, position, recipe, coded, bit,
                             (size_t)(end / 8 + 1), &end_bit)
                      == PK_OK
                  && end_bit == end);
            CHECK(pk_codec_carry(other, &known) == goes_on);
            CHECK(!goes_on || (known.type == carry.type && known.last <= carry.last));
            CHECK(!goes_on || known.type == PK_FIXED
                  || !memcmp(known.header.lengths, carry.header.lengths,
                             sizeof known.header.lengths));
            const uint8_t *made = pk_codec_result(other);
            for (uint64_t i = bit; i < end; i++)
                CHECK(!((made[i >> 3] ^ at[i >> 3]) >> (i & 7) & 1));
            guess = recipe[0];
            free(data);
        }
        free(recipe);
        if (segment->last && !segment->open)
            break;
        goes_on = pk_segment_carry(segment, &carry);
        size_t whole = segment->size, kept = whole < PK_FAR_WINDOW ? whole : PK_FAR_WINDOW;
        memcpy(window, segment->data + whole - kept, kept);
        window_length = kept;
        position += length;
        at += end / 8;
        left -= (size_t)(end / 8);
        bit = end & 7;
    }
    pk_codec_free(other);
    pk_codec_free(codec);
    pk_segment_free(segment);
    free(stream);
    return 0;
}
