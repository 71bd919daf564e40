#include "zstd/search.h"

#include <string.h>

#include "common/bytes.h"
#include "zstd/internal.h"

enum { STEPS = 4, MOST_BACK = 1024, REPEATS_FROM = 3 };

static inline uint32_t *long_of(pk_zstd_search *with, uint64_t bytes)
{
    return &with->longs[bytes * UINT64_C(0xcf1bbcdcb7a56463) >> (64 - PK_ZSTD_LONGS)];
}

static inline uint32_t *short_of(pk_zstd_search *with, uint64_t bytes)
{
    return &with->shorts[(bytes << 24) * UINT64_C(889523592379) >> (64 - PK_ZSTD_SHORTS)];
}

static inline void try_place(pk_zstd_search *with, uint32_t *slot, uint32_t place)
{
    with->entries[with->tried++] = (pk_zstd_entry){slot, *slot, place};
    *slot = place + 1;
}

void pk_zstd_search_frame(pk_zstd_search *with, const uint8_t *data)
{
    with->data = data;
    memset(with->longs, 0, sizeof with->longs);
    memset(with->shorts, 0, sizeof with->shorts);
}

void pk_zstd_search_block(pk_zstd_search *with, uint32_t at, uint32_t end)
{
    with->end = end;
    with->steps = STEPS * (end - at);
    with->count = with->tried = 0;
    with->repeats = with->behind_match = 0;
}

/* Bytes before two places that are equal. */
static uint32_t equal_before(const uint8_t *data, uint32_t one, uint32_t other, uint32_t most)
{
    uint32_t count = 0;
    if (most > MOST_BACK)
        most = MOST_BACK;
    while (count < most && data[one - count - 1] == data[other - count - 1])
        count++;
    return count;
}

static int found(pk_zstd_search *with, uint32_t at, uint32_t place, uint32_t source,
                 pk_zstd_sequence *to)
{
    uint32_t most = place - at < source ? place - at : source;
    to->literals = place - at - equal_before(with->data, source, place, most);
    to->offset = place - source + 3;
    return 1;
}

int pk_zstd_search_next(pk_zstd_search *with, uint32_t at, const uint32_t repeats[3],
                        pk_zstd_sequence *to)
{
    const uint8_t *data = with->data;
    with->tried = 0;
    with->next = at;
    to->length = PK_ZSTD_LEAST_MATCH;
    if (with->behind_match && at + PK_ZSTD_MARGIN < with->end && repeats[1] <= at
        && pk_load32(data + at) == pk_load32(data + at - repeats[1])) {
        to->literals = 0;
        to->offset = 1;
        return 1;
    }
    for (uint32_t place; (place = with->next) + PK_ZSTD_MARGIN < with->end;) {
        if (!with->steps || with->tried > PK_ZSTD_TRIED - 3)
            return 0;
        with->steps--;
        with->next = place + 1 + ((place - at) >> 7);
        uint64_t bytes = pk_load64(data + place);
        uint32_t *far = long_of(with, bytes), *near = short_of(with, bytes);
        uint32_t long_match = *far, short_match = *near;
        try_place(with, far, place);
        try_place(with, near, place);
        if (with->repeats && repeats[0] <= place + 1
            && pk_load32(data + place + 1 - repeats[0]) == (uint32_t)(bytes >> 8)) {
            uint32_t source = place + 1 - repeats[0];
            uint32_t most = place - at < source ? place - at : source;
            to->literals = place + 1 - at - equal_before(data, source, place + 1, most);
            to->offset = 1;
            return 1;
        }
        if (long_match && pk_load32(data + long_match - 1) == (uint32_t)bytes)
            return found(with, at, place, long_match - 1, to);
        if (short_match && pk_load32(data + short_match - 1) == (uint32_t)bytes) {
            far = long_of(with, pk_load64(data + place + 1));
            long_match = *far;
            try_place(with, far, place + 1);
            if (long_match && pk_load32(data + long_match - 1) == pk_load32(data + place + 1))
                return found(with, at, place + 1, long_match - 1, to);
            return found(with, at, place, short_match - 1, to);
        }
    }
    return 0;
}

/* Make the tables what they are if the search ended at another place than was found. */
static void correct(pk_zstd_search *with, uint32_t at, uint32_t place)
{
    while (with->tried && with->entries[with->tried - 1].place > place) {
        with->tried--;
        *with->entries[with->tried].slot = with->entries[with->tried].was;
    }
    for (uint32_t next = with->next; with->steps && next <= place;
         next += 1 + ((next - at) >> 7), with->steps--) {
        if (next + PK_ZSTD_MARGIN >= with->end)
            return;
        uint64_t bytes = pk_load64(with->data + next);
        *long_of(with, bytes) = *short_of(with, bytes) = next + 1;
    }
}

void pk_zstd_search_took(pk_zstd_search *with, uint32_t at, const pk_zstd_sequence *sequence,
                         int found)
{
    const uint32_t place = at + sequence->literals, next = place + sequence->length;
    if (!found)
        correct(with, at, place);
    with->count++;
    if (next + PK_ZSTD_MARGIN >= with->end)
        return; /* nothing behind it is searched */
    if (sequence->offset == 1) {
        with->behind_match = with->behind_match && !sequence->literals;
        if (with->behind_match) {
            uint64_t bytes = pk_load64(with->data + place);
            *long_of(with, bytes) = *short_of(with, bytes) = place + 1;
        }
        return;
    }
    with->behind_match = with->repeats;
    with->repeats = with->count >= REPEATS_FROM;
    uint64_t first = pk_load64(with->data + place + 1), last = pk_load64(with->data + next - 2);
    *long_of(with, first) = place + 2;
    *long_of(with, last) = next - 1;
    *short_of(with, first >> 8) = place + 3;
    *short_of(with, last >> 8) = next;
}

void pk_zstd_search_raw(pk_zstd_search *with, uint32_t at, uint32_t end, const uint32_t repeats[3])
{
    uint32_t now[3] = {repeats[0], repeats[1], repeats[2]};
    pk_zstd_sequence sequence;
    pk_zstd_search_block(with, at, end);
    while (pk_zstd_search_next(with, at, now, &sequence)) {
        uint32_t place = at + sequence.literals;
        uint32_t offset = pk_zstd_offset(now, sequence.offset, sequence.literals);
        sequence.length =
            (uint32_t)pk_equal_ahead(with->data + place - offset, with->data + place, end - place);
        pk_zstd_search_took(with, at, &sequence, 1);
        at = place + sequence.length;
    }
}
