#include "zstd/old.h"

#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "delta/copies.h"
#include "zstd/predict.h"

pk_zstd_old *pk_zstd_old_new(void)
{
    return calloc(1, sizeof(pk_zstd_old));
}

void pk_zstd_old_free(pk_zstd_old *old)
{
    if (!old)
        return;
    free(old->plain);
    free(old->matches);
    free(old);
}

pk_status pk_zstd_old_begin(pk_zstd_old *old, uint64_t start, uint32_t size)
{
    if (size > PK_ZSTD_OLD_PLAIN || start > INT64_MAX)
        return PK_INVALID;
    old->start = start;
    old->wanted = size;
    old->size = old->count = 0;
    return PK_OK;
}

size_t pk_zstd_matches(const pk_zstd_segment *segment, pk_zstd_old_match *out)
{
    uint32_t repeats[3];
    uint64_t position = 0;
    size_t count = 0;
    memcpy(repeats, segment->start.repeats, sizeof repeats);
    for (size_t i = 0; i < segment->block_count; i++) {
        const pk_zstd_block *block = &segment->blocks[i];
        const pk_zstd_sequence *sequence = segment->sequences + block->first;
        uint64_t at = position;
        if (block->header_length) {
            pk_zstd_state state;
            pk_zstd_state_frame(&state, 0);
            memcpy(repeats, state.repeats, sizeof repeats);
        }
        for (uint32_t left = block->kind == PK_ZSTD_COMPRESSED ? block->sequences : 0; left;
             left--, sequence++) {
            uint32_t value = sequence->offset - 3;
            int fits = sequence->offset > 3
                       && (value == repeats[0] || value == repeats[1] || value == repeats[2]);
            uint32_t offset = pk_zstd_offset(repeats, sequence->offset, sequence->literals);
            at += sequence->literals;
            out[count++] = (pk_zstd_old_match){
                (uint32_t)at, sequence->length, offset,
                (uint8_t)(sequence->offset > 3 ? 0 : sequence->offset), (uint8_t)fits};
            at += sequence->length;
        }
        position += block->plain;
    }
    return count;
}

pk_status pk_zstd_old_add(pk_zstd_old *old, const uint8_t *plain, size_t size,
                          const pk_zstd_old_match *matches, size_t count, uint64_t position)
{
    const uint64_t end = position + size, there = old->start + old->size;
    if (end <= old->start || there >= old->start + old->wanted)
        return PK_OK;
    if (position > there || (old->size && position != there))
        return PK_INVALID;
    size_t skip = (size_t)(there - position), most = old->wanted - old->size;
    size_t length = size - skip < most ? size - skip : most;
    if (pk_zstd_grow((void **)&old->plain, &old->capacity, old->size + length + PK_ZSTD_PAD, 1)
        || pk_zstd_grow((void **)&old->matches, &old->match_capacity, old->count + count,
                        sizeof *old->matches))
        return PK_NO_MEMORY;
    memcpy(old->plain + old->size, plain + skip, length);
    old->size += length;
    uint64_t behind = 0;
    for (size_t i = 0; i < count; i++) {
        pk_zstd_old_match match = matches[i];
        uint64_t at = position + match.at;
        if (match.at < behind || (behind = (uint64_t)match.at + match.length) > size)
            return PK_INVALID;
        if (at < old->start || position + behind > old->start + old->wanted)
            continue; /* it does not lie in the span as a whole */
        match.at = (uint32_t)(at - old->start);
        old->matches[old->count++] = match;
    }
    return PK_OK;
}

/* ---- Alignment ---- */

pk_status pk_zstd_align(pk_zstd_old *old, const pk_zstd_segment *segment, const uint8_t *window,
                        size_t before, pk_zstd_shift *shifts, uint32_t *count)
{
    const size_t prefix = old->size, size = prefix + before + segment->size;
    unsigned log = 10;
    while (log < 22 && (size_t)1 << log < size / 32)
        log++;
    size_t capacity = (size - prefix) / 64 + 1;
    if (capacity > PK_ZSTD_SHIFTS)
        capacity = PK_ZSTD_SHIFTS;
    uint32_t *table = malloc(sizeof *table << log);
    pk_copy *copies = malloc(capacity * sizeof *copies);
    pk_status status = PK_NO_MEMORY;
    *count = 0;
    if (table && copies
        && !pk_zstd_grow((void **)&old->plain, &old->capacity, size + PK_ZSTD_PAD, 1)) {
        if (before)
            memcpy(old->plain + prefix, window, before);
        memcpy(old->plain + prefix + before, segment->plain, segment->size);
        size_t found = pk_delta_find(old->plain, prefix, size, table, log, copies, capacity);
        for (size_t i = 0; i < found; i++) {
            if (copies[i].from >= prefix)
                continue; /* a repetition within the new text */
            int32_t at = (int32_t)copies[i].at - (int32_t)(prefix + before);
            int32_t by = at - (int32_t)copies[i].from;
            if (*count && shifts[*count - 1].by == by)
                continue;
            shifts[*count] = (pk_zstd_shift){*count ? at : -(int32_t)before, by};
            ++*count;
        }
        status = PK_OK;
    }
    free(copies);
    free(table);
    return status;
}

/* ---- Prediction ---- */

/* COMPARED: bytes. A stranger decides how often all this is done. */
enum { MOST_STEPS = 64, MOST_AHEAD = 16, COMPARED = 1024 };

/* The first old match that ends behind `there`. */
static size_t first_match(const pk_zstd_predictor *with, uint32_t there, size_t from)
{
    const pk_zstd_old *old = with->old;
    size_t low = 0, high = old->count;
    /* It is near the last one mostly. */
    if (from < high
        && (!from || old->matches[from - 1].at + old->matches[from - 1].length <= there))
        for (unsigned step = 0; step < 8 && from < high; step++, from++)
            if (old->matches[from].at + old->matches[from].length > there)
                return from;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (old->matches[middle].at + old->matches[middle].length <= there)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Where a shift ends that holds at a place of the segment or begins in it. */
static uint32_t shift_end(const pk_zstd_predictor *with, uint32_t number)
{
    return number + 1 < with->shift_count ? (uint32_t)with->shifts[number + 1].at : with->size;
}

/* The offset that the old one is, now that its source has moved. */
static uint32_t moved_offset(const pk_zstd_predictor *with, uint32_t number, int64_t source,
                             uint32_t at, uint32_t offset)
{
    uint32_t low = number < MOST_STEPS ? 0 : number - MOST_STEPS;
    int64_t end = at;
    for (uint32_t i = number + 1; i-- > low;) {
        const pk_zstd_shift *now = &with->shifts[i];
        int64_t place = source + now->by;
        if (place >= (i ? (int64_t)now->at : INT64_MIN) && place < end && at - place <= INT32_MAX)
            return (uint32_t)(at - place);
        end = now->at;
    }
    return offset;
}

/* The length of a match that the old one becomes. */
static uint32_t fitted(const pk_zstd_predictor *with, const pk_zstd_old_match *match, uint32_t at,
                       uint32_t offset, uint32_t length, uint32_t left)
{
    const pk_zstd_old *old = with->old;
    uint32_t most = length < left ? length : left;
    if (offset > at)
        return most;
    const uint8_t *here = with->plain + at;
    uint32_t near = most < COMPARED ? most : COMPARED;
    uint32_t equal = (uint32_t)pk_equal_ahead(here - offset, here, near);
    if (equal < near)
        return equal;
    if (near < most || most == left || here[most] != here[(int64_t)most - offset])
        return most;
    /* Could the old one have been longer? */
    uint32_t end = match->at + match->length;
    if (end < old->size && end >= match->offset
        && old->plain[end] == old->plain[end - match->offset])
        return most;
    if (left - most > COMPARED)
        left = most + COMPARED;
    return most + (uint32_t)pk_equal_ahead(here - offset + most, here + most, left - most);
}

static uint32_t value_of(const pk_zstd_old_match *match, const uint32_t repeats[3],
                         uint32_t literals, uint32_t offset)
{
    for (unsigned i = match->value ? 0 : 1; i < 4; i++) {
        uint32_t value = i ? i : match->value, now[3] = {repeats[0], repeats[1], repeats[2]};
        if (!match->written && pk_zstd_offset(now, value, literals) == offset)
            return value;
    }
    return offset + 3;
}

unsigned pk_zstd_predict(pk_zstd_predictor *with, uint32_t at, uint32_t left,
                         const uint32_t repeats[3], pk_zstd_sequence *to)
{
    if (!with->shift_count)
        return PK_ZSTD_NONE;
    while (with->shift + 1 < with->shift_count && with->shifts[with->shift + 1].at <= (int32_t)at)
        with->shift++;
    uint32_t place = at, number = with->shift;
    for (unsigned ahead = 0; ahead < MOST_AHEAD && number < with->shift_count; ahead++, number++) {
        const pk_zstd_shift *now = &with->shifts[number];
        int64_t there = (int64_t)place - now->by;
        uint32_t end = shift_end(with, number);
        if (there >= 0 && there < (int64_t)with->old->size) {
            size_t which = first_match(with, (uint32_t)there, with->match);
            with->match = which;
            if (which == with->old->count)
                return PK_ZSTD_NONE;
            const pk_zstd_old_match *match = &with->old->matches[which];
            unsigned kind = ahead ? PK_ZSTD_CROSSED : PK_ZSTD_SAME;
            uint32_t length = match->length, begin = match->at;
            if (begin < there) {
                length -= (uint32_t)(there - begin);
                begin = (uint32_t)there;
                kind = PK_ZSTD_REST;
            }
            int64_t start = (int64_t)begin + now->by;
            if (start < end) {
                if (start - at + PK_ZSTD_LEAST_MATCH > left || length < PK_ZSTD_LEAST_MATCH)
                    return PK_ZSTD_NONE;
                to->literals = (uint32_t)(start - at);
                uint32_t offset = moved_offset(with, number, (int64_t)begin - match->offset,
                                               (uint32_t)start, match->offset);
                if (offset != match->offset && kind == PK_ZSTD_SAME)
                    kind = PK_ZSTD_MOVED;
                to->length =
                    fitted(with, match, (uint32_t)start, offset, length, left - to->literals);
                if (to->length != length && kind == PK_ZSTD_SAME)
                    kind = PK_ZSTD_FITTED;
                to->offset = value_of(match, repeats, to->literals, offset);
                return to->length < PK_ZSTD_LEAST_MATCH ? PK_ZSTD_NONE : kind;
            }
        }
        place = end;
    }
    return PK_ZSTD_NONE;
}
