#include "deflate/block_header.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_BITS = 15, CODE_BITS = 7, END_OF_BLOCK = 256, HEAP = 2 * PK_LITERALS + 1 };

void pk_count(pk_counts *counts, const pk_token *tokens, size_t count)
{
    memset(counts, 0, sizeof *counts);
    for (size_t at = 0; at < count; at++) {
        pk_token token = tokens[at];
        if (token < 256) {
            counts->symbol[token]++;
            continue;
        }
        unsigned length = pk_length_symbol(token >> 16);
        unsigned distance = pk_distance_symbol(token & 0xffff);
        counts->symbol[257 + length]++;
        counts->symbol[PK_LITERALS + distance]++;
        counts->extra_bits += pk_length_extra[length] + pk_distance_extra[distance];
    }
}

/* ---- The construction of zlib (trees.c) and gzip: a heap, ties broken by depth; too long codes
 * are shortened afterwards. P. Deutsch's and J.-l. Gailly's "proved" order of operations decides
 * which of many optimal codes comes out, so it is followed step by step. ---- */

typedef struct heap {
    uint32_t weight[HEAP];
    uint8_t depth[HEAP];
    uint16_t parent[HEAP], order[HEAP];
    unsigned length, sorted;
} heap;

static inline int before(const heap *with, unsigned one, unsigned other)
{
    return with->weight[one] < with->weight[other]
           || (with->weight[one] == with->weight[other] && with->depth[one] <= with->depth[other]);
}

/* Move the node at `hole` down to its place in the heap. */
static void sift(heap *with, unsigned hole)
{
    unsigned node = with->order[hole];
    for (unsigned child = hole * 2; child <= with->length; child *= 2) {
        if (child < with->length && before(with, with->order[child + 1], with->order[child]))
            child++;
        if (before(with, node, with->order[child]))
            break;
        with->order[hole] = with->order[child];
        hole = child;
    }
    with->order[hole] = (uint16_t)node;
}

/* Make code lengths of at most `most` bits for `symbols` symbols. Returns the greatest symbol that
 * has a code. */
int pk_zlib_lengths(uint8_t *lengths, const uint32_t *counts, unsigned symbols, unsigned most)
{
    heap with;
    int greatest = -1;
    with.length = 0;
    with.sorted = HEAP;
    memset(lengths, 0, symbols);
    for (unsigned symbol = 0; symbol < symbols; symbol++) {
        with.weight[symbol] = counts[symbol];
        with.depth[symbol] = 0;
        if (counts[symbol]) {
            with.order[++with.length] = (uint16_t)symbol;
            greatest = (int)symbol;
        }
    }
    while (with.length < 2) { /* a code needs two symbols */
        unsigned symbol = greatest < 2 ? (unsigned)++greatest : 0;
        with.order[++with.length] = (uint16_t)symbol;
        with.weight[symbol] = 1;
    }
    for (unsigned at = with.length / 2; at >= 1; at--)
        sift(&with, at);
    unsigned node = symbols;
    do {
        unsigned one = with.order[1];
        with.order[1] = with.order[with.length--];
        sift(&with, 1);
        unsigned other = with.order[1];
        with.order[--with.sorted] = (uint16_t)one;
        with.order[--with.sorted] = (uint16_t)other;
        with.weight[node] = with.weight[one] + with.weight[other];
        with.depth[node] =
            (uint8_t)((with.depth[one] >= with.depth[other] ? with.depth[one] : with.depth[other])
                      + 1);
        with.parent[one] = with.parent[other] = (uint16_t)node;
        with.order[1] = (uint16_t)node++;
        sift(&with, 1);
    } while (with.length >= 2);
    with.order[--with.sorted] = with.order[1];

    uint8_t bits[HEAP];
    unsigned count[MAX_BITS + 1] = {0}, at;
    int over = 0;
    bits[with.order[with.sorted]] = 0;
    for (at = with.sorted + 1; at < HEAP; at++) {
        unsigned symbol = with.order[at], length = bits[with.parent[symbol]] + 1u;
        if (length > most) {
            length = most;
            over++;
        }
        bits[symbol] = (uint8_t)length;
        if (symbol < symbols) {
            lengths[symbol] = (uint8_t)length;
            count[length]++;
        }
    }
    if (over <= 0)
        return greatest;
    do {
        unsigned length = most - 1;
        while (!count[length])
            length--;
        count[length]--;
        count[length + 1] += 2;
        count[most]--;
        over -= 2;
    } while (over > 0);
    at = HEAP;
    for (unsigned length = most; length; length--) {
        for (unsigned left = count[length]; left;) {
            unsigned symbol = with.order[--at];
            if (symbol >= symbols)
                continue;
            lengths[symbol] = (uint8_t)length;
            left--;
        }
    }
    return greatest;
}

/* ---- The construction of Go (compress/flate, huffman_code.go): optimal codes of bounded length
 * by the boundary method of Katajainen, Moffat and Turpin, "A fast and space-economical algorithm
 * for length-limited coding", 1995. ---- */

int pk_by_count(const void *one, const void *other)
{
    const pk_weighted *left = one, *right = other;
    if (left->count != right->count)
        return left->count < right->count ? -1 : 1;
    return (int)left->symbol - (int)right->symbol;
}

void pk_go_lengths(uint8_t *lengths, const uint32_t *counts, unsigned symbols, unsigned most)
{
    enum { NEVER = 0x7fffffff };
    pk_weighted list[PK_LITERALS + 1];
    unsigned total = 0;
    memset(lengths, 0, symbols);
    for (unsigned symbol = 0; symbol < symbols; symbol++)
        if (counts[symbol])
            list[total++] = (pk_weighted){counts[symbol], (uint16_t)symbol};
    if (total <= 2) {
        for (unsigned at = 0; at < total; at++)
            lengths[list[at].symbol] = 1;
        return;
    }
    qsort(list, total, sizeof *list, pk_by_count);
    list[total].count = NEVER;
    if (most > total - 1)
        most = total - 1;
    struct {
        uint32_t last, leaf, pair, needed;
    } level[MAX_BITS + 3];
    uint32_t leaves[MAX_BITS + 3][MAX_BITS + 3];
    memset(leaves, 0, sizeof leaves);
    memset(level, 0, sizeof level);
    for (unsigned at = 1; at <= most; at++) {
        level[at].last = list[1].count;
        level[at].leaf = list[2].count;
        level[at].pair = at == 1 ? NEVER : list[0].count + list[1].count;
        leaves[at][at] = 2;
    }
    level[most].needed = 2 * total - 4;
    for (unsigned at = most;;) {
        if (level[at].pair == NEVER && level[at].leaf == NEVER) {
            level[at].needed = 0;
            level[at + 1].pair = NEVER;
            at++;
            continue;
        }
        uint32_t previous = level[at].last;
        if (level[at].leaf < level[at].pair) {
            unsigned next = ++leaves[at][at];
            level[at].last = level[at].leaf;
            level[at].leaf = list[next].count;
        } else {
            level[at].last = level[at].pair;
            memcpy(leaves[at], leaves[at - 1], at * sizeof leaves[at][0]);
            level[at - 1].needed = 2;
        }
        if (--level[at].needed == 0) {
            if (at == most)
                break;
            level[at + 1].pair = previous + level[at].last;
            at++;
        } else {
            while (level[at - 1].needed > 0)
                at--;
        }
    }
    unsigned left = total;
    for (unsigned bits = 1, at = most; at; bits++, at--) {
        unsigned share = leaves[most][at] - leaves[most][at - 1];
        while (share--)
            lengths[list[--left].symbol] = (uint8_t)bits;
    }
}

/* ---- The construction of klauspost/compress from release 1.20.4 on: Huffman's algorithm on two
 * queues, of symbols and of nodes, each in increasing order (J. van Leeuwen, "On the construction
 * of Huffman trees", 1976); of equals the symbol goes first. Codes that become too long are made
 * in Go's manner instead. ---- */

static void queue_lengths(uint8_t *lengths, const uint32_t *counts, unsigned symbols,
                          unsigned most)
{
    pk_weighted list[PK_LITERALS];
    uint32_t weight[PK_LITERALS];
    uint16_t parent[2 * PK_LITERALS];
    uint8_t depth[2 * PK_LITERALS];
    unsigned total = 0, leaf = 0, node = 0;
    for (unsigned symbol = 0; symbol < symbols; symbol++)
        if (counts[symbol])
            list[total++] = (pk_weighted){counts[symbol], (uint16_t)symbol};
    if (total <= 2) {
        pk_go_lengths(lengths, counts, symbols, most);
        return;
    }
    qsort(list, total, sizeof *list, pk_by_count);
    for (unsigned made = 0; made < total - 1; made++) {
        weight[made] = 0;
        for (int child = 0; child < 2; child++) {
            if (leaf < total && (node == made || list[leaf].count <= weight[node])) {
                weight[made] += list[leaf].count;
                parent[leaf++] = (uint16_t)(total + made);
            } else {
                weight[made] += weight[node];
                parent[total + node++] = (uint16_t)(total + made);
            }
        }
    }
    memset(lengths, 0, symbols);
    depth[2 * total - 2] = 0;
    for (unsigned at = 2 * total - 2; at--;) {
        depth[at] = (uint8_t)(depth[parent[at]] + 1);
        if (at < total && depth[at] > most) {
            pk_go_lengths(lengths, counts, symbols, most);
            return;
        }
        if (at < total)
            lengths[list[at].symbol] = depth[at];
    }
}

void pk_make_lengths(uint8_t *lengths, int queues, const uint32_t *counts, unsigned symbols)
{
    (queues ? queue_lengths : pk_go_lengths)(lengths, counts, symbols, MAX_BITS);
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
            counts.symbol[PK_LITERALS] = 1;
            distance_count = 1;
        }
        header->literals = (uint16_t)literals;
        header->distances = (uint16_t)distance_count;
        memset(header->lengths, 0, sizeof header->lengths);
        void (*make)(uint8_t *, const uint32_t *, unsigned, unsigned) =
            (trees & PK_TREES_QUEUES) ? queue_lengths : pk_go_lengths;
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
