#include "delta/prefix_blocks.h"

#include "common/bytes.h"
#include "delta/samples.h"

enum {
    FINGERPRINT = PK_SAMPLE_BYTES, /* nothing shorter is looked for */
    LOOK_ON = 8,    /* bytes behind a match's start in which a better one may begin */
    MOST = 512,     /* bytes; a longer match goes on as the next one */
    MOST_BACK = 64, /* bytes that a match is extended before its fingerprint */
    BATCH = 1024,   /* positions whose fingerprints are taken at once */
    TURNS = 6,      /* samples that are looked at without asking whether there are as many */
    FRESH = 4, /* bytes that each block which no match needed before takes from a match's worth */
    LEAST_FRESH = 12, /* bytes; a shorter match is not worth a further block */
    MOST_ALIKE = 64   /* fingerprints of equal hash that an estimate tells apart */
};

typedef struct search {
    const uint8_t *older, *rest;
    size_t older_length, rest_length;
    unsigned sample_log, depth, block_log, heads_log;
    uint32_t wanted_mask;
    const pk_select_table *table;
    size_t noted;
    uint8_t *kept;
} search;

/* Offsets count from the start of the older bytes; the rest follows them. */
typedef struct match {
    size_t at, from, length;
    ptrdiff_t worth; /* 0: there is none */
} match;

static inline size_t least(size_t one, size_t other)
{
    return one < other ? one : other;
}

static inline uint64_t hash_of(uint64_t value)
{
    return value * 0x9e3779b97f4a7c15u;
}

static inline uint32_t *head_of(const search *in, uint64_t value)
{
    return in->table->heads + (hash_of(value) >> (64 - in->heads_log));
}

/* Return where it is told whether a fingerprint occurs in the rest. */
static inline uint8_t *wanted_of(const search *in, uint64_t value)
{
    return in->table->wanted + (hash_of(value) >> 32 & in->wanted_mask);
}

/* Fit the tables to the samples of so many bytes, so that they stay near the processor, and clear
 * them. */
static void begin(search *in, size_t length)
{
    unsigned log = 8;
    while (length >> in->sample_log >> (log - 2) && log < PK_SELECT_HEADS)
        log++;
    in->heads_log = log;
    in->wanted_mask = ((uint32_t)1 << log) - 1;
    memset(in->table->heads, 0, sizeof *in->table->heads << log);
    memset(in->table->wanted, 0, (size_t)1 << log);
}

/* Mark the fingerprints of the rest: no other one is ever looked up. Mostly the rest is small, and
 * few of the older bytes' fingerprints occur in it. */
static void want_all(const search *in)
{
    for (size_t at = 0; at + FINGERPRINT <= in->rest_length; at++)
        if (pk_is_sample(in->rest + at, in->sample_log))
            *wanted_of(in, pk_load64(in->rest + at)) = 1;
}

/* List the wanted samples among the first `span` positions, BATCH at most; return their number.
 * Hardly a branch depends on the data: most words have as many samples as others or fewer. */
static unsigned take(const search *in, const uint8_t *data, size_t span, uint16_t *taken)
{
    uint64_t bits[BATCH / PK_SAMPLE_WORD];
    unsigned count = 0;
    pk_samples(data, span, in->sample_log, bits);
    for (size_t from = 0; from < span; from += PK_SAMPLE_WORD) {
        uint64_t left = bits[from / PK_SAMPLE_WORD];
        /* The last position is looked at where no sample is left, and does not count. */
        uint64_t end = (uint64_t)1 << (least(span - from, PK_SAMPLE_WORD) - 1);
        while (left)
            for (int turn = 0; turn < TURNS; turn++) {
                size_t at = from + (size_t)__builtin_ctzll(left | end);
                taken[count] = (uint16_t)at;
                count += *wanted_of(in, pk_load64(data + at)) & (left != 0);
                left &= left - 1;
            }
    }
    return count;
}

/* Remember a place; later ones than the table has room for are not found. */
static inline void note(search *in, uint64_t value, size_t at)
{
    if (in->noted == in->table->capacity)
        return;
    uint32_t *head = head_of(in, value);
    in->table->places[in->noted] = (uint32_t)at;
    in->table->chains[in->noted] = *head;
    *head = (uint32_t)++in->noted;
}

/* Remember the places of data[from..to); `before` is the offset of data[0]. */
static void note_all(search *in, const uint8_t *data, size_t length, size_t from, size_t to,
                     size_t before)
{
    size_t end = length < FINGERPRINT ? 0 : least(to, length - FINGERPRINT + 1);
    uint16_t taken[BATCH + 1];
    while (from < end && in->noted < in->table->capacity) {
        size_t span = least(end - from, BATCH);
        unsigned count = take(in, data + from, span, taken);
        for (unsigned i = 0; i < count; i++)
            __builtin_prefetch(head_of(in, pk_load64(data + from + taken[i])), 1);
        for (unsigned i = 0; i < count; i++)
            note(in, pk_load64(data + from + taken[i]), before + from + taken[i]);
        from += span;
    }
}

/* Return the match of the rest around `at` with the bytes around `place`. It begins at `done` or
 * behind. */
static match around(const search *in, size_t done, size_t at, size_t place)
{
    int is_older = place < in->older_length;
    size_t from = is_older ? place : place - in->older_length;
    const uint8_t *base = is_older ? in->older : in->rest, *text = in->rest;
    size_t room = is_older ? in->older_length - from : in->rest_length - at;
    size_t length =
        pk_equal_ahead(base + from, text + at, least(least(room, in->rest_length - at), MOST));
    size_t back =
        pk_equal_behind(base + from, text + at, least(least(at - done, from), MOST_BACK));
    match found = {at - back, place - back, length + back, (ptrdiff_t)(length + back)};
    if (length < FINGERPRINT)
        return (match){0, 0, 0, 0}; /* another one with the same hash */
    if (is_older) {
        size_t last = (found.from + found.length - 1) >> in->block_log;
        int fresh = 0;
        for (size_t block = found.from >> in->block_log; block <= last; block++)
            fresh += !in->kept[block];
        if (fresh && found.length < LEAST_FRESH)
            found.worth = 0;
        else
            found.worth -= fresh * FRESH;
    }
    return found;
}

/* Tell whether the match of the rest around `at` with a place may be worth more than `worth`: its
 * length is an upper bound, and of that at most `back` bytes stand before `at`. */
static inline int may_win(const search *in, size_t at, size_t place, size_t back, size_t worth)
{
    if (worth < back + FINGERPRINT)
        return 1;
    size_t last = worth - back - (FINGERPRINT - 1); /* from there on, as many must be equal */
    int is_older = place < in->older_length;
    const uint8_t *base = is_older ? in->older + place : in->rest + (place - in->older_length);
    size_t left = in->rest_length - at,
           room = is_older ? least(in->older_length - place, left) : left;
    return last + FINGERPRINT <= least(room, MOST)
           && pk_load64(base + last) == pk_load64(in->rest + at + last);
}

/* Compare with all places of the same fingerprint, and keep the best match. */
static void look(const search *in, uint64_t value, size_t done, size_t at, match *best)
{
    size_t back = least(at - done, MOST_BACK);
    uint32_t next = *head_of(in, value);
    for (unsigned turn = 0; next && turn < in->depth; turn++) {
        size_t place = in->table->places[next - 1];
        next = in->table->chains[next - 1];
        if (!may_win(in, at, place, back, (size_t)best->worth))
            continue;
        match found = around(in, done, at, place);
        if (found.worth > best->worth)
            *best = found;
    }
}

/* Return the length of the run of equal blocks from `at` on. */
static size_t run_of(const uint8_t *kept, size_t count, size_t at)
{
    size_t end = at;
    while (end < count && kept[end] == kept[at])
        end++;
    return end - at;
}

size_t pk_select(const uint8_t *older, size_t older_length, const uint8_t *rest,
                 size_t rest_length, unsigned sample_log, unsigned depth, unsigned block_log,
                 const pk_select_table *table, uint8_t *kept)
{
    search in = {older, rest, older_length, rest_length, sample_log, depth, block_log,
                 0,     0,    table,        0,           kept};
    size_t blocks = (older_length + ((size_t)1 << block_log) - 1) >> block_log;
    begin(&in, rest_length);
    if (rest_length >= FINGERPRINT) {
        want_all(&in);
        for (size_t from = 0, run; from < blocks; from += run) {
            run = run_of(kept, blocks, from);
            if (!kept[from])
                note_all(&in, older, older_length, from << block_log, (from + run) << block_log,
                         0);
        }
    }
    memset(kept, 0, blocks);
    match best = {0, 0, 0, 0};
    size_t done = 0, at = 0, shared = 0;
    while (at < rest_length) {
        if (at + FINGERPRINT <= rest_length) {
            uint64_t value = pk_load64(rest + at);
            if (pk_is_sample(rest + at, sample_log)) {
                look(&in, value, done, at, &best);
                note(&in, value, older_length + at);
            }
        }
        at++;
        if (best.worth <= 0 || (at < rest_length && at < best.at + least(best.length, LOOK_ON)))
            continue;
        if (best.from < older_length) {
            size_t first = best.from >> block_log,
                   last = (best.from + best.length - 1) >> block_log;
            memset(kept + first, 1, last - first + 1);
            shared += best.length;
        }
        done = best.at + best.length;
        note_all(&in, rest, rest_length, at, done, older_length);
        at = at < done ? done : at;
        best.worth = 0;
    }
    return shared;
}

/* Tell whether a place of the older bytes with this fingerprint is remembered. */
static int is_noted(const search *in, uint64_t value)
{
    uint32_t next = *head_of(in, value);
    for (unsigned turn = 0; next && turn < MOST_ALIKE; turn++) {
        if (pk_load64(in->older + in->table->places[next - 1]) == value)
            return 1;
        next = in->table->chains[next - 1];
    }
    return 0;
}

/* Remember the different samples of the older bytes if `notes`; else return how many of the rest's
 * samples are remembered. */
static size_t go_through(search *in, const uint8_t *data, size_t length, int notes)
{
    size_t found = 0, end = length < FINGERPRINT ? 0 : length - FINGERPRINT + 1;
    for (size_t from = 0; from < end; from += PK_SAMPLE_WORD) {
        uint64_t bits;
        pk_samples(data + from, least(end - from, PK_SAMPLE_WORD), in->sample_log, &bits);
        for (; bits; bits &= bits - 1) {
            size_t at = from + (size_t)__builtin_ctzll(bits);
            uint64_t value = pk_load64(data + at);
            if (is_noted(in, value))
                found++;
            else if (notes)
                note(in, value, at);
        }
    }
    return found;
}

size_t pk_select_estimate(const uint8_t *older, size_t older_length, const uint8_t *rest,
                          size_t rest_length, unsigned sample_log, const pk_select_table *table)
{
    search in = {older, rest, older_length, rest_length, sample_log, 0, 0, 0, 0, table, 0, NULL};
    begin(&in, older_length);
    go_through(&in, older, older_length, 1);
    return go_through(&in, rest, rest_length, 0) << sample_log;
}

size_t pk_select_gather(const uint8_t *older, size_t length, unsigned block_log,
                        const uint8_t *kept, uint8_t *out)
{
    size_t size = (size_t)1 << block_log, written = 0;
    for (size_t block = 0; block << block_log < length; block++) {
        size_t at = block << block_log, part = least(length - at, size);
        if (kept[block]) {
            memcpy(out + written, older + at, part);
            written += part;
        }
    }
    return written;
}

/* Runs of blocks, from the first block on: skipped, kept, skipped, kept and so on, up to the last
 * one that is kept. */

static inline unsigned bits_of(size_t value)
{
    return 64 - (unsigned)__builtin_clzll((uint64_t)value);
}

/* Exponential Golomb code of an order: the number plus 2^order, of n + 1 bits, as n - order zeros,
 * a one, and its lower n bits. */
static inline size_t cost(size_t value, unsigned order)
{
    return 2 * bits_of(value + ((size_t)1 << order)) - 1 - order;
}

enum { ORDERS = 12 };

static void put_number(pk_bit_writer *to, size_t value, unsigned order)
{
    uint64_t raised = value + ((uint64_t)1 << order);
    unsigned low = bits_of((size_t)raised) - 1;
    pk_put_bits(to, (uint64_t)1 << (low - order), low - order + 1);
    pk_put_bits(to, raised & (((uint64_t)1 << low) - 1), low);
}

size_t pk_select_encode(const uint8_t *kept, size_t count, uint8_t *out)
{
    while (count && !kept[count - 1])
        count--;
    size_t total[2][ORDERS] = {{0}};
    for (size_t at = 0, run; at < count; at += run) {
        run = run_of(kept, count, at);
        for (unsigned order = 0; order < ORDERS; order++)
            total[kept[at]][order] += cost(run - 1, order);
    }
    unsigned orders[2] = {0, 0};
    for (unsigned order = 1; order < ORDERS; order++)
        for (int kind = 0; kind < 2; kind++)
            if (total[kind][order] < total[kind][orders[kind]])
                orders[kind] = order;
    if (!count)
        return 0;
    pk_bit_writer writer = {out, 0, 0};
    pk_put_bits(&writer, orders[0] | orders[1] << 4, 8);
    pk_put_bits(&writer, kept[0], 1);
    for (size_t at = 0, run; at < count; at += run) {
        run = run_of(kept, count, at);
        put_number(&writer, run - 1, orders[kept[at]]);
    }
    return (size_t)(pk_end_bits(&writer) - out);
}

typedef struct bit_reader {
    const uint8_t *in;
    size_t length; /* in bits */
    size_t at;
} bit_reader;

/* Return the next bit; 0 behind the end, which the caller finds by `at`. */
static inline unsigned get_bit(bit_reader *from)
{
    size_t at = from->at++;
    return at < from->length ? from->in[at >> 3] >> (at & 7) & 1 : 0;
}

/* Read a number. Returns 0, or -1: there is none below 2^31. */
static int get_number(bit_reader *from, unsigned order, size_t *value)
{
    unsigned low = order;
    while (!get_bit(from))
        if (++low > 31 || from->at > from->length)
            return -1;
    uint64_t raised = (uint64_t)1 << low;
    for (unsigned bit = 0; bit < low; bit++)
        raised |= (uint64_t)get_bit(from) << bit;
    *value = (size_t)(raised - ((uint64_t)1 << order));
    return from->at > from->length ? -1 : 0;
}

/* Tell whether no run follows: less than a byte is left, and no bit of it is set. A run has one.
 */
static int is_spent(const bit_reader *from)
{
    return from->at == from->length
           || (from->length - from->at < 8 && !(from->in[from->at >> 3] >> (from->at & 7)));
}

pk_status pk_select_decode(const uint8_t *in, size_t length, uint8_t *kept, size_t count)
{
    memset(kept, 0, count);
    if (!length)
        return PK_OK;
    unsigned orders[2] = {in[0] & 15, in[0] >> 4};
    if (orders[0] >= ORDERS || orders[1] >= ORDERS)
        return PK_INVALID;
    bit_reader reader = {in, 8 * length, 8};
    int kind = (int)get_bit(&reader);
    for (size_t at = 0, run;; kind = !kind) {
        if (get_number(&reader, orders[kind], &run) || run >= count - at)
            return PK_INVALID;
        memset(kept + at, kind, run + 1);
        at += run + 1;
        if (kind && is_spent(&reader))
            return PK_OK;
    }
}
