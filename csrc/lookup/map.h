/* From keys of one size, 8 or 16 bytes, to 32-bit numbers: digests or sketches of chunks to their ordinals. A fifth to a
 * tenth of the memory that a dict of Python takes.
 *
 * Keys are taken for random, as digests are: open addressing with linear probing (D. Knuth, "The Art of Computer
 * Programming", 6.4, algorithm L). Used by one thread at a time. */
#ifndef PK_MAP_H
#define PK_MAP_H

#include <stddef.h>
#include <stdint.h>

typedef struct pk_map pk_map;

/* Return an empty map, or NULL without memory. key_bytes: 8 or 16. */
pk_map *pk_map_new(size_t key_bytes);

/* Free the map; NULL does nothing. */
void pk_map_free(pk_map *map);

/* Let an empty map use keys where they are, one behind another; they must outlive it. Key i will have the number i. */
void pk_map_lend(pk_map *map, const uint8_t *keys, uint32_t count);

/* Put those of the lent keys from `first` on, `count` of them; like pk_map_put, without a copy. */
int pk_map_put_lent(pk_map *map, uint32_t first, uint32_t count);

/* Put `count` keys, which begin `stride` bytes from one another; what was put under a key before is replaced. Key i
 * gets the number first + i / each. Returns 0, or -1 without memory; some may have been put then. */
int pk_map_put(pk_map *map, const uint8_t *keys, size_t stride, size_t count, uint32_t first,
               uint32_t each);

/* Write the numbers of `count` keys to `out`, -1 for those that were not put. */
void pk_map_get(const pk_map *map, const uint8_t *keys, size_t stride, size_t count, int64_t *out);

#endif
