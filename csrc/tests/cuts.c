/* Cut points of what comes on the standard input, by one kernel: for tests of other architectures.
 *
 *     cuts KERNEL < inputs
 *
 * An input is its length and its average chunk size, 64-bit little-endian, then its bytes. For
 * each one a line with its cut points. */
#include "check.h"
#include "chunker/chunker.h"

int main(int argc, char **argv)
{
    int kernel = 0;
    CHECK(argc == 2);
    while (pk_kernel_name(kernel) && strcmp(pk_kernel_name(kernel), argv[1]) != 0)
        kernel++;
    CHECK(pk_kernel_name(kernel) && pk_kernel_state(kernel) == PK_USABLE);
    uint64_t head[2];
    while (fread(head, sizeof head, 1, stdin) == 1) {
        size_t length = (size_t)head[0], min = (size_t)head[1] / 2, capacity = length / min + 1;
        uint8_t *data = malloc(length ? length : 1);
        uint64_t *cuts = malloc(capacity * sizeof *cuts);
        CHECK(data && cuts && fread(data, 1, length, stdin) == length);
        size_t count;
        CHECK(pk_cut_points(data, length, min, 3 * min, 1, kernel, cuts, capacity, &count)
              == PK_OK);
        for (size_t at = 0; at < count; at++)
            printf("%llu ", (unsigned long long)cuts[at]);
        printf("\n");
        free(data);
        free(cuts);
    }
    return 0;
}
