#include "deflate/block_header.h"

#include <string.h>

enum {
    MAX_BITS = 15,
    CODE_BITS = 7,
    END_OF_BLOCK = 256,
    MINIZ_LEAST = 48 /* bytes of plaintext; shorter blocks of miniz have fixed codes */
};

enum {
    BATCH = 512, /* tokens that are counted at once; even */
    OTHER = 256  /* where what is no literal is counted */
};

/* Where pk_count counts: literals; lengths; distances by distance_place. */
typedef struct places {
    uint32_t literal[OTHER + 1], length[PK_MAX_MATCH + 1], distance[34];
} places;

/* Return where a distance is counted: at its symbol + 4, but 1 at 2. */
static inline unsigned distance_place(unsigned distance)
{
    const unsigned value = 4 * distance - 2, bits = 31u ^ (unsigned)__builtin_clz(value);
    return 2 * bits + (value >> (bits - 1) & 1);
}

/* Count a token, but for what a match is, which is set aside. */
static inline size_t count_literal(places *to, pk_token token, pk_token *matches, size_t found)
{
    to->literal[token < OTHER ? token : OTHER]++;
    matches[found] = token;
    return found + (token >= OTHER);
}

static inline void count_match(places *to, pk_token token)
{
    to->length[token >> 16]++;
    to->distance[distance_place(token & 0xffff)]++;
}

/* Count tokens, at most BATCH. Whether one is a match is hard to foresee, so no branch asks. In
 * turns into two arrays, so that a symbol need not wait for the same one before it. */
static void count_batch(places turns[2], const pk_token *tokens, size_t count)
{
    pk_token matches[BATCH];
    size_t found = 0, at;
    for (at = 0; at + 1 < count; at += 2) {
        found = count_literal(&turns[0], tokens[at], matches, found);
        found = count_literal(&turns[1], tokens[at + 1], matches, found);
    }
    if (at < count)
        found = count_literal(&turns[0], tokens[at], matches, found);
    for (at = 0; at + 1 < found; at += 2) {
        count_match(&turns[0], matches[at]);
        count_match(&turns[1], matches[at + 1]);
    }
    if (at < found)
        count_match(&turns[0], matches[at]);
}

void pk_count(pk_counts *counts, const pk_token *tokens, size_t count)
{
    places turns[2];
    memset(turns, 0, sizeof turns);
    for (size_t at = 0; at < count; at += BATCH)
        count_batch(turns, tokens + at, count - at < BATCH ? count - at : BATCH);
    counts->extra_bits = 0;
    memset(counts->symbol, 0, sizeof counts->symbol);
    for (unsigned symbol = 0; symbol < 256; symbol++)
        counts->symbol[symbol] = turns[0].literal[symbol] + turns[1].literal[symbol];
    for (unsigned length = 3; length <= PK_MAX_MATCH; length++)
        counts->symbol[257 + pk_length_symbol(length)] +=
            turns[0].length[length] + turns[1].length[length];
    for (unsigned symbol = 0; symbol < 30; symbol++) {
        const unsigned place = symbol ? symbol + 4 : 2;
        counts->symbol[PK_LITERALS + symbol] = turns[0].distance[place] + turns[1].distance[place];
        counts->extra_bits += counts->symbol[PK_LITERALS + symbol] * pk_distance_extra[symbol];
    }
    for (unsigned symbol = 0; symbol < 29; symbol++)
        counts->extra_bits += counts->symbol[257 + symbol] * pk_length_extra[symbol];
}

/* ---- Run lengths ---- */

static void put_symbol(pk_header *header, uint32_t *counts, unsigned symbol, unsigned extra)
{
    header->symbol[header->symbols] = (uint8_t)symbol;
    header->extra[header->symbols++] = (uint8_t)extra;
    counts[symbol]++;
}

/* zlib: literals and distances apart, runs cut at 6 and 138. */
void pk_zlib_runs(pk_header *header, uint32_t *counts, const uint8_t *lengths, unsigned total)
{
    int previous = -1;
    for (unsigned at = 0; at < total;) {
        unsigned value = lengths[at], run = 1;
        unsigned most = value == 0 ? 138 : (int)value == previous ? 6 : 7;
        unsigned least = value && (int)value != previous ? 4 : 3;
        while (run < most && at + run < total && lengths[at + run] == value)
            run++;
        if (run < least) {
            for (unsigned left = run; left; left--)
                put_symbol(header, counts, value, 0);
        } else if (value) {
            unsigned left = run;
            if ((int)value != previous) {
                put_symbol(header, counts, value, 0);
                left--;
            }
            put_symbol(header, counts, 16, left - 3);
        } else if (run <= 10) {
            put_symbol(header, counts, 17, run - 3);
        } else {
            put_symbol(header, counts, 18, run - 11);
        }
        previous = (int)value;
        at += run;
    }
}

/* Go: literals and distances together, a run's first length always in full. */
void pk_go_runs(pk_header *header, uint32_t *counts, const uint8_t *lengths, unsigned total)
{
    for (unsigned at = 0; at < total;) {
        unsigned value = lengths[at], run = 1;
        while (at + run < total && lengths[at + run] == value)
            run++;
        at += run;
        if (value) {
            put_symbol(header, counts, value, 0);
            for (run--; run >= 3;) {
                unsigned part = run < 6 ? run : 6;
                put_symbol(header, counts, 16, part - 3);
                run -= part;
            }
        } else {
            while (run >= 11) {
                unsigned part = run < 138 ? run : 138;
                put_symbol(header, counts, 18, part - 11);
                run -= part;
            }
            if (run >= 3) {
                put_symbol(header, counts, 17, run - 3);
                run = 0;
            }
        }
        while (run--)
            put_symbol(header, counts, value, 0);
    }
}

static uint32_t bits_of(const uint32_t *counts, const uint8_t *lengths, unsigned symbols)
{
    uint32_t bits = 0;
    for (unsigned symbol = 0; symbol < symbols; symbol++)
        bits += counts[symbol] * lengths[symbol];
    return bits;
}

/* Whether nearly every byte is as frequent as any other. */
static int is_even(const uint32_t *counts, uint32_t plain)
{
    uint64_t sum = 0;
    for (unsigned symbol = 0; symbol < 256; symbol++) {
        int64_t differs = (int64_t)counts[symbol] * 256 - plain;
        sum += (uint64_t)(differs * differs);
    }
    return sum < (uint64_t)plain * 2 << 16;
}

/* The type in klauspost's manner. Sizes are in bits, of the literals as well. */
static int klauspost_type(int trees, const pk_counts *counts, uint32_t plain,
                          uint32_t literal_bits, uint32_t dynamic_bits, uint32_t fixed_bits)
{
    enum { HEADER = 70 * 8, FEW = 250 };
    const uint32_t stored_bits = plain <= 65535 ? (plain + 5) * 8 : UINT32_MAX;
    uint32_t tokens = (trees & PK_TREES_FLUSHED) != 0, matches = 0;
    for (unsigned symbol = 0; symbol < 286; symbol++) {
        if (symbol != END_OF_BLOCK)
            tokens += counts->symbol[symbol];
        if (symbol > END_OF_BLOCK)
            matches += counts->symbol[symbol];
    }
    if (!matches && !(trees & PK_TREES_LAZY)) {
        /* Without matches only the codes of literals are weighed, and a header of the usual
         * length. */
        const uint32_t least = trees & PK_TREES_QUEUES ? 12 : 32, expected = literal_bits + HEADER;
        if (plain <= least || (plain > 1024 && plain <= 65535 && is_even(counts->symbol, plain)))
            return PK_STORED;
        return stored_bits <= expected + (expected >> 7) ? PK_STORED : PK_DYNAMIC;
    }
    if (tokens < FEW && fixed_bits <= dynamic_bits)
        return stored_bits <= fixed_bits ? PK_STORED : PK_FIXED;
    return stored_bits <= dynamic_bits ? PK_STORED : PK_DYNAMIC;
}

int pk_make_header(pk_header *header, int trees, const pk_counts *given, uint32_t plain)
{
    if (trees == PK_TREES_FIXED) {
        memset(header, 0, sizeof *header);
        return PK_FIXED;
    }
    if (trees == PK_TREES_IGZIP_USUAL)
        return pk_igzip_usual(header);
    if (trees == PK_TREES_IGZIP)
        return pk_igzip_header(header, given);
    pk_counts counts = *given;
    uint32_t code_counts[PK_CODES] = {0};
    uint8_t *distances = header->lengths + PK_LITERALS, joined[PK_LENGTHS];
    counts.symbol[END_OF_BLOCK] = 1;
    header->symbols = 0;
    if (trees == PK_TREES_ZLIB) {
        header->literals =
            (uint16_t)(pk_zlib_lengths(header->lengths, counts.symbol, 286, MAX_BITS) + 1);
        header->lengths[286] = header->lengths[287] = 0;
        header->distances =
            (uint16_t)(pk_zlib_lengths(distances, counts.symbol + PK_LITERALS, 30, MAX_BITS) + 1);
        distances[30] = distances[31] = 0;
        pk_zlib_runs(header, code_counts, header->lengths, header->literals);
        pk_zlib_runs(header, code_counts, distances, header->distances);
        pk_zlib_lengths(header->code_lengths, code_counts, PK_CODES, CODE_BITS);
    } else {
        unsigned literals = 286, distance_count = 30;
        while (!counts.symbol[literals - 1])
            literals--;
        while (distance_count && !counts.symbol[PK_LITERALS + distance_count - 1])
            distance_count--;
        if (trees & PK_TREES_FILLED && !(trees & PK_TREES_FLUSHED)
            && (trees & PK_TREES_LAZY || literals - 1 > END_OF_BLOCK)) {
            literals = 286;
            distance_count = 30;
        } else if (!distance_count) {
            counts.symbol[PK_LITERALS] = (trees & 15) != PK_TREES_MINIZ;
            distance_count = 1;
        }
        header->literals = (uint16_t)literals;
        header->distances = (uint16_t)distance_count;
        memset(header->lengths, 0, sizeof header->lengths);
        void (*make)(uint8_t *, const uint32_t *, unsigned, unsigned) =
            (trees & 15) == PK_TREES_MINIZ ? pk_miniz_lengths
            : trees & PK_TREES_QUEUES      ? pk_queue_lengths
                                           : pk_go_lengths;
        make(header->lengths, counts.symbol, 286, MAX_BITS);
        make(distances, counts.symbol + PK_LITERALS, 30, MAX_BITS);
        memcpy(joined, header->lengths, literals);
        memcpy(joined + literals, distances, distance_count);
        pk_go_runs(header, code_counts, joined, literals + distance_count);
        make(header->code_lengths, code_counts, PK_CODES, CODE_BITS);
    }
    header->codes = PK_CODES;
    while (header->codes > 4 && !header->code_lengths[pk_code_order[header->codes - 1]])
        header->codes--;

    uint8_t fixed[PK_LENGTHS];
    pk_fixed_lengths(fixed);
    uint32_t head = 3 + 5 + 5 + 4 + 3u * header->codes
                    + bits_of(code_counts, header->code_lengths, PK_CODES) + code_counts[16] * 2
                    + code_counts[17] * 3 + code_counts[18] * 7;
    uint32_t dynamic_bits =
        head + bits_of(counts.symbol, header->lengths, PK_LENGTHS) + counts.extra_bits;
    uint32_t fixed_bits = 3 + bits_of(given->symbol, fixed, PK_LENGTHS) + 7 + counts.extra_bits;
    if (trees == PK_TREES_ZLIB) {
        /* In whole bytes; a tie goes to the fixed codes. */
        uint32_t dynamic_bytes = (dynamic_bits + 7) >> 3, fixed_bytes = (fixed_bits + 7) >> 3;
        uint32_t least = fixed_bytes <= dynamic_bytes ? fixed_bytes : dynamic_bytes;
        if (plain + 4 <= least && plain <= 65535)
            return PK_STORED;
        return fixed_bytes <= dynamic_bytes ? PK_FIXED : PK_DYNAMIC;
    }
    if ((trees & 15) == PK_TREES_MINIZ) {
        if (plain > 32 && plain <= PK_WINDOW
            && ((plain < MINIZ_LEAST ? fixed_bits : dynamic_bits) >> 3) + 1 >= plain)
            return PK_STORED;
        return plain < MINIZ_LEAST ? PK_FIXED : PK_DYNAMIC;
    }
    if ((trees & 15) == PK_TREES_KLAUSPOST) {
        fixed_bits += counts.symbol[PK_LITERALS] != given->symbol[PK_LITERALS] ? 5 : 0;
        return klauspost_type(trees, &counts, plain,
                              bits_of(counts.symbol, header->lengths, PK_LITERALS), dynamic_bits,
                              fixed_bits);
    }
    if (trees == PK_TREES_GO_SPEED) {
        uint32_t size = dynamic_bits - counts.extra_bits;
        return plain <= 16 || (plain <= 65535 && (plain + 5) * 8 < size + (size >> 4))
                   ? PK_STORED
                   : PK_DYNAMIC;
    }
    if (counts.symbol[PK_LITERALS] != given->symbol[PK_LITERALS])
        fixed_bits += 5; /* Go counts the distance code that it made up */
    uint32_t least = dynamic_bits < fixed_bits ? dynamic_bits : fixed_bits;
    if (plain <= 65535 && (plain + 5) * 8 < least)
        return PK_STORED;
    return dynamic_bits < fixed_bits ? PK_DYNAMIC : PK_FIXED;
}

void pk_assign_codes(uint16_t *codes, const uint8_t *lengths, unsigned symbols)
{
    unsigned count[MAX_BITS + 1] = {0}, next[MAX_BITS + 1] = {0};
    for (unsigned symbol = 0; symbol < symbols; symbol++)
        count[lengths[symbol] & 15]++;
    count[0] = 0;
    for (unsigned length = 1; length <= MAX_BITS; length++)
        next[length] = (next[length - 1] + count[length - 1]) << 1;
    for (unsigned symbol = 0; symbol < symbols; symbol++) {
        unsigned length = lengths[symbol] & 15, code = next[length]++, reversed = 0;
        for (unsigned bit = 0; bit < length; bit++)
            reversed |= (code >> bit & 1) << (length - 1 - bit);
        codes[symbol] = (uint16_t)(length ? reversed : 0);
    }
}
