/* libFuzzer target: what is found rebuilds the text, and copies from a stranger stay within their buffer.
 *
 * Four bytes: how often the bytes are repeated, how many there are between edits, how much is older, in 16 bits
 * what is edited; then the bytes, from which older bytes and text are made. The same bytes are then taken for
 * copies of a stranger.
 */
#include "../tests/check.h"

#include "pk_delta.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static void round_trip(const uint8_t *data, size_t prefix, size_t size)
{
    enum { LOG = 10 };
    uint32_t *table = malloc(sizeof *table << LOG);
    size_t capacity = size / 16 + 1;
    pk_copy *copies = malloc(capacity * sizeof *copies), *read = malloc((capacity + 1) * sizeof *read);
    CHECK(table && copies && read);
    size_t count = pk_delta_find(data, prefix, size, table, LOG, copies, capacity);
    CHECK(count <= capacity);
    uint8_t *classes = malloc(3 * count + 1), *extra = malloc(9 * count + 1);
    CHECK(classes && extra);
    size_t length = pk_delta_encode(copies, count, prefix, classes, extra);
    CHECK(length <= 9 * count);
    uint8_t *exact = exact_copy(extra, length);
    CHECK(pk_delta_decode(classes, count, exact, length, prefix, size, read) == 0);
    CHECK(!count || !memcmp(copies, read, count * sizeof *copies));
    uint8_t *rest = malloc(size - prefix + 1), *out = malloc(size + 1);
    CHECK(rest && out);
    size_t rest_length = pk_delta_rest(data, prefix, size, copies, count, rest);
    uint8_t *kept = malloc(prefix / PK_DELTA_BLOCK + 1), *older = malloc(prefix + 1);
    CHECK(kept && older);
    CHECK(pk_delta_older_rest(data, prefix, size, copies, count, 2, kept, older) <= prefix);
    memcpy(out, data, prefix);
    CHECK(pk_delta_apply(out, prefix, size, copies, count, rest, rest_length) == 0);
    CHECK(!memcmp(out, data, size));
    CHECK(pk_delta_apply(out, prefix, size, copies, count, rest, rest_length + 1) != 0);
    free(table), free(copies), free(read), free(classes), free(extra), free(exact), free(rest), free(out), free(kept), free(older);
}

static void stranger(const uint8_t *in, size_t length, uint8_t *data, size_t prefix, size_t size)
{
    size_t count = length / 5;
    pk_copy *copies = malloc((count + 1) * sizeof *copies);
    uint8_t *classes = exact_copy(in, 3 * count), *extra = exact_copy(in + 3 * count, length - 3 * count);
    uint8_t *kept = malloc(prefix / PK_DELTA_BLOCK + 1), *older = malloc(prefix + 1);
    CHECK(copies && kept && older);
    /* As many extra bits as it takes: with more or fewer than all of them it is refused. */
    int sound = -1;
    for (size_t some = 0; sound && some <= length - 3 * count; some++)
        sound = pk_delta_decode(classes, count, extra, some, prefix, size, copies);
    if (!sound && count) {
        CHECK(pk_delta_older_rest(data, prefix, size, copies, count, 255, kept, older) <= prefix);
        size_t rest = size - prefix;
        for (size_t i = 0; i < count; i++)
            rest -= copies[i].length;
        uint8_t *bytes = calloc(rest + 1, 1);
        CHECK(bytes);
        CHECK(pk_delta_apply(data, prefix, size, copies, count, bytes, rest) == 0);
        free(bytes);
    }
    free(copies), free(classes), free(extra), free(kept), free(older);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    if (size < 6)
        return 0;
    size_t repeat = 1 + (size_t)input[0] % 64 * 4, every = input[1] ? (size_t)input[1] * 20 : 0;
    size_t length = size - 5, whole = length * repeat > 20000 ? 20000 : length * repeat;
    size_t prefix = whole * input[2] / 255;
    unsigned edit = input[3] | (unsigned)input[4] << 8;
    uint8_t *data = malloc(whole + 1);
    CHECK(data);
    for (size_t i = 0; i < whole; i++)
        data[i] = input[5 + i % length];
    for (size_t i = every; every && i < whole; i += every + edit % 7)
        data[i] = (uint8_t)(data[i] + edit + i / every);
    uint8_t *exact = exact_copy(data, whole);
    round_trip(exact, prefix, whole);
    stranger(input + 5, length, exact, prefix, whole);
    free(exact);
    free(data);
    return 0;
}
