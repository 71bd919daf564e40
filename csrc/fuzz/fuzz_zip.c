/* libFuzzer target: offsets that were replaced come back, and no header is read or written behind
 * the end of a text.
 *
 * A byte: whether times are four equal bytes or one; four pairs of times, a byte each; then the
 * text, in which a byte of 255 begins a signature, which the byte behind it tells.
 */
#include "../tests/check.h"

#include "archives/zip_headers.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    enum { PAIRS = 4, TIMES = 64 };
    if (size < 1 + 2 * PAIRS)
        return 0;
    uint64_t pairs[2 * PAIRS];
    for (size_t i = 0; i < 2 * PAIRS; i++)
        pairs[i] = input[1 + i] * (input[0] & 1 ? 0x01010101u : 1u);
    input += 1 + 2 * PAIRS;
    size -= 1 + 2 * PAIRS;
    uint8_t *text = exact_copy(input, size);
    for (size_t at = 0; at + 4 <= size; at++)
        if (text[at] == 255)
            memcpy(text + at, text[at + 1] & 1 ? "PK\1\2" : "PK\3\4", 4);
    uint8_t *other = exact_copy(text, size);
    size_t replaced = pk_zip_relink(other, size, 0);
    CHECK(replaced || !memcmp(text, other, size));
    CHECK(pk_zip_relink(other, size, 1) == replaced && !memcmp(text, other, size));
    pk_header_time times[TIMES];
    size_t count = pk_zip_times(text, size, times, TIMES);
    CHECK(count <= TIMES);
    size_t changed = pk_zip_retime(other, size, pairs, PAIRS);
    CHECK(changed || !memcmp(text, other, size));
    free(text);
    free(other);
    return 0;
}
