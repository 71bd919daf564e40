/* A map from keys of one size to 32-bit numbers: from digests or sketches of chunks to their
 * ordinals. It takes a fifth to a tenth of the memory of a Python dict.
 *
 * Keys are taken for random, as digests are: open addressing with linear probing on their first
 * eight bytes. Source: D. Knuth, "The Art of Computer Programming", volume 3, 6.4, algorithm
 * L. A map is used by one thread at a time; different maps are independent. */
#ifndef PK_LOOKUP_MAP_H
#define PK_LOOKUP_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

typedef struct pk_map pk_map;

/* Return an empty map for keys of `key_bytes` bytes, 8 or 16; NULL without memory. Free it with
 * pk_map_free. */
pk_map *pk_map_new(size_t key_bytes);

/* Free the map; lent keys stay the caller's. NULL does nothing. */
void pk_map_free(pk_map *map);

/* Lend keys to an empty map, which then need not copy them. They are not put yet.
 *
 * keys: `count` keys, one behind another; the caller keeps them unchanged until the map is freed.
 *     Key i will have the number i. */
void pk_map_lend(pk_map *map, const uint8_t *keys, uint32_t count);

/* Put `count` of the lent keys, from key `first` on; first + count is at most the number lent. A
 * number put under an equal key before is replaced. Returns PK_OK, or PK_NO_MEMORY: some may have
 * been put. */
pk_status pk_map_put_lent(pk_map *map, uint32_t first, uint32_t count);

/* Put keys, which are copied; a number put under an equal key before is replaced.
 *
 * keys, stride, count: `count` keys that begin `stride` bytes from one another.
 * first, each: key i gets the number first + i / each; `each` is 1 or more, all numbers below
 *     2^32.
 * Returns PK_OK, or PK_NO_MEMORY: some may have been put. */
pk_status pk_map_put(pk_map *map, const uint8_t *keys, size_t stride, size_t count, uint32_t first,
                     uint32_t each);

/* Look keys up.
 *
 * keys, stride, count: as for pk_map_put; with stride 0 all are the first one.
 * out: `count` numbers, written: the key's number, or -1 if it was never put. */
void pk_map_get(const pk_map *map, const uint8_t *keys, size_t stride, size_t count, int64_t *out);

#endif
