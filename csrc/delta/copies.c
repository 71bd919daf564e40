#include "delta/copies.h"

#include "common/bytes.h"
#include "delta/samples.h"

enum {
    SAMPLE = 48,      /* bytes of a fingerprint */
    COARSE_LOG = 9,   /* log: of one position in 512 a fingerprint is taken at first */
    SAMPLE_LOG = 5,   /* log: of one in 32 where nothing was found so */
    LEAST = 256,      /* bytes; a shorter stretch is left to zstd, which codes it in fewer bytes */
    LEAST_NEAR = 96,  /* bytes; the same for a stretch that goes on near the last copy's source */
    NEAR_SPAN = 96,   /* bytes behind a copy in which such a stretch may begin */
    NEAR_STEP = 24,   /* bytes between the positions tried there */
    NEAR_SHIFT = 192, /* bytes that may have been inserted or removed before it */
    WIDE = 64,        /* places looked at together: the width of the widest vector registers */
    REFUSED_LOG = 8,  /* log: stretches remembered as too short */
    WAYS_LOG = 3,
    WAYS = 1 << WAYS_LOG, /* places remembered for one fingerprint, the newest ones */
    WANTED_LOG = 15,      /* log: marks of fingerprints that are looked for */
    AROUND = 1024,        /* bytes at either end of a long copy's source that are not covered */
    BATCH = 1024          /* positions looked through at once */
};

/* Return a hash of a fingerprint. */
static inline uint64_t hash_of(const uint8_t *at)
{
    uint64_t value = 0;
    for (size_t word = 0; word < SAMPLE; word += sizeof value)
        value = ((value ^ value >> 32) + pk_load64(at + word)) * 0x9e3779b97f4a7c15u;
    return value;
}

/* Marks of the fingerprints that are looked for: by their first bytes, and by their hash. The
 * former are quick and leave few; without the latter, many others would displace what is looked
 * for. */
enum { BY_START = 1, BY_HASH = 2 };

static inline uint8_t *mark_of(uint8_t *wanted, uint64_t hash)
{
    return wanted + (hash >> (64 - WANTED_LOG));
}

static inline uint64_t start_of(const uint8_t *at)
{
    return pk_load64(at) * 0x9e3779b97f4a7c15u;
}

static inline void want(uint8_t *wanted, const uint8_t *at)
{
    *mark_of(wanted, start_of(at)) |= BY_START;
    *mark_of(wanted, hash_of(at)) |= BY_HASH;
}

/* Remember a position; it displaces the oldest one with the same fingerprint. */
static inline void note(uint32_t *ways, size_t at)
{
    for (int way = WAYS - 1; way > 0; way--)
        ways[way] = ways[way - 1];
    ways[0] = (uint32_t)at + 1;
}

/* The next fingerprints of the buffer, in order, with their places in the table. They are taken a
 * batch at a time, so that their places have come to the cache when they are used. */
typedef struct samples {
    const uint8_t *data;
    uint32_t *table;
    unsigned log;        /* of the table's fingerprints */
    unsigned sample_log; /* a fingerprint is taken of one position in 2^sample_log */
    uint8_t *wanted;     /* marks of those that are taken; NULL: all */
    size_t end;          /* behind the last position that may be taken */
    size_t next;         /* the first position that was not looked at */
    unsigned used, count;
    uint32_t at[BATCH];
    uint32_t *ways[BATCH];
} samples;

/* Go on from a position to an end, which is that of the text or a place before it. */
static void restart(samples *in, size_t from, size_t end)
{
    in->next = from;
    in->end = end < SAMPLE ? 0 : end - SAMPLE + 1;
    in->used = in->count = 0;
}

/* Look through the next positions, from `at` on if that is further. Nothing is taken where bytes
 * repeat within 8, as zeros do: they would be found everywhere. */
static void take(samples *in, size_t at)
{
    if (in->next < at)
        in->next = at;
    size_t left = in->end > in->next ? in->end - in->next : 0;
    size_t span = left < BATCH ? left : BATCH;
    uint64_t bits[BATCH / PK_SAMPLE_WORD];
    pk_samples(in->data + in->next, span, in->sample_log, bits);
    in->used = in->count = 0;
    for (size_t from = 0; from < span; from += PK_SAMPLE_WORD)
        for (uint64_t word = bits[from / PK_SAMPLE_WORD]; word; word &= word - 1) {
            size_t place = in->next + from + (size_t)__builtin_ctzll(word);
            const uint8_t *here = in->data + place;
            if (pk_load64(here) == pk_load64(here + 8)
                || (in->wanted && !(*mark_of(in->wanted, start_of(here)) & BY_START)))
                continue;
            uint64_t hash = hash_of(here);
            if (in->wanted && !(*mark_of(in->wanted, hash) & BY_HASH))
                continue;
            uint32_t *ways = in->table + (size_t)(hash >> (64 - in->log)) * WAYS;
            __builtin_prefetch(ways, 1);
            in->at[in->count] = (uint32_t)place;
            in->ways[in->count++] = ways;
        }
    in->next += span;
}

/* Go to the first fingerprint at `at` or behind. Returns 0 if there is none. */
static inline int seek(samples *in, size_t at)
{
    for (;;) {
        for (; in->used < in->count; in->used++)
            if (in->at[in->used] >= at)
                return 1;
        if (in->next >= in->end || at >= in->end)
            return 0;
        take(in, at);
    }
}

/* A stretch that turned out too short, which need not be compared again at each of its bytes. */
typedef struct refusal {
    size_t shift, end;
} refusal;

/* The copies of a text, as they are found. */
typedef struct finding {
    const uint8_t *data;
    size_t prefix, size;
    pk_copy *copies;
    size_t count, capacity;
    size_t fresh, most_fresh; /* bytes that do not repeat earlier text */
    refusal refused[1 << REFUSED_LOG];
} finding;

/* Remember the fingerprints of the older bytes, in a table that fits about `most` of them; but for
 * the blocks that are `covered`, unless that is NULL. */
static void note_all(samples *in, size_t prefix, size_t most, unsigned table_log,
                     const uint8_t *covered)
{
    unsigned log = WAYS_LOG + 1;
    while (most >> (log - WAYS_LOG) && log < table_log)
        log++;
    in->log = log - WAYS_LOG;
    memset(in->table, 0, sizeof *in->table << log);
    size_t blocks = pk_covered_blocks(prefix);
    for (size_t first = 0, end; first < blocks; first = end) {
        end = covered ? first + 1 : blocks;
        if (covered && covered[first])
            continue;
        while (end < blocks && !covered[end])
            end++;
        size_t from = first << PK_COVERED_LOG, stop = (end << PK_COVERED_LOG) + SAMPLE - 1;
        restart(in, from, stop < prefix ? stop : prefix);
        for (size_t at = from; seek(in, at); at = in->at[in->used] + 1)
            note(in->ways[in->used], in->at[in->used]);
    }
}

/* Mark the blocks of the older bytes that lie within sources, but for their ends. */
static void mark_covered(const finding *in, uint8_t *covered)
{
    const size_t block = (size_t)1 << PK_COVERED_LOG;
    memset(covered, 0, pk_covered_blocks(in->prefix));
    for (size_t i = 0; i < in->count; i++) {
        const pk_copy *copy = &in->copies[i];
        if (copy->from >= in->prefix || copy->length <= 2 * AROUND)
            continue;
        size_t first = (copy->from + AROUND + block - 1) >> PK_COVERED_LOG,
               end = ((size_t)copy->from + copy->length - AROUND) >> PK_COVERED_LOG;
        if (first < end)
            memset(covered + first, 1, end - first);
    }
}

/* Return the longest stretch around `at` that also stands around `from`. The text starts at
 * `floor` or behind; the source lies wholly in the older bytes or wholly in the text before. */
static pk_copy stretch(const uint8_t *data, size_t prefix, size_t size, size_t floor, size_t at,
                       size_t from)
{
    size_t first = from < prefix ? 0 : prefix;
    size_t back = at - floor < from - first ? at - floor : from - first;
    if (from >= prefix && back > at - from)
        back = at - from; /* or the source would reach into the copy */
    back = pk_equal_behind(data + at, data + from, back);
    size_t end = from < prefix ? prefix : at - back;
    size_t most = size - at < end - from ? size - at : end - from;
    size_t length = back + pk_equal_ahead(data + at, data + from, most);
    return (pk_copy){(uint32_t)(at - back), (uint32_t)(from - back), (uint32_t)length};
}

/* Mark the places at which the first and the last of eight bytes are those wanted. Compilers make
 * vector instructions of the inner loop. */
static void mark_likely(const uint8_t *data, size_t count, const uint8_t *wanted, uint8_t *marks)
{
    size_t at = 0;
    for (; at + WIDE <= count; at += WIDE)
        for (size_t i = at; i < at + WIDE; i++)
            marks[i] = (data[i] == wanted[0]) & (data[i + 7] == wanted[7]);
    for (; at < count; at++)
        marks[at] = (data[at] == wanted[0]) & (data[at + 7] == wanted[7]);
}

/* Return the longest stretch around `at` among the places from `first` up to `end`, of several the
 * nearest one to `middle`; length 0 if all are too short. */
static pk_copy nearby(const uint8_t *data, size_t prefix, size_t size, size_t floor, size_t at,
                      size_t first, size_t end, size_t middle)
{
    pk_copy best = {0, 0, 0};
    size_t count = end - first, best_turn = 0;
    uint8_t marks[2 * NEAR_SHIFT + 1 + sizeof(uint64_t)];
    mark_likely(data + first, count, data + at, marks);
    memset(marks + count, 0, sizeof(uint64_t));
    for (size_t word = 0; word < count; word += sizeof(uint64_t))
        for (uint64_t left = pk_load64(marks + word); left; left &= left - 1) {
            size_t from = first + word + (size_t)__builtin_ctzll(left) / 8;
            if (pk_load64(data + from) != pk_load64(data + at))
                continue;
            size_t turn = from > middle ? 2 * (from - middle) - 1 : 2 * (middle - from);
            pk_copy one = stretch(data, prefix, size, floor, at, from);
            if (one.length >= LEAST_NEAR
                && (one.length > best.length || (one.length == best.length && turn < best_turn))) {
                best = one;
                best_turn = turn;
            }
        }
    return best;
}

/* Find the text near the end of the last copy's source, where it goes on behind a small change.
 * Length 0: it is not there. */
static pk_copy resumed(const uint8_t *data, size_t prefix, size_t size, size_t floor,
                       size_t source)
{
    size_t low = source <= prefix ? 0 : prefix, high = source <= prefix ? prefix : floor;
    for (size_t step = 0; step < NEAR_SPAN && floor + step + sizeof(uint64_t) <= size;
         step += NEAR_STEP) {
        size_t middle = source + step;
        size_t first = middle < low + NEAR_SHIFT ? low : middle - NEAR_SHIFT;
        size_t end = middle + NEAR_SHIFT + 1;
        if (end + sizeof(uint64_t) - 1 > high)
            end = high < sizeof(uint64_t) ? 0 : high - (sizeof(uint64_t) - 1);
        if (first >= end)
            continue;
        pk_copy best = nearby(data, prefix, size, floor, floor + step, first, end, middle);
        if (best.length)
            return best;
    }
    return (pk_copy){0, 0, 0};
}

static refusal *refusal_of(refusal *refused, size_t at, size_t from)
{
    return refused + ((uint32_t)(at - from) * 0x9e3779b1u >> (32 - REFUSED_LOG));
}

/* Return the longest stretch around `at` among the places with the same fingerprint; length 0 if
 * all are too short. */
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

/* Tell whether not too much is fresh with a further copy, which stands at `floor` or behind. */
static int may_add(finding *in, const pk_copy *copy, size_t floor)
{
    in->fresh += copy->at - floor + (copy->from < in->prefix ? copy->length : 0);
    return in->fresh <= in->most_fresh;
}

/* Find the copies of the text that begin between `floor` and `end`. `found` is one that is known,
 * or of length 0. Returns 0 once too much is fresh. */
static int find(finding *in, samples *from, size_t floor, size_t end, pk_copy found)
{
    size_t at = floor;
    restart(from, floor, end);
    while (at + SAMPLE <= end && in->count < in->capacity) {
        if (!found.length) {
            if (!seek(from, at))
                break;
            at = from->at[from->used];
            uint32_t *ways = from->ways[from->used];
            found = elsewhere(in->data, in->prefix, in->size, floor, at, ways, in->refused);
            if (!found.length) { /* what a copy covers stands elsewhere already */
                note(ways, at++);
                continue;
            }
        }
        if (!may_add(in, &found, floor))
            return 0;
        in->copies[in->count++] = found;
        floor = at = (size_t)found.at + found.length;
        found = resumed(in->data, in->prefix, in->size, floor, (size_t)found.from + found.length);
    }
    return 1;
}

/* Mark the fingerprints of the text that no copy covers; return their number. */
static size_t want_gaps(const finding *in, samples *from)
{
    size_t at = in->prefix, wanted = 0;
    memset(from->wanted, 0, (size_t)1 << WANTED_LOG);
    for (size_t i = 0; i <= in->count; i++) {
        size_t end = i < in->count ? in->copies[i].at : in->size;
        if (end - at >= LEAST) {
            size_t last = end - SAMPLE;
            for (size_t start = at; start <= last; start += BATCH) {
                size_t span = last - start + 1 < BATCH ? last - start + 1 : BATCH;
                uint64_t bits[BATCH / PK_SAMPLE_WORD];
                pk_samples(in->data + start, span, SAMPLE_LOG, bits);
                for (size_t word = 0; word * PK_SAMPLE_WORD < span; word++)
                    for (uint64_t left = bits[word]; left; left &= left - 1, wanted++)
                        want(from->wanted, in->data + start + word * PK_SAMPLE_WORD
                                               + (size_t)__builtin_ctzll(left));
            }
        }
        at = i < in->count ? (size_t)in->copies[i].at + in->copies[i].length : in->size;
    }
    return wanted;
}

/* Find copies in the gaps between those that are known. These move to the end of the array; what a
 * copy from a gap covers of them is left out. Returns 0 once too much is fresh. */
static int fill_gaps(finding *in, samples *from)
{
    size_t known = in->count, floor = in->prefix, capacity = in->capacity;
    pk_copy *next = in->copies + capacity - known;
    memmove(next, in->copies, known * sizeof *next);
    memset(in->refused, 0, sizeof in->refused);
    in->count = 0;
    for (size_t i = 0; i <= known; i++) {
        size_t end = i < known ? next[i].at : in->size;
        in->capacity = capacity - known + i; /* the others have room */
        if (end > floor && end - floor >= LEAST && !find(in, from, floor, end, (pk_copy){0, 0, 0}))
            return 0;
        if (in->count)
            floor = (size_t)in->copies[in->count - 1].at + in->copies[in->count - 1].length;
        if (i == known)
            break;
        pk_copy one = next[i];
        uint32_t covered = floor > one.at ? (uint32_t)floor - one.at : 0;
        if (covered + LEAST_NEAR > one.length)
            continue;
        one = (pk_copy){one.at + covered, one.from + covered, one.length - covered};
        if (!may_add(in, &one, floor))
            return 0;
        in->copies[in->count++] = one;
        floor = (size_t)one.at + one.length;
    }
    return 1;
}

/* Most of a text lies in the older bytes in long stretches, which few fingerprints find. So these
 * are found first. Of the older bytes, only what occurs in the gaps between them is remembered
 * then. */
size_t pk_delta_find_fresh(const uint8_t *data, size_t prefix, size_t size, size_t most_fresh,
                           uint32_t *table, unsigned table_log, uint8_t *covered, pk_copy *copies,
                           size_t capacity)
{
    uint8_t wanted[1 << WANTED_LOG];
    samples from = {.data = data, .table = table, .sample_log = COARSE_LOG};
    finding in = {.data = data,
                  .prefix = prefix,
                  .size = size,
                  .copies = copies,
                  .capacity = capacity,
                  .most_fresh = SIZE_MAX};
    note_all(&from, prefix, prefix >> COARSE_LOG, table_log, NULL);
    find(&in, &from, prefix, size, resumed(data, prefix, size, prefix, 0));
    if (covered)
        mark_covered(&in, covered);
    from.wanted = wanted;
    from.sample_log = SAMPLE_LOG;
    size_t count = want_gaps(&in, &from);
    if (count)
        note_all(&from, prefix, count, table_log, covered);
    from.wanted = NULL;
    in.fresh = 0;
    in.most_fresh = most_fresh;
    return fill_gaps(&in, &from) ? in.count : PK_TOO_FRESH;
}

size_t pk_delta_find(const uint8_t *data, size_t prefix, size_t size, uint32_t *table,
                     unsigned table_log, pk_copy *copies, size_t capacity)
{
    return pk_delta_find_fresh(data, prefix, size, SIZE_MAX, table, table_log, NULL, copies,
                               capacity);
}
