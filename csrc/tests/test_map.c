/* The map against a list of what was put: growth, replacing, strides, keys of both sizes, lent
 * ones; under the sanitizers. */
#include "check.h"

#include "lookup/map.h"

enum { COUNT = 3000 };

static void test_keys(size_t width)
{
    pk_map *map = pk_map_new(width);
    CHECK(map);
    uint8_t *keys = malloc(COUNT * width);
    CHECK(keys);
    uint64_t state = 88172645463325252u;
    for (size_t i = 0; i < COUNT * width; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        keys[i] = (uint8_t)state;
    }
    memcpy(keys + 7 * width, keys + 3 * width, width); /* one that is there twice */
    int64_t found[COUNT];
    for (size_t count = 0; count < COUNT; count += 100) {
        uint8_t *exact = exact_copy(keys + count * width, 100 * width);
        CHECK(pk_map_put(map, exact, width, 100, (uint32_t)count, 1) == 0);
        free(exact);
        pk_map_get(map, keys, width, COUNT, found);
        for (size_t i = 0; i < COUNT; i++)
            CHECK(found[i] == (i == 3 ? 7 : i < count + 100 ? (int64_t)i : -1));
    }
    CHECK(pk_map_put(map, keys, 2 * width, COUNT / 2, 4000000000u, 50)
          == 0); /* each second one, anew */
    pk_map_get(map, keys, width, COUNT, found);
    for (size_t i = 0; i < COUNT; i++)
        CHECK(found[i] == (i == 3 ? 7 : i % 2 ? (int64_t)i : (int64_t)(4000000000u + i / 100)));
    free(keys);
    pk_map_free(map);
}

/* Keys that are lent, and others put among them. */
static void test_lent(size_t width)
{
    enum { LENT = 1000 };
    uint8_t keys[COUNT * 16];
    for (size_t i = 0; i < COUNT * width; i++)
        keys[i] = (uint8_t)(i % width < 4 ? i / width >> 8 * (i % width) : 7);
    memcpy(keys + 90 * width, keys + 20 * width, width);
    uint8_t *lent = exact_copy(keys, LENT * width);
    pk_map *map = pk_map_new(width);
    CHECK(map);
    pk_map_lend(map, lent, LENT);
    CHECK(pk_map_put_lent(map, 0, 100) == 0);
    CHECK(pk_map_put_lent(map, 500, 500) == 0);
    CHECK(pk_map_put(map, keys + 10 * width, width, 1, 4000000000u, 1)
          == 0); /* in place of a lent one */
    CHECK(pk_map_put(map, keys + 2000 * width, width, 1000, 2000, 1) == 0);
    CHECK(pk_map_put_lent(map, 400, 10) == 0);
    CHECK(pk_map_put(map, keys + 10 * width, width, 1, 3000000000u, 1) == 0);
    int64_t found[COUNT];
    pk_map_get(map, keys, width, COUNT, found);
    for (size_t i = 0; i < COUNT; i++) {
        int put = i < 100 || (i >= 400 && i < 410) || (i >= 500 && i < 1000) || i >= 2000;
        CHECK(found[i] == (i == 10 ? 3000000000 : i == 20 ? 90 : put ? (int64_t)i : -1));
    }
    CHECK(pk_map_put_lent(map, 10, 1) == 0); /* and back */
    pk_map_get(map, keys + 10 * width, width, 1, found);
    CHECK(found[0] == 10);
    free(lent);
    pk_map_free(map);
}

int main(void)
{
    test_keys(8);
    test_keys(16);
    test_lent(8);
    test_lent(16);
    pk_map_free(NULL);
    printf("ok: map\n");
    return 0;
}
