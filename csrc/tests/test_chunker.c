/* C driver, run under the address and undefined-behaviour sanitizers: random and degenerate
 * buffers of lengths around every boundary of the implementation, in allocations of exactly their
 * size.
 */
#include "check_cuts.h"

#include "files/syscalls.h"

#include <errno.h>

static uint64_t state = 88172645463325252u;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

enum { KINDS = 7 };

static void fill(uint8_t *data, size_t length, int kind)
{
    size_t period = 1 + next() % 600;
    for (size_t i = 0; i < length; i++) {
        uint8_t random = (uint8_t)(next() >> 32);
        switch (kind) {
        case 0:
            data[i] = random;
            break;
        case 1:
            data[i] = 0;
            break;
        case 2:
            data[i] = i % 8 ? 0 : random & 1;
            break;
        case 3:
            data[i] = "ACGT"[random & 3];
            break;
        case 4:
            data[i] = i < period ? random : data[i - period];
            break;
        case 5:
            data[i] = (i < period) != (next() % 3000 == 0) ? random
                      : i < period                         ? 0
                                                           : data[i - period];
            break;
        default:
            data[i] = next() % 1000 ? ' ' : random;
            break;
        }
    }
}

static void test_inputs(void)
{
    static const size_t averages[] = {1024, 1026, 2048, 6000};
    for (int round = 0; round < 60; round++)
        for (int kind = 0; kind < KINDS; kind++) {
            size_t average = averages[next() % 4], min = average / 2, max = average + min;
            size_t length = next() % (6 * average);
            size_t sizes[] = {1 + next() % 3000, 1 + next() % 9000, 1 + next() % 300};
            uint8_t *data = malloc(length + 1);
            CHECK(data);
            fill(data, length, kind);
            check_input(data, length, min, max, length < 8000, sizes, 3);
            free(data);
        }
}

/* Every length about a row, a block and the ends of the interval. */
static void test_lengths(void)
{
    uint8_t data[4300];
    size_t sizes[] = {1537};
    fill(data, sizeof data, 0);
    for (size_t length = 0; length < sizeof data; length++)
        if (length < 70 || length % 64 < 2 || length % 512 > 509 || length % 2048 < 3)
            check_input(data, length, 512, 1536, 1, sizes, 1);
}

static void test_large(void)
{
    size_t length = 20u << 20, sizes[] = {7u << 20};
    uint8_t *data = malloc(length);
    CHECK(data);
    for (int kind = 0; kind < KINDS; kind++) {
        fill(data, length, kind);
        check_input(data, length, 2u << 20, 6u << 20, 0, sizes, 1);
        check_input(data, length, 32u << 10, 96u << 10, 0, sizes, 1);
    }
    free(data);
}

static void test_arguments(void)
{
    uint8_t data[5000] = {0};
    uint64_t cuts[16];
    size_t count;
    CHECK(pk_cut_points(data, 5000, 511, 1536, 1, 0, cuts, 16, &count) == PK_BAD_PARAMETER);
    CHECK(pk_cut_points(data, 5000, 512, 512, 1, 0, cuts, 16, &count) == PK_BAD_PARAMETER);
    CHECK(pk_cut_points(data, 5000, 512, PK_MAX_LIMIT + 1, 1, 0, cuts, 16, &count)
          == PK_BAD_PARAMETER);
    CHECK(pk_cut_points(data, 5000, 512, 1536, 1, -1, cuts, 16, &count) == PK_BAD_KERNEL);
    for (int kernel = 0; kernel < PK_KERNEL_COUNT; kernel++)
        if (pk_kernel_state(kernel) != PK_USABLE)
            CHECK(pk_cut_points(data, 5000, 512, 1536, 1, kernel, cuts, 16, &count)
                  == PK_BAD_KERNEL);
    CHECK(pk_cut_points(data, 5000, 512, 1536, 1, 99, cuts, 16, &count) == PK_BAD_KERNEL);
    CHECK(pk_cut_points(data, 5000, 512, 1536, 1, 0, cuts, 2, &count) == PK_NO_SPACE
          && count == 2);
    CHECK(pk_cut_points(NULL, 0, 512, 1536, 1, 0, NULL, 0, &count) == PK_OK && count == 0);
    CHECK(pk_kernel_name(-1) == NULL && pk_kernel_name(PK_KERNEL_COUNT) == NULL);
    CHECK(strcmp(pk_kernel_name(PK_PORTABLE), "portable") == 0);
    CHECK(pk_kernel_state(PK_PORTABLE) == PK_USABLE && pk_kernel_state(99) == PK_NO_KERNEL);
    CHECK(pk_kernel_state(pk_kernel_default()) == PK_USABLE);
    CHECK(pk_read_sum(data, sizeof data) == 0);
    CHECK(pk_sync_filesystem(-1) == PK_SYSTEM && (errno == EBADF || errno == ENOSYS));
}

int main(void)
{
    test_arguments();
    test_lengths();
    test_inputs();
    test_large();
    printf("ok:");
    for (int kernel = 0; kernel < PK_KERNEL_COUNT; kernel++)
        if (pk_kernel_state(kernel) == PK_USABLE)
            printf(" %s", pk_kernel_name(kernel));
    printf("\n");
    return 0;
}
