/* libFuzzer target: all kernels agree with the naive rule, and any split agrees.
 *
 * The first eight bytes pick the sizes of chunks and pieces and how often the rest is repeated (so
 * that short inputs make long and periodic ones); the rest is the data.
 */
#include "../tests/check_cuts.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    if (size < 8)
        return 0;
    size_t min = 512 + input[0], max = min + 512 + 4 * (size_t)input[1];
    size_t sizes[2] = {1 + (size_t)input[2] * 16, 1 + (size_t)(input[3] | input[4] << 8) % 5000};
    size_t repeat = 1 + (size_t)input[5] % 32 * 8,
           noise_every = input[6] ? (size_t)input[6] * 40 : 0;
    uint8_t noise = input[7];
    input += 8;
    size -= 8;
    size_t length = size * repeat;
    if (length > 12000)
        length = 12000;
    uint8_t *data = malloc(length + 1);
    CHECK(data);
    for (size_t i = 0; i < length; i++)
        data[i] = input[i % size];
    if (noise_every)
        for (size_t i = noise_every; i < length; i += noise_every)
            data[i] = (uint8_t)(data[i] + noise + i / noise_every);
    check_input(data, length, min, max, 1, sizes, 2);
    free(data);
    return 0;
}
