/* Checks the cut points of one input: all kernels cut it like the naive rule, and so does any
 * split. Failures abort.
 */
#ifndef PK_CHECK_CUTS_H
#define PK_CHECK_CUTS_H

#include "check.h"
#include "chunker/chunker.h"

/* The rule as docs/chunking.md states it, offset by offset. */
static size_t naive_cut(const uint8_t *data, size_t low, size_t high)
{
    size_t best = low;
    for (size_t c = low + 1; c <= high; c++) {
        uint16_t hash = pk_hash(data + c), most = pk_hash(data + best);
        if (hash > most || (hash == most && pk_wide_hash(data + c) >= pk_wide_hash(data + best)))
            best = c;
    }
    return best;
}

static size_t naive_cuts(const uint8_t *data, size_t length, size_t min, size_t max,
                         uint64_t *cuts)
{
    size_t count = 0, start = 0;
    while (start < length) {
        size_t left = length - start, cut = length;
        if (left >= max)
            cut = naive_cut(data, start + min, start + max);
        else if (left >= 2 * min)
            cut = naive_cut(data, start + min, length - min);
        cuts[count++] = start = cut;
    }
    return count;
}

/* Cuts of the input given in pieces of at most sizes[i], the sizes repeated. */
static size_t split_cuts(const uint8_t *data, size_t length, size_t min, size_t max, int kernel,
                         const size_t *sizes, size_t size_count, uint64_t *cuts)
{
    size_t count = 0, base = 0, end = 0, turn = 0;
    while (end < length) {
        size_t piece = sizes[turn++ % size_count];
        end = piece < length - end ? end + piece : length;
        uint8_t *copy = exact_copy(data + base, end - base);
        size_t found;
        CHECK(pk_cut_points(copy, end - base, min, max, end == length, kernel, cuts + count,
                            (end - base) / min + 1, &found)
              == PK_OK);
        free(copy);
        size_t start = base;
        for (size_t i = 0; i < found; i++)
            cuts[count + i] += start;
        count += found;
        if (found)
            base = (size_t)cuts[count - 1];
    }
    CHECK(base == length);
    return count;
}

/* naive: also compare with the naive rule, which is slow. */
static void check_input(const uint8_t *data, size_t length, size_t min, size_t max, int naive,
                        const size_t *sizes, size_t size_count)
{
    size_t capacity = length / min + 1;
    uint64_t *expected = malloc(8 * capacity), *found = malloc(8 * (capacity + 1));
    uint8_t *copy = exact_copy(data, length);
    CHECK(expected && found);
    size_t count, again;
    CHECK(pk_cut_points(copy, length, min, max, 1, PK_PORTABLE, expected, capacity, &count)
          == PK_OK);
    if (naive) {
        CHECK(naive_cuts(copy, length, min, max, found) == count);
        CHECK(memcmp(expected, found, 8 * count) == 0);
    }
    size_t start = 0;
    for (size_t i = 0; i < count; i++) {
        CHECK(expected[i] > start && expected[i] - start <= max);
        CHECK(i == count - 1 || expected[i] - start >= min);
        start = (size_t)expected[i];
    }
    CHECK(start == length);
    for (int kernel = 0; kernel < PK_KERNEL_COUNT; kernel++) {
        if (pk_kernel_state(kernel) != PK_USABLE)
            continue;
        CHECK(pk_cut_points(copy, length, min, max, 1, kernel, found, capacity, &again) == PK_OK);
        CHECK(again == count && memcmp(expected, found, 8 * count) == 0);
        CHECK(split_cuts(data, length, min, max, kernel, sizes, size_count, found) == count);
        CHECK(memcmp(expected, found, 8 * count) == 0);
    }
    free(copy);
    free(found);
    free(expected);
}

#endif
