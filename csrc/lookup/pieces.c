#include "lookup/pieces.h"

#include <string.h>

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

/* Return whether an old piece has a hash, of which four bytes are compared. */
static inline int is_at(const pk_piece_places *old, size_t number, uint32_t hash)
{
    return number < old->count && old->hashes[number] == hash
           && old->streams[number] != PK_NO_STREAM;
}

/* Return the number of a piece near `number` that has a hash, as a piece before may have been cut
 * in two; else old->count. */
static size_t beside(const pk_piece_places *old, size_t number, uint32_t hash)
{
    static const int by[] = {-1, 1, -2, 2};
    for (size_t i = 0; i < sizeof by / sizeof *by; i++)
        if (is_at(old, number + (size_t)by[i], hash))
            return number + (size_t)by[i];
    return old->count;
}

/* Return the number of an old piece that equals a new one, old->count if there is none.
 *
 * found: the number that the map has for it, negative if none. hash: of the new piece. */
static size_t follow(const pk_piece_places *old, pk_piece_course *course, int64_t found,
                     uint32_t hash)
{
    const int is_next = is_at(old, course->next, hash),
              is_other = is_at(old, course->other_next, hash);
    const size_t known =
        found >= 0 && old->streams[found] != PK_NO_STREAM ? (size_t)found : old->count;
    const size_t other = is_other ? course->other_next : known;
    size_t at = course->next;
    if (!is_next) {
        size_t near = is_other ? old->count : beside(old, course->next, hash);
        at = near < old->count ? near : other;
        course->next = near < old->count ? near : course->next; /* else it was replaced */
    }
    course->next++;
    course->run = is_next ? course->run + 1 : 0;
    course->other_next = (other < old->count ? other : course->other_next) + 1;
    course->other_run = is_other ? course->other_run + 1 : 0;
    if (course->other_run > course->run) {
        course->next = course->other_next;
        course->run = course->other_run;
    }
    return at;
}

size_t pk_piece_look_up(const pk_piece_places *old, pk_piece_course *course, const uint8_t *keys,
                        const uint64_t *starts, size_t count, const pk_piece_votes *out)
{
    size_t votes = 0, missing = 0;
    int64_t found[BATCH];
    for (size_t from = 0; from < count; from += BATCH) {
        size_t span = count - from < BATCH ? count - from : BATCH;
        pk_map_get(old->known, keys + from * PK_PIECE_KEY, PK_PIECE_KEY, span, found);
        for (size_t i = 0; i < span; i++) {
            const uint8_t *key = keys + (from + i) * PK_PIECE_KEY;
            uint32_t hash;
            memcpy(&hash, key, sizeof hash);
            size_t number = follow(old, course, found[i], hash);
            if (number < old->count) {
                out->starts[votes] = starts[from + i];
                out->streams[votes] = old->streams[number];
                out->positions[votes++] = old->positions[number];
            } else
                memcpy(out->missing + PK_PIECE_KEY * missing++, key, PK_PIECE_KEY);
        }
    }
    return votes;
}
