#include "pk_map.h"

#include <stdlib.h>
#include <string.h>

struct pk_map {
    size_t key_bytes;
    size_t count, capacity; /* of keys */
    uint8_t *keys;          /* in the order in which they were first put */
    uint32_t *numbers;
    uint32_t *slots; /* 2^log of them, at most half used: the place of a key and one, or 0 */
    unsigned log;
};

pk_map *pk_map_new(size_t key_bytes)
{
    pk_map *map = calloc(1, sizeof *map);
    if (!map)
        return NULL;
    map->key_bytes = key_bytes;
    map->log = 8;
    map->slots = calloc((size_t)1 << map->log, sizeof *map->slots);
    if (!map->slots) {
        free(map);
        return NULL;
    }
    return map;
}

void pk_map_free(pk_map *map)
{
    if (!map)
        return;
    free(map->keys);
    free(map->numbers);
    free(map->slots);
    free(map);
}

/* The slot that has a key, or the empty one where it belongs. */
static size_t slot_of(const pk_map *map, const uint8_t *key)
{
    uint64_t word;
    memcpy(&word, key, sizeof word);
    size_t mask = ((size_t)1 << map->log) - 1, at = (size_t)(word * 0x9e3779b97f4a7c15u >> (64 - map->log));
    while (map->slots[at] && memcmp(map->keys + (map->slots[at] - 1) * map->key_bytes, key, map->key_bytes) != 0)
        at = (at + 1) & mask;
    return at;
}

static int grow_slots(pk_map *map)
{
    uint32_t *slots = calloc((size_t)2 << map->log, sizeof *slots);
    if (!slots)
        return -1;
    free(map->slots);
    map->slots = slots;
    map->log++;
    for (size_t i = 0; i < map->count; i++)
        map->slots[slot_of(map, map->keys + i * map->key_bytes)] = (uint32_t)i + 1;
    return 0;
}

static int grow_keys(pk_map *map)
{
    size_t capacity = map->capacity + map->capacity / 2 + 128;
    uint8_t *keys = realloc(map->keys, capacity * map->key_bytes);
    if (keys)
        map->keys = keys;
    uint32_t *numbers = realloc(map->numbers, capacity * sizeof *numbers);
    if (numbers)
        map->numbers = numbers;
    if (!keys || !numbers)
        return -1;
    map->capacity = capacity;
    return 0;
}

int pk_map_put(pk_map *map, const uint8_t *keys, size_t stride, size_t count, uint32_t first, uint32_t each)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *key = keys + i * stride;
        size_t slot = slot_of(map, key);
        if (!map->slots[slot]) {
            if (map->count == map->capacity && grow_keys(map))
                return -1;
            if (2 * (map->count + 1) > (size_t)1 << map->log) {
                if (grow_slots(map))
                    return -1;
                slot = slot_of(map, key);
            }
            memcpy(map->keys + map->count * map->key_bytes, key, map->key_bytes);
            map->slots[slot] = (uint32_t)++map->count;
        }
        map->numbers[map->slots[slot] - 1] = first + (uint32_t)i / each;
    }
    return 0;
}

void pk_map_get(const pk_map *map, const uint8_t *keys, size_t stride, size_t count, int64_t *out)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t place = map->slots[slot_of(map, keys + i * stride)];
        out[i] = place ? (int64_t)map->numbers[place - 1] : -1;
    }
}
