/* libFuzzer target: what is found rebuilds the text, and copies from a stranger stay within their
 * buffer.
 *
 * Four bytes: how often the bytes are repeated, how many there are between edits, how much is
 * older, in 16 bits what is edited; then the bytes, from which older bytes and text are made. The
 * same bytes are then taken for copies of a stranger, and for a selection.
 */
#include "../tests/check.h"

#include "delta/copies.h"
#include "delta/prefix_blocks.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static void select_round_trip(const uint8_t *older, size_t older_length, const uint8_t *rest,
                              size_t rest_length)
{
    enum { LOG = 6, CAPACITY = 1000 };
    pk_select_table table = {
        malloc((size_t)1 << PK_SELECT_HEADS), malloc(sizeof(uint32_t) << PK_SELECT_HEADS),
        malloc(CAPACITY * sizeof(uint32_t)), malloc(CAPACITY * sizeof(uint32_t)), CAPACITY};
    size_t blocks = (older_length + (1 << LOG) - 1) >> LOG;
    uint8_t *kept = malloc(blocks + 1), *read = malloc(blocks + 1), *coded = malloc(blocks + 16);
    uint8_t *exact = exact_copy(older, older_length), *text = exact_copy(rest, rest_length);
    CHECK(table.wanted && table.heads && table.places && table.chains && kept && read && coded);
    for (size_t block = 0; block < blocks; block++)
        kept[block] = block * rest_length % 5 == 1; /* some are not looked at */
    pk_select(exact, older_length, text, rest_length, rest_length % 3, 1 + rest_length % 5, LOG,
              &table, kept);
    size_t length = pk_select_encode(kept, blocks, coded);
    CHECK(length <= blocks + 16);
    uint8_t *stored = exact_copy(coded, length);
    CHECK(pk_select_decode(stored, length, read, blocks) == 0 && !memcmp(kept, read, blocks));
    CHECK(!length || pk_select_decode(stored, length - 1, read, blocks) != 0
          || memcmp(kept, read, blocks));
    size_t size = 0;
    for (size_t block = 0; block < blocks; block++)
        if (kept[block])
            size += older_length - (block << LOG) < 1 << LOG ? older_length - (block << LOG)
                                                             : 1 << LOG;
    uint8_t *out = malloc(size + 1);
    CHECK(out && pk_select_gather(older, older_length, LOG, kept, out) == size);
    free(table.wanted), free(table.heads), free(table.places), free(table.chains), free(kept),
        free(read), free(coded), free(exact);
    free(text), free(stored), free(out);
}

static void round_trip(const uint8_t *data, size_t prefix, size_t size)
{
    enum { LOG = 10 };
    uint32_t *table = malloc(sizeof *table << LOG);
    size_t capacity = size / 16 + 1;
    pk_copy *copies = malloc(capacity * sizeof *copies),
            *read = malloc((capacity + 1) * sizeof *read);
    CHECK(table && copies && read);
    uint8_t *covered = size % 2 ? malloc(pk_covered_blocks(prefix) + 1) : NULL;
    size_t count =
        pk_delta_find_fresh(data, prefix, size, SIZE_MAX, table, LOG, covered, copies, capacity);
    CHECK(count <= capacity);
    uint8_t *classes = malloc(3 * count + 1), *extra = malloc(9 * count + 1);
    CHECK(classes && extra);
    size_t length = pk_delta_encode(copies, count, prefix, classes, extra);
    CHECK(length <= 9 * count);
    uint8_t *exact = exact_copy(extra, length);
    CHECK(pk_delta_decode(classes, count, exact, length, prefix, size, read) == 0);
    CHECK(!count || !memcmp(copies, read, count * sizeof *copies));
    uint8_t *rest = malloc(size - prefix + 1), *out = malloc(size - prefix + 1);
    CHECK(rest && out);
    size_t rest_length = pk_delta_rest(data, prefix, size, copies, count, rest);
    select_round_trip(data, prefix, rest, rest_length);
    uint8_t *older = exact_copy(data, prefix);
    CHECK(pk_delta_apply(older, prefix, size, copies, count, rest, rest_length, out) == 0);
    CHECK(!memcmp(out, data + prefix, size - prefix));
    CHECK(pk_delta_apply(older, prefix, size, copies, count, rest, rest_length + 1, out) != 0);
    CHECK(pk_delta_check(older, prefix, size, copies, count, rest, rest_length, out) == 0);
    CHECK(pk_delta_check(older, prefix, size, copies, count, rest, rest_length + 1, out) != 0);
    for (size_t at = 0; at < size - prefix; at += 1 + at) {
        out[at] ^= 1;
        CHECK(pk_delta_check(older, prefix, size, copies, count, rest, rest_length, out) != 0);
        out[at] ^= 1;
    }
    free(covered), free(table), free(copies), free(read), free(classes), free(extra), free(exact),
        free(rest), free(out), free(older);
}

static void stranger(const uint8_t *in, size_t length, const uint8_t *data, size_t prefix,
                     size_t size)
{
    size_t count = length / 5;
    pk_copy *copies = malloc((count + 1) * sizeof *copies);
    uint8_t *classes = exact_copy(in, 3 * count),
            *extra = exact_copy(in + 3 * count, length - 3 * count);
    CHECK(copies);
    /* As many extra bits as it takes: with more or fewer than all of them it is refused. */
    int sound = -1;
    for (size_t some = 0; sound && some <= length - 3 * count; some++)
        sound = pk_delta_decode(classes, count, extra, some, prefix, size, copies);
    if (!sound && count) {
        size_t rest = size - prefix;
        for (size_t i = 0; i < count; i++)
            rest -= copies[i].length;
        uint8_t *bytes = calloc(rest + 1, 1), *text = malloc(size - prefix + 1);
        CHECK(bytes && text);
        CHECK(pk_delta_apply(data, prefix, size, copies, count, bytes, rest, text) == 0);
        free(bytes), free(text);
    }
    free(copies), free(classes), free(extra);
    /* A selection that is accepted is one that can be written. */
    size_t blocks = 1 + prefix % 300;
    uint8_t *kept = malloc(blocks), *again = malloc(blocks), *coded = malloc(blocks + 16),
            *exact = exact_copy(in, length);
    CHECK(kept && again && coded);
    if (!pk_select_decode(exact, length, kept, blocks)) {
        CHECK(pk_select_decode(coded, pk_select_encode(kept, blocks, coded), again, blocks) == 0);
        CHECK(!memcmp(kept, again, blocks));
    }
    free(kept), free(again), free(coded), free(exact);
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
