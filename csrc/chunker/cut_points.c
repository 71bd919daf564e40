/* The rule. A chunk that starts at s ends at the offset c of [s + min, s + max] with
 *   1. the greatest h(c), a 16-bit rolling hash of the 242 bytes before c;
 *   2. of those, the greatest H(c), a 64-bit rolling hash of the 512 bytes before c;
 *   3. of those, the last.
 * Input that ends before s + max: see pk_cut_points.
 *
 * How: maxima of h are taken over blocks of 2048 offsets on a grid that is fixed for the buffer,
 * and are kept, so that offsets which two successive intervals share are scanned once. The few
 * blocks that reach the interval's maximum are looked at again for the offset.
 *
 * Why step 2: where a window of 242 bytes has few possible contents (0/1 integers, sparse arrays),
 * many offsets tie. A rule that takes the first or last of them ties every cut to the chunk's
 * start, and an insertion then moves all later cuts. 512 bytes tell those offsets apart.
 * Why the last in step 3: what still ties is periodic; taking the last makes chunks of maximal
 * length, multiples of the period, and scans each byte once.
 */
#include "chunker/kernel.h"

#include <string.h>

#include "common/bytes.h"

#define RING 4096 /* power of two above PK_MAX_LIMIT / PK_BLOCK + 2 blocks of one interval */

typedef struct {
    const uint8_t *data;
    const pk_kernel *kernel;
    uint64_t first, end;   /* blocks whose maxima are known: [first, end) */
    uint16_t maxima[RING]; /* of block k at k % RING */
} scan;

uint16_t pk_hash(const uint8_t *end)
{
    return pk_hash_at(end);
}

#define N2 (PK_N * PK_N)
#define N4 (N2 * N2)
#define N8 (N4 * N4)
#define N16 (N8 * N8)
#define N32 (N16 * N16)
#define N64 (N32 * N32)

/* Return v(end), see kernel.h. */
static inline uint64_t wide_word(const uint8_t *end)
{
    uint64_t word = pk_load64(end - 8);
    return word ^ word >> 32;
}

uint64_t pk_wide_hash(const uint8_t *end)
{
    /* Four sums over every fourth word, so that multiplications do not wait for one another. */
    uint64_t sum[4] = {0};
    for (const uint8_t *at = end - PK_WIDE + 8; at <= end; at += 32)
        for (int i = 0; i < 4; i++)
            sum[i] = sum[i] * N4 + wide_word(at + 8 * i);
    return ((sum[0] * PK_N + sum[1]) * PK_N + sum[2]) * PK_N + sum[3];
}

/* The search for the greatest (H, offset) among ascending offsets of equal h. H rolls by eight
 * bytes, so there is one rolling hash for the offsets of each residue modulo 8. */
typedef struct {
    const uint8_t *data;
    size_t low, high; /* the interval */
    size_t count;     /* offsets seen */
    size_t best;
    uint64_t best_wide; /* H(best), valid once count > 1 */
    struct {
        size_t at; /* offset of `wide`, 0 if there is none yet */
        uint64_t wide;
    } lane[8];
} contest;

/* From scratch costs as much as this many bytes of rolling. */
#define ROLL_MOST 192

static uint64_t wide_at(contest *c, size_t offset)
{
    size_t at = c->lane[offset % 8].at;
    uint64_t wide = c->lane[offset % 8].wide;
    if (at == 0 || offset - at > ROLL_MOST)
        wide = pk_wide_hash(c->data + offset);
    else
        for (; at < offset; at += 8)
            wide = wide * PK_N + wide_word(c->data + at + 8)
                   - N64 * wide_word(c->data + at + 8 - PK_WIDE);
    c->lane[offset % 8].at = offset;
    c->lane[offset % 8].wide = wide;
    return wide;
}

/* Enter an offset; returns 1 if the contest is decided. */
static int enter(contest *c, size_t offset)
{
    if (c->count++ == 0) {
        c->best = offset;
        return 0;
    }
    if (c->count == 2) {
        /* Data of this period has ties at every period and nowhere else, all with the same H: take
         * the last at once. This only saves time. */
        size_t period = offset - c->best;
        const uint8_t *window = c->data + c->low - PK_WIDE;
        if (memcmp(window, window + period, c->high - c->low + PK_WIDE - period) == 0) {
            c->best += (c->high - c->best) / period * period;
            return 1;
        }
        c->best_wide = wide_at(c, c->best);
    }
    uint64_t wide = wide_at(c, offset);
    if (wide >= c->best_wide) {
        c->best_wide = wide;
        c->best = offset;
    }
    return 0;
}

/* Enter all offsets of [from, to) that hash to `hash`. */
static int enter_range(const scan *s, contest *c, size_t from, size_t to, uint16_t hash)
{
    uint64_t bits[PK_BLOCK / 64];
    while (from < to) {
        size_t n = to - from < PK_BLOCK ? to - from : PK_BLOCK;
        s->kernel->find_equal(s->data + from, n, hash, bits);
        for (size_t word = 0; word < (n + 63) / 64; word++)
            for (uint64_t left = bits[word]; left; left &= left - 1)
                if (enter(c, from + word * 64 + (size_t)__builtin_ctzll(left)))
                    return 1;
        from += n;
    }
    return 0;
}

/* The cut point among [low, high] if h is the same everywhere. */
static size_t best_of_all(const scan *s, size_t low, size_t high)
{
    contest c = {.data = s->data, .low = low, .high = high};
    for (size_t offset = low; offset <= high; offset++)
        if (enter(&c, offset))
            break;
    return c.best;
}

/* Make sure that the maxima of blocks [first, end) are known. */
static void scan_blocks(scan *s, uint64_t first, uint64_t end)
{
    if (first >= s->end)
        s->end = first;
    s->first = first;
    while (s->end < end) {
        size_t slot = s->end % RING, count = RING - slot;
        if (count > end - s->end)
            count = (size_t)(end - s->end);
        s->kernel->block_maxima(s->data + s->end * PK_BLOCK, count, s->maxima + slot);
        s->end += count;
    }
}

/* The cut point among [low, high], both included. */
static size_t best_offset(scan *s, size_t low, size_t high)
{
    uint64_t first = (low + PK_BLOCK - 1) / PK_BLOCK, end = (high + 1) / PK_BLOCK;
    size_t head_end = high + 1, tail_start = high + 1; /* offsets outside whole blocks */
    uint16_t head = 0, tail = 0, most = 0;

    if (first < end) {
        head_end = first * PK_BLOCK;
        tail_start = end * PK_BLOCK;
        scan_blocks(s, first, end);
        for (uint64_t k = first; k < end; k++)
            if (s->maxima[k % RING] > most)
                most = s->maxima[k % RING];
    } else {
        end = first;
    }
    if (low < head_end)
        head = s->kernel->range_maximum(s->data + low, head_end - low);
    if (tail_start <= high)
        tail = s->kernel->range_maximum(s->data + tail_start, high + 1 - tail_start);
    if (head > most)
        most = head;
    if (tail > most)
        most = tail;
    if (most == 0) {
        /* All offsets tie. Nearly always the data has a period that divides PK_LAG, and so has H:
         * one period of offsets decides. This only saves time. */
        size_t from = low - PK_WIDE;
        if (memcmp(s->data + from, s->data + from + PK_LAG, high - from - PK_LAG) == 0)
            low = high - low < PK_LAG ? low : high + 1 - PK_LAG;
        return best_of_all(s, low, high);
    }

    contest c = {.data = s->data, .low = low, .high = high};
    if (head == most && enter_range(s, &c, low, head_end, most))
        return c.best;
    for (uint64_t k = first; k < end; k++)
        if (s->maxima[k % RING] == most
            && enter_range(s, &c, k * PK_BLOCK, (k + 1) * PK_BLOCK, most))
            return c.best;
    if (tail == most)
        enter_range(s, &c, tail_start, high + 1, most);
    return c.best;
}

pk_status pk_cut_points(const uint8_t *data, size_t length, size_t min, size_t max, int final,
                        int kernel, uint64_t *cuts, size_t capacity, size_t *count)
{
    *count = 0;
    if (min < PK_MIN_LIMIT || min >= max || max > PK_MAX_LIMIT)
        return PK_BAD_PARAMETER;
    scan s;
    s.data = data;
    s.kernel = pk_kernel_get(kernel);
    s.first = s.end = 0;
    if (s.kernel == NULL)
        return PK_BAD_KERNEL;

    size_t start = 0;
    while (start < length) {
        size_t left = length - start, cut;
        if (left < max) {
            if (!final)
                break;
            /* The end of the input: both chunks it is cut into are at least min long. */
            cut = left < 2 * min ? length : best_offset(&s, start + min, length - min);
        } else {
            cut = best_offset(&s, start + min, start + max);
        }
        if (*count == capacity)
            return PK_NO_SPACE;
        cuts[(*count)++] = cut;
        start = cut;
    }
    return PK_OK;
}
