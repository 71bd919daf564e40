/* Lengths of the codes that encoders make from frequencies, each in its own way. */
#include <string.h>

#include "deflate/block_header.h"

enum { MAX_BITS = 15, HEAP = 2 * PK_LITERALS + 1 };

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

/* ---- Trees of two queues, which the other constructions begin with. ---- */

/* Make the depths of sorted symbols, 3 or more, in the tree that two queues give, of symbols and
 * of nodes, each in increasing order (J. van Leeuwen, "On the construction of Huffman trees",
 * 1976).
 *
 * symbols_first: of equals, the symbol goes first; else the node. Returns the greatest depth. */
static unsigned queue_depths(const pk_weighted *list, unsigned total, int symbols_first,
                             uint16_t *depth)
{
    uint32_t weight[PK_LITERALS];
    uint16_t parent[2 * PK_LITERALS];
    unsigned leaf = 0, node = 0, greatest = 0;
    for (unsigned made = 0; made < total - 1; made++) {
        weight[made] = 0;
        for (int child = 0; child < 2; child++) {
            if (leaf < total
                && (node == made || list[leaf].count < weight[node] + (unsigned)symbols_first)) {
                weight[made] += list[leaf].count;
                parent[leaf++] = (uint16_t)(total + made);
            } else {
                weight[made] += weight[node];
                parent[total + node++] = (uint16_t)(total + made);
            }
        }
    }
    depth[2 * total - 2] = 0;
    for (unsigned at = 2 * total - 2; at--;) {
        depth[at] = (uint16_t)(depth[parent[at]] + 1);
        greatest = depth[at] > greatest ? depth[at] : greatest;
    }
    return greatest;
}

static unsigned list_symbols(pk_weighted *list, const uint32_t *counts, unsigned symbols)
{
    unsigned total = 0;
    for (unsigned symbol = 0; symbol < symbols; symbol++)
        if (counts[symbol])
            list[total++] = (pk_weighted){counts[symbol], (uint16_t)symbol};
    return total;
}

/* ---- The construction of Go (compress/flate, huffman_code.go): optimal codes of bounded length
 * by the boundary method of Katajainen, Moffat and Turpin, "A fast and space-economical algorithm
 * for length-limited coding", 1995. Here its lists are made in whole, as by L. Larmore
 * and D. Hirschberg, "A fast algorithm for optimal length-limited Huffman codes", 1990: their
 * loop has no branch that is hard to foresee. ---- */

void pk_sort_by_count(pk_weighted *list, unsigned total)
{
    enum { FEW = 40, DIGIT = 8, DIGITS = 1 << DIGIT };
    if (total <= FEW) {
        for (unsigned at = 1; at < total; at++) {
            const pk_weighted one = list[at];
            unsigned to = at;
            for (; to && list[to - 1].count > one.count; to--)
                list[to] = list[to - 1];
            list[to] = one;
        }
        return;
    }
    pk_weighted other[PK_LITERALS], *from = list, *to = other;
    uint32_t greatest = 0;
    for (unsigned at = 0; at < total; at++)
        greatest |= list[at].count;
    for (unsigned shift = 0; shift < 32 && greatest >> shift; shift += DIGIT) {
        uint16_t place[DIGITS + 1] = {0};
        for (unsigned at = 0; at < total; at++)
            place[(from[at].count >> shift & (DIGITS - 1)) + 1]++;
        for (unsigned digit = 1; digit < DIGITS; digit++)
            place[digit] = (uint16_t)(place[digit] + place[digit - 1]);
        for (unsigned at = 0; at < total; at++)
            to[place[from[at].count >> shift & (DIGITS - 1)]++] = from[at];
        pk_weighted *filled = to;
        to = from;
        from = filled;
    }
    if (from != list)
        memcpy(list, from, total * sizeof *list);
}

/* One level of the lists below: symbols, and pairs of what is on the level before, by weight; of
 * equals the pair goes first.
 *
 * before, count: the weights of the level before. to: set to those of this level.
 * symbols_of: how many of the first 0, 1, 2 ... are symbols. Returns how many there are. */
static unsigned merge_level(const uint32_t *before, unsigned count, const pk_weighted *list,
                            unsigned total, uint32_t *to, uint16_t *symbols_of)
{
    const unsigned pairs = count / 2;
    unsigned symbol = 0, pair = 0, at = 0;
    while (symbol < total && pair < pairs) {
        const uint32_t own = list[symbol].count, both = before[2 * pair] + before[2 * pair + 1];
        const unsigned is_symbol = own < both;
        to[at] = is_symbol ? own : both;
        symbols_of[at++] = (uint16_t)symbol;
        symbol += is_symbol;
        pair += !is_symbol;
    }
    for (; symbol < total; symbols_of[at++] = (uint16_t)symbol++)
        to[at] = list[symbol].count;
    for (; pair < pairs; symbols_of[at++] = (uint16_t)symbol, pair++)
        to[at] = before[2 * pair] + before[2 * pair + 1];
    symbols_of[at] = (uint16_t)symbol;
    return at;
}

/* Make the lengths of sorted symbols, 3 or more, by these lists. */
static void bounded_lengths(uint8_t *lengths, const pk_weighted *list, unsigned total,
                            unsigned most)
{
    uint32_t weights[2][2 * PK_LITERALS];
    uint16_t symbols_of[MAX_BITS][2 * PK_LITERALS + 1];
    unsigned count = 0;
    if (most > total - 1)
        most = total - 1;
    for (unsigned level = 0; level < most; level++)
        count = merge_level(weights[level & 1], count, list, total, weights[~level & 1],
                            symbols_of[level]);
    /* The first `needed` of the last level are taken, and what its pairs are made of: a symbol's
     * code has as many bits as there are levels on which it is. */
    unsigned needed = 2 * total - 2;
    for (unsigned level = most; level--;) {
        const unsigned own = symbols_of[level][needed];
        for (unsigned at = 0; at < own; at++)
            lengths[list[at].symbol]++;
        needed = 2 * (needed - own);
    }
}

/* A list of enough levels is the order in which two queues are emptied, the node first of equals:
 * its pairs are the nodes. So if that tree is not too deep, the lists would give its depths, and
 * are not made. */
void pk_go_lengths(uint8_t *lengths, const uint32_t *counts, unsigned symbols, unsigned most)
{
    pk_weighted list[PK_LITERALS];
    uint16_t depth[2 * PK_LITERALS];
    const unsigned total = list_symbols(list, counts, symbols);
    memset(lengths, 0, symbols);
    if (total <= 2) {
        for (unsigned at = 0; at < total; at++)
            lengths[list[at].symbol] = 1;
        return;
    }
    pk_sort_by_count(list, total);
    if (queue_depths(list, total, 0, depth) > most) {
        bounded_lengths(lengths, list, total, most);
        return;
    }
    for (unsigned at = 0; at < total; at++)
        lengths[list[at].symbol] = (uint8_t)depth[at];
}

/* ---- The construction of klauspost/compress from release 1.20.4 on: Huffman's algorithm on two
 * queues; of equals the symbol goes first. Codes that become too long are made in Go's manner
 * instead. ---- */

void pk_queue_lengths(uint8_t *lengths, const uint32_t *counts, unsigned symbols, unsigned most)
{
    pk_weighted list[PK_LITERALS];
    uint16_t depth[2 * PK_LITERALS];
    const unsigned total = list_symbols(list, counts, symbols);
    if (total > 2)
        pk_sort_by_count(list, total);
    if (total <= 2 || queue_depths(list, total, 1, depth) > most) {
        pk_go_lengths(lengths, counts, symbols, most);
        return;
    }
    memset(lengths, 0, symbols);
    for (unsigned at = 0; at < total; at++)
        lengths[list[at].symbol] = (uint8_t)depth[at];
}

/* miniz: the same tree. Codes that are too long are cut; while there are too many, one of them
 * goes, and the longest shorter one becomes two. The most frequent symbols get the shortest. */
void pk_miniz_lengths(uint8_t *lengths, const uint32_t *counts, unsigned symbols, unsigned most)
{
    pk_weighted list[PK_LITERALS];
    uint16_t depth[2 * PK_LITERALS];
    unsigned total = list_symbols(list, counts, symbols), codes[MAX_BITS + 1] = {0};
    if (total <= 2) {
        pk_go_lengths(lengths, counts, symbols, most);
        return;
    }
    pk_sort_by_count(list, total);
    queue_depths(list, total, 1, depth);
    uint32_t room = 1u << most, taken = 0;
    for (unsigned at = 0; at < total; at++)
        codes[depth[at] < most ? depth[at] : most]++;
    for (unsigned length = 1; length <= most; length++)
        taken += codes[length] << (most - length);
    for (; taken > room; taken--) {
        unsigned length = most - 1;
        while (length && !codes[length])
            length--;
        codes[most]--;
        if (length) {
            codes[length]--;
            codes[length + 1] += 2;
        }
    }
    memset(lengths, 0, symbols);
    for (unsigned length = 1; length <= most; length++)
        while (codes[length]--)
            lengths[list[--total].symbol] = (uint8_t)length;
}

void pk_make_lengths(uint8_t *lengths, int queues, const uint32_t *counts, unsigned symbols)
{
    (queues ? pk_queue_lengths : pk_go_lengths)(lengths, counts, symbols, MAX_BITS);
}
