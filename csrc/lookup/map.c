#include "lookup/map.h"

#include <stdlib.h>
#include <string.h>

struct pk_map {
    size_t key_bytes;
    const uint8_t *lent; /* the keys of the first places, whose numbers are their places */
    size_t lent_count;
    size_t count, capacity; /* of keys behind those */
    uint8_t *keys;          /* in the order in which they were put */
    uint32_t *numbers;
    size_t used;     /* slots */
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

void pk_map_lend(pk_map *map, const uint8_t *keys, uint32_t count)
{
    map->lent = keys;
    map->lent_count = count;
}

static const uint8_t *key_at(const pk_map *map, size_t place)
{
    return place < map->lent_count ? map->lent + place * map->key_bytes
                                   : map->keys + (place - map->lent_count) * map->key_bytes;
}

/* Return the slot that has a key, or the empty one where it belongs. */
static size_t slot_of(const pk_map *map, const uint8_t *key)
{
    uint64_t word;
    memcpy(&word, key, sizeof word);
    size_t mask = ((size_t)1 << map->log) - 1,
           at = (size_t)(word * 0x9e3779b97f4a7c15u >> (64 - map->log));
    while (map->slots[at] && memcmp(key_at(map, map->slots[at] - 1), key, map->key_bytes) != 0)
        at = (at + 1) & mask;
    return at;
}

static int grow_slots(pk_map *map)
{
    size_t before = (size_t)1 << map->log;
    uint32_t *old = map->slots, *slots = calloc(2 * before, sizeof *slots);
    if (!slots)
        return -1;
    map->slots = slots;
    map->log++;
    for (size_t i = 0; i < before; i++)
        if (old[i])
            map->slots[slot_of(map, key_at(map, old[i] - 1))] = old[i];
    free(old);
    return 0;
}

/* Return the slot for a key, with *is_new if the key was not there; NULL without memory. */
static uint32_t *slot_for(pk_map *map, const uint8_t *key, int *is_new)
{
    size_t slot = slot_of(map, key);
    *is_new = !map->slots[slot];
    if (*is_new) {
        if (2 * (map->used + 1) > (size_t)1 << map->log) {
            if (grow_slots(map))
                return NULL;
            slot = slot_of(map, key);
        }
        map->used++;
    }
    return &map->slots[slot];
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

pk_status pk_map_put_lent(pk_map *map, uint32_t first, uint32_t count)
{
    for (uint32_t place = first; place < first + count; place++) {
        int is_new;
        uint32_t *slot = slot_for(map, key_at(map, place), &is_new);
        if (!slot)
            return PK_NO_MEMORY;
        *slot = place + 1;
    }
    return PK_OK;
}

pk_status pk_map_put(pk_map *map, const uint8_t *keys, size_t stride, size_t count, uint32_t first,
                     uint32_t each)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *key = keys + i * stride;
        if (map->count == map->capacity && grow_keys(map))
            return PK_NO_MEMORY;
        int is_new;
        uint32_t *slot = slot_for(map, key, &is_new);
        if (!slot)
            return PK_NO_MEMORY;
        if (is_new || *slot <= map->lent_count) { /* the number of a lent key is fixed */
            memcpy(map->keys + map->count * map->key_bytes, key, map->key_bytes);
            *slot = (uint32_t)(map->lent_count + ++map->count);
        }
        map->numbers[*slot - 1 - map->lent_count] = first + (uint32_t)i / each;
    }
    return PK_OK;
}

void pk_map_get(const pk_map *map, const uint8_t *keys, size_t stride, size_t count, int64_t *out)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t slot = map->slots[slot_of(map, keys + i * stride)];
        size_t place = (size_t)slot - 1;
        out[i] = !slot                     ? -1
                 : place < map->lent_count ? (int64_t)place
                                           : (int64_t)map->numbers[place - map->lent_count];
    }
}
