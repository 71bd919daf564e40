#include "pk_delta.h"

#include <string.h>

enum {
    SAMPLE = 16,      /* bytes of a fingerprint */
    SAMPLE_LOG = 4,   /* of one position in so many, which content decides, a fingerprint is taken */
    LEAST = 256,      /* a shorter stretch is left to zstd, which codes it in fewer bytes */
    LEAST_NEAR = 96,  /* unless it goes on near where the source of the last copy ended */
    NEAR_SPAN = 64,   /* how far behind a copy the text may go on there, */
    NEAR_SHIFT = 32,  /* and how many bytes may have been inserted or removed */
    REFUSED_LOG = 8,  /* stretches remembered as too short */
    WAYS = 4          /* places remembered for one fingerprint, the newest ones */
};

static inline uint64_t load64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    return value;
}

static inline int is_sample(const uint8_t *at)
{
    return load64(at) * 0x9fb21c651e98df25u >> (64 - SAMPLE_LOG) == 0;
}

static inline size_t bucket_of(const uint8_t *at, unsigned log)
{
    uint64_t value = load64(at) * 0x9e3779b97f4a7c15u;
    value = (value ^ value >> 32) + load64(at + 8);
    value *= 0xd6e8feb86659fd93u;
    return (size_t)(value >> (64 - log)) * WAYS;
}

/* How many bytes are equal from `one` and `other` on, at most `most`. */
static size_t ahead(const uint8_t *one, const uint8_t *other, size_t most)
{
    size_t length = 0;
    while (length + 8 <= most) {
        uint64_t differ = load64(one + length) ^ load64(other + length);
        if (differ)
            return length + (size_t)(__builtin_ctzll(differ) >> 3);
        length += 8;
    }
    while (length < most && one[length] == other[length])
        length++;
    return length;
}

/* How many bytes are equal before `one` and `other`, at most `most`. */
static size_t behind(const uint8_t *one, const uint8_t *other, size_t most)
{
    size_t length = 0;
    while (length < most && one[-1 - (ptrdiff_t)length] == other[-1 - (ptrdiff_t)length])
        length++;
    return length;
}

static void note(uint32_t *table, unsigned log, const uint8_t *data, size_t at)
{
    uint32_t *ways = table + bucket_of(data + at, log);
    memmove(ways + 1, ways, (WAYS - 1) * sizeof *ways);
    ways[0] = (uint32_t)at + 1;
}

/* The longest stretch around `at` that also stands around `from`: text from `floor` on, a source that lies
 * wholly in the older bytes or wholly in the text before. */
static pk_copy stretch(const uint8_t *data, size_t prefix, size_t size, size_t floor, size_t at, size_t from)
{
    size_t first = from < prefix ? 0 : prefix;
    size_t back = at - floor < from - first ? at - floor : from - first;
    if (from >= prefix && back > at - from)
        back = at - from; /* or the source would reach into the copy */
    back = behind(data + at, data + from, back);
    size_t end = from < prefix ? prefix : at - back;
    size_t most = size - at < end - from ? size - at : end - from;
    size_t length = back + ahead(data + at, data + from, most);
    return (pk_copy){(uint32_t)(at - back), (uint32_t)(from - back), (uint32_t)length};
}

/* Where the text goes on near the end of the last copy's source, as it does behind a small change. */
static pk_copy resumed(const uint8_t *data, size_t prefix, size_t size, size_t floor, size_t source)
{
    pk_copy best = {0, 0, 0};
    ptrdiff_t low = source <= prefix ? 0 : (ptrdiff_t)prefix, high = (ptrdiff_t)(source <= prefix ? prefix : floor);
    for (size_t step = 0; step < NEAR_SPAN && floor + step + SAMPLE <= size; step++) {
        uint64_t here = load64(data + floor + step);
        for (int turn = 0; turn <= 2 * NEAR_SHIFT; turn++) {
            ptrdiff_t from = (ptrdiff_t)(source + step) + (turn & 1 ? (turn + 1) / 2 : -(turn / 2));
            if (from < low || from + SAMPLE > high || load64(data + from) != here)
                continue;
            pk_copy one = stretch(data, prefix, size, floor, floor + step, (size_t)from);
            if (one.length >= LEAST_NEAR && one.length > best.length)
                best = one;
        }
        if (best.length)
            break;
    }
    return best;
}

/* Stretches that turned out too short: not looked at again at each of their bytes. */
typedef struct refusal {
    size_t shift, end;
} refusal;

static refusal *refusal_of(refusal *refused, size_t at, size_t from)
{
    return refused + ((uint32_t)(at - from) * 0x9e3779b1u >> (32 - REFUSED_LOG));
}

/* The longest stretch around `at` that stands at a place with the same fingerprint. */
static pk_copy elsewhere(const uint8_t *data, size_t prefix, size_t size, size_t floor, size_t at,
                         const uint32_t *ways, refusal *refused)
{
    pk_copy best = {0, 0, 0};
    for (int way = 0; way < WAYS && ways[way]; way++) {
        size_t from = ways[way] - 1;
        refusal *row = refusal_of(refused, at, from);
        if ((row->shift == at - from && at < row->end) || memcmp(data + at, data + from, SAMPLE))
            continue;
        pk_copy one = stretch(data, prefix, size, floor, at, from);
        if (one.length > best.length && one.length >= LEAST)
            best = one;
        if (one.length < LEAST)
            *row = (refusal){at - from, (size_t)one.at + one.length};
    }
    return best;
}

size_t pk_delta_find(const uint8_t *data, size_t prefix, size_t size, uint32_t *table, unsigned table_log,
                     pk_copy *copies, size_t capacity)
{
    unsigned log = table_log - 2; /* of the number of buckets */
    memset(table, 0, sizeof *table << table_log);
    for (size_t at = 0; at + SAMPLE <= prefix; at++)
        if (is_sample(data + at))
            note(table, log, data, at);
    refusal refused[1 << REFUSED_LOG] = {{0, 0}};
    size_t count = 0, floor = prefix, at = prefix;
    pk_copy found = resumed(data, prefix, size, floor, 0);
    while (at + SAMPLE <= size && count < capacity) {
        if (!found.length) {
            if (!is_sample(data + at)) {
                at++;
                continue;
            }
            found = elsewhere(data, prefix, size, floor, at, table + bucket_of(data + at, log), refused);
            if (!found.length) { /* what a copy covers stands elsewhere already */
                note(table, log, data, at++);
                continue;
            }
        }
        copies[count++] = found;
        floor = at = (size_t)found.at + found.length;
        found = resumed(data, prefix, size, floor, (size_t)found.from + found.length);
    }
    return count;
}

static void keep(uint8_t *kept, size_t prefix, size_t from, size_t before, size_t behind)
{
    size_t start = from > before ? from - before : 0, end = prefix - from > behind ? from + behind : prefix;
    size_t first = start / PK_DELTA_BLOCK, last = (end + PK_DELTA_BLOCK - 1) / PK_DELTA_BLOCK;
    memset(kept + first, 1, last - first);
}

size_t pk_delta_older_rest(const uint8_t *data, size_t prefix, size_t size, const pk_copy *copies, size_t count,
                           size_t reach, uint8_t *kept, uint8_t *out)
{
    size_t margin = reach * PK_DELTA_BLOCK;
    size_t blocks = (prefix + PK_DELTA_BLOCK - 1) / PK_DELTA_BLOCK, length = 0, done = prefix;
    memset(kept, !count, blocks);
    for (size_t i = 0; i < count; i++) {
        size_t gap = copies[i].at - done;
        done = (size_t)copies[i].at + copies[i].length;
        size_t next = (i + 1 < count ? copies[i + 1].at : size) - done;
        if (copies[i].from >= prefix)
            continue;
        if (gap)
            keep(kept, prefix, copies[i].from, reach * gap + margin, margin);
        if (next)
            keep(kept, prefix, (size_t)copies[i].from + copies[i].length, margin, reach * next + margin);
    }
    for (size_t block = 0; block < blocks; block++) {
        size_t at = block * PK_DELTA_BLOCK;
        size_t part = prefix - at < PK_DELTA_BLOCK ? prefix - at : PK_DELTA_BLOCK;
        if (kept[block]) {
            memcpy(out + length, data + at, part);
            length += part;
        }
    }
    return length;
}

size_t pk_delta_rest(const uint8_t *data, size_t prefix, size_t size, const pk_copy *copies, size_t count,
                     uint8_t *out)
{
    size_t at = prefix, length = 0;
    for (size_t i = 0; i < count; i++) {
        memcpy(out + length, data + at, copies[i].at - at);
        length += copies[i].at - at;
        at = copies[i].at + copies[i].length;
    }
    memcpy(out + length, data + at, size - at);
    return length + (size - at);
}

/* Whether a copy may follow text up to `done`. */
static int is_sound(const pk_copy *copy, size_t prefix, size_t size, size_t done)
{
    size_t at = copy->at, from = copy->from, length = copy->length;
    return length > 0 && at >= done && at <= size && length <= size - at && from <= at && length <= at - from &&
           (from >= prefix || length <= prefix - from);
}

int pk_delta_apply(uint8_t *data, size_t prefix, size_t size, const pk_copy *copies, size_t count,
                   const uint8_t *rest, size_t rest_length)
{
    size_t done = prefix;
    for (size_t i = 0; i < count; i++) {
        if (!is_sound(&copies[i], prefix, size, done))
            return -1;
        size_t gap = copies[i].at - done;
        if (gap > rest_length)
            return -1;
        memcpy(data + done, rest, gap);
        rest += gap;
        rest_length -= gap;
        memcpy(data + copies[i].at, data + copies[i].from, copies[i].length);
        done = (size_t)copies[i].at + copies[i].length;
    }
    if (rest_length != size - done)
        return -1;
    memcpy(data + done, rest, rest_length);
    return 0;
}

static uint8_t *put_number(uint8_t *out, uint32_t value)
{
    for (; value >= 0x80; value >>= 7)
        *out++ = (uint8_t)(value | 0x80);
    *out++ = (uint8_t)value;
    return out;
}

size_t pk_delta_encode(const pk_copy *copies, size_t count, size_t prefix, uint8_t *out)
{
    uint8_t *start = out;
    out = put_number(out, (uint32_t)count);
    /* Three columns: numbers of one kind have more in common with each other than with their neighbours. */
    for (size_t i = 0; i < count; i++)
        out = put_number(out, copies[i].at - (i ? copies[i - 1].at + copies[i - 1].length : (uint32_t)prefix));
    for (size_t i = 0; i < count; i++)
        out = put_number(out, copies[i].length);
    uint32_t expected = 0, done = (uint32_t)prefix;
    for (size_t i = 0; i < count; i++) {
        expected += copies[i].at - done;
        uint32_t moved = copies[i].from - expected; /* modulo 2^32, as the sum on the other side */
        out = put_number(out, moved << 1 ^ (moved >> 31 ? UINT32_MAX : 0));
        expected = copies[i].from + copies[i].length;
        done = copies[i].at + copies[i].length;
    }
    return (size_t)(out - start);
}

/* Returns where the number ends, or NULL if there is none below 2^32. */
static const uint8_t *get_number(const uint8_t *in, const uint8_t *end, uint32_t *value)
{
    uint64_t sum = 0;
    for (unsigned shift = 0; in < end && shift < 35; shift += 7) {
        sum |= (uint64_t)(*in & 0x7f) << shift;
        if (!(*in++ & 0x80)) {
            *value = (uint32_t)sum;
            return sum >> 32 ? NULL : in;
        }
    }
    return NULL;
}

int64_t pk_delta_decode(const uint8_t *in, size_t length, size_t prefix, size_t size, pk_copy *copies,
                        size_t capacity)
{
    const uint8_t *end = in + length;
    uint32_t count;
    if (!(in = get_number(in, end, &count)) || count > capacity)
        return -1;
    for (uint32_t i = 0; i < count; i++)
        if (!(in = get_number(in, end, &copies[i].at)))
            return -1;
    for (uint32_t i = 0; i < count; i++)
        if (!(in = get_number(in, end, &copies[i].length)))
            return -1;
    uint32_t expected = 0;
    size_t done = prefix;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t coded, gap = copies[i].at;
        if (!(in = get_number(in, end, &coded)) || gap > size - done)
            return -1;
        copies[i].at = (uint32_t)(done + gap);
        copies[i].from = expected + gap + (coded >> 1 ^ (coded & 1 ? UINT32_MAX : 0));
        if (!is_sound(&copies[i], prefix, size, done))
            return -1;
        expected = copies[i].from + copies[i].length;
        done = (size_t)copies[i].at + copies[i].length;
    }
    return in == end ? (int64_t)count : -1;
}
