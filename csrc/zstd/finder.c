/* Positions enter the chains only when a place behind them is asked about, so blocks without
 * sequences cost nothing. */
#include "zstd/finder.h"

#include <string.h>

#include "common/bytes.h"
#include "zstd/internal.h"

pk_status pk_zstd_finder_start(pk_zstd_finder *with, const uint8_t *data, uint32_t size)
{
    with->data = data;
    with->size = size;
    with->inserted = 0;
    memset(with->head, 0, sizeof with->head);
    return pk_zstd_grow((void **)&with->back, &with->capacity, size, sizeof *with->back);
}

static inline uint32_t hash_of(const uint8_t *at)
{
    return pk_load32(at) * 0x9e3779b1u >> (32 - PK_ZSTD_HEADS);
}

unsigned pk_zstd_find(pk_zstd_finder *with, uint32_t at, uint32_t most,
                      uint32_t offsets[PK_ZSTD_DEPTH], unsigned *best)
{
    unsigned count = 0;
    size_t longest = 0;
    *best = 0;
    if (with->size - at < PK_ZSTD_LEAST_FOUND)
        return 0;
    for (; with->inserted <= at; with->inserted++) {
        uint32_t *head = &with->head[hash_of(with->data + with->inserted)];
        with->back[with->inserted] = *head;
        *head = with->inserted + 1;
    }
    const uint8_t *here = with->data + at;
    if (most > PK_ZSTD_COMPARED)
        most = PK_ZSTD_COMPARED;
    uint32_t there = with->back[at];
    for (unsigned left = PK_ZSTD_DEPTH; there && left; left--, there = with->back[there - 1]) {
        const uint8_t *other = with->data + there - 1;
        if (pk_load32(other) != pk_load32(here))
            continue;
        size_t length = longest < most ? pk_equal_ahead(other, here, most) : 0;
        if (length > longest) {
            longest = length;
            *best = count;
        }
        offsets[count++] = at + 1 - there;
    }
    return count;
}
