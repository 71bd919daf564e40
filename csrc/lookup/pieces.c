#include "lookup/pieces.h"

#include "common/bytes.h"

enum { LANES = 4, STRIPE = LANES * 8, BATCH = 256 /* pieces looked up at a time */ };

static inline uint64_t round_of(uint64_t state, uint64_t word)
{
    state = (state ^ word) * 0x9e3779b97f4a7c15u;
    return state << 29 | state >> 35;
}

/* Source of the lanes, which a processor works on at once: Y. Collet, xxHash, "XXH64". */
static uint64_t hash_of(const uint8_t *data, size_t length)
{
    uint64_t lane[LANES] = {1, 2, 3, 4}, state = length;
    size_t at = 0;
    for (; at + STRIPE <= length; at += STRIPE)
        for (int i = 0; i < LANES; i++)
            lane[i] = round_of(lane[i], pk_load64(data + at + 8 * i));
    for (int i = 0; i < LANES; i++)
        state = round_of(state, lane[i]);
    for (; at + 8 <= length; at += 8)
        state = round_of(state, pk_load64(data + at));
    uint64_t last = 0;
    for (unsigned shift = 0; at < length; at++, shift += 8)
        last |= (uint64_t)data[at] << shift;
    state = round_of(state, last);
    return round_of(state ^ state >> 32, 0);
}

void pk_piece_keys(const uint8_t *data, const uint64_t *ends, size_t count, uint8_t *keys)
{
    size_t start = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t hash = hash_of(data + start, (size_t)ends[i] - start);
        for (unsigned byte = 0; byte < PK_PIECE_KEY; byte++)
            keys[i * PK_PIECE_KEY + byte] = (uint8_t)(hash >> 8 * byte);
        start = (size_t)ends[i];
    }
}

void pk_piece_starts(const uint64_t *ends, size_t count, uint64_t position, uint64_t *starts)
{
    for (size_t i = 0; i < count; i++)
        starts[i] = position + (i ? ends[i - 1] : 0);
}

size_t pk_piece_look_up(const pk_map *known, const uint32_t *streams, const uint64_t *positions,
                        const uint8_t *keys, const uint64_t *starts, size_t count,
                        const pk_piece_votes *out)
{
    size_t votes = 0, missing = 0;
    int64_t found[BATCH];
    for (size_t from = 0; from < count; from += BATCH) {
        size_t span = count - from < BATCH ? count - from : BATCH;
        pk_map_get(known, keys + from * PK_PIECE_KEY, PK_PIECE_KEY, span, found);
        for (size_t i = 0; i < span; i++) {
            if (found[i] >= 0 && streams[found[i]] != PK_NO_STREAM) {
                out->starts[votes] = starts[from + i];
                out->streams[votes] = streams[found[i]];
                out->positions[votes++] = positions[found[i]];
            } else
                memcpy(out->missing + PK_PIECE_KEY * missing++, keys + (from + i) * PK_PIECE_KEY,
                       PK_PIECE_KEY);
        }
    }
    return votes;
}
