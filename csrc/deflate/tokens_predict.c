/* Predictions: the old token at the aligned place, fitted to the new text; or the fall-back's. */
#include "deflate/tokens_walk.h"

/* ---- Alignment ---- */

static void enter_shift(walker *with, uint32_t number)
{
    with->shift_at = number;
    with->shift_end = number + 1 < with->shift_count ? with->shifts[number + 1].at : with->size;
}

void pk_walk_shifts(walker *with, const shift *shifts, size_t count)
{
    with->shifts = shifts;
    with->shift_count = (uint32_t)count;
    if (count)
        enter_shift(with, 0);
}

/* As pk_equal_ahead, for texts that may agree for long. */
static inline size_t equal_far(const uint8_t *one, const uint8_t *other, size_t most)
{
    enum { AT_ONCE = 512 };
    size_t length = 0;
    while (length + AT_ONCE <= most && !memcmp(one + length, other + length, AT_ONCE))
        length += AT_ONCE;
    return length + pk_equal_ahead(one + length, other + length, most - length);
}

/* See how far data and old span agree around `at`. Returns whether they do there. */
int pk_walk_align(walker *with, uint32_t at)
{
    if (at < with->equal_to)
        return 1;
    if (!with->shift_count)
        return 0;
    uint32_t differ =
        with->equal_to; /* the last place that is known to, but for the one at hand */
    if (at >= with->shift_end) {
        uint32_t number = with->shift_at;
        while (number + 1 < with->shift_count && with->shifts[number + 1].at <= at)
            number++;
        enter_shift(with, number);
        differ = 0;
    }
    const shift *now = &with->shifts[with->shift_at];
    int64_t there = (int64_t)at - now->by;
    uint32_t low = differ ? differ + 1 : now->at;
    with->equal_to = at;
    if (there < 0 || there >= (int64_t)with->old->size)
        return 0;
    uint32_t most = with->shift_end - at, left = (uint32_t)(with->old->size - (size_t)there);
    uint32_t length =
        (uint32_t)equal_far(with->data + at, with->old->plain + there, most < left ? most : left);
    if (!length)
        return 0;
    uint32_t back = at > low ? at - low : 0;
    if (back > (uint32_t)there)
        back = (uint32_t)there;
    if (back > CLEAR)
        back = CLEAR;
    with->equal_from =
        at - (uint32_t)pk_equal_behind(with->data + at, with->old->plain + there, back);
    with->equal_to = at + length;
    return 1;
}

/* Where a place of the old span stands in the data, before `at`; UINT32_MAX if nowhere. */
static uint32_t new_place(const walker *with, int64_t there, uint32_t at)
{
    uint32_t end = with->shift_end;
    uint32_t low = with->shift_at < MOST_STEPS ? 0 : with->shift_at - MOST_STEPS;
    for (uint32_t number = with->shift_at + 1; number-- > low;) {
        const shift *now = &with->shifts[number];
        int64_t place = there + now->by;
        if (place >= (int64_t)now->at && place < (int64_t)end && place < (int64_t)at)
            return at - (uint32_t)place <= PK_WINDOW ? (uint32_t)place : UINT32_MAX;
        end = now->at;
        if (at - end > PK_WINDOW)
            break;
    }
    return UINT32_MAX;
}

static inline unsigned recent_of(const walker *with)
{
    return with->recent < 2 ? 0 : with->recent < 8 ? 1 : with->recent < RECENT ? 2 : 3;
}

static inline unsigned zone_of(uint32_t since)
{
    return since < 64 ? 0 : since < 1024 ? 1 : since < 8192 ? 2 : since < PK_WINDOW ? 3 : 4;
}

static guess fall_back(walker *with, uint32_t at, unsigned kind)
{
    guess out = {with->data[at], kind, NULL};
    uint32_t distance, length = pk_finder_longest(with->find, at, &distance);
    out.token = pk_finder_predict(with->find, at);
    unsigned class = !length       ? 0
                     : length < 4  ? 1
                     : length < 5  ? 2
                     : length < 7  ? 3
                     : length < 12 ? 4
                     : length < 32 ? 5
                                   : 6;
    out.chance = &with->is->fall[class][recent_of(with)][out.token > 255];
    return out;
}

/* The length of a match that the old one, of `length` bytes, becomes. */
static inline uint32_t match_length(const walker *with, uint32_t at, uint32_t from, int64_t there,
                                    uint32_t distance, uint32_t length, unsigned *kind)
{
    uint32_t most = with->size - at < PK_MAX_MATCH ? with->size - at : PK_MAX_MATCH;
    uint32_t found = (uint32_t)pk_equal_ahead(with->data + from, with->data + at, most);
    if (found < length) {
        *kind = KIND_SHORTER;
        return found;
    }
    if (found == length)
        return length;
    /* Was the old one as long as it could be? */
    const pk_old *old = with->old;
    int64_t end = there + length;
    if (end < (int64_t)old->size
        && (end < distance || old->plain[end] == old->plain[end - distance]))
        return length;
    *kind = KIND_LONGER;
    return found;
}

/* Predict the token at a place that is not far from all changes. */
guess pk_walk_predict(walker *with, uint32_t at)
{
    if (!pk_walk_align(with, at))
        return fall_back(with, at, KIND_FALL);
    const shift *now = &with->shifts[with->shift_at];
    uint32_t there = (uint32_t)((int64_t)at - now->by);
    old_seek(with->old, &with->place, there);
    pk_token token = with->old->tokens[with->place.token];
    uint32_t length = token_bytes(token), distance = token & 0xffff;
    guess out = {with->data[at], KIND_LITERAL, NULL};
    uint32_t since = at - with->equal_from;
    if (with->place.at != there) {
        length = with->place.at + length - there;
        out.kind = length < 3 ? KIND_REST_LITERAL : KIND_REST;
    }
    if (token >= 256 && out.kind != KIND_REST_LITERAL) {
        unsigned kind = out.kind == KIND_REST ? KIND_REST : KIND_SAME;
        uint32_t from;
        if (distance <= since) {
            from = at - distance;
        } else {
            from = new_place(with, (int64_t)there - distance, at);
            if (from == UINT32_MAX)
                return fall_back(with, at, KIND_LOST);
            if (kind == KIND_SAME)
                kind = KIND_MOVED;
        }
        if (distance > since || at + length >= with->equal_to) {
            length = match_length(with, at, from, there, distance, length, &kind);
            if (length < 3)
                return fall_back(with, at, KIND_LOST);
        }
        out.token = length << 16 | (at - from);
        out.kind = kind;
    } else {
        length = 1;
    }
    uint32_t end = at + length;
    unsigned recent = recent_of(with), class = end >= with->equal_to ? 0 : 1, agrees = 0;
    if (end + 8 <= with->equal_to) {
        uint32_t unused;
        if (recent < 3) {
            agrees = pk_finder_predict(with->find, at) == out.token ? 2 : 1;
            if (length == 1)
                length = pk_finder_longest(with->find, at, &unused);
        }
        class = length < 3 ? 2 : length < 5 ? length - 1 : length < 7 ? 4 : 5;
    }
    out.chance = &with->is->right[out.kind][zone_of(since)][recent][class][agrees];
    return out;
}

/* The end of the place that is far from changes: behind it tokens are asked about one by one. */
uint32_t pk_walk_clear(walker *with, uint32_t at)
{
    if (with->recent < RECENT || !pk_walk_align(with, at) || at - with->equal_from < CLEAR
        || with->equal_to - at <= MARGIN)
        return 0;
    uint32_t there = (uint32_t)((int64_t)at - with->shifts[with->shift_at].by);
    old_seek(with->old, &with->place, there);
    return with->place.at == there ? with->equal_to - MARGIN : 0;
}

/* Where the first old block ends that ends behind `at`. */
uint32_t pk_walk_old_end(const walker *with, uint32_t at)
{
    const pk_old *old = with->old;
    uint32_t number = with->shift_at;
    while (number + 1 < with->shift_count && with->shifts[number + 1].at <= at)
        number++;
    for (uint32_t last = number + 16 * MOST_STEPS; number < with->shift_count && number < last;
         number++) {
        const shift *now = &with->shifts[number];
        int64_t first = (int64_t)(at >= now->at ? at + 1 : now->at) - now->by;
        uint32_t stop =
            number + 1 < with->shift_count ? with->shifts[number + 1].at : with->size + 1;
        size_t low = 0, high = old->end_count;
        while (low < high) {
            size_t middle = (low + high) / 2;
            if ((int64_t)old->ends[middle] < first)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < old->end_count && (int64_t)old->ends[low] + now->by < (int64_t)stop)
            return (uint32_t)((int64_t)old->ends[low] + now->by);
    }
    return with->size;
}
