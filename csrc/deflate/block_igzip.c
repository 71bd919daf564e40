/* Headers of igzip (ISA-L). Sources: its hufftables_c.c, the codes that level 0 always has; and
 * huff_codes.c, create_hufftables_icf. */
#include "deflate/block_header.h"

#include <string.h>

enum { LITERALS = 286, DISTANCES = 30, LEAST_REPEAT = 4, MOST_REPEAT = 6 };
enum { END_OF_BLOCK = 256, MAX_BITS = 15, CODE_BITS = 7, HEAD_BITS = 3 + 5 + 5 + 4 };

/* Code lengths of literals and lengths, then distances; and of the symbols that write these. */
static const uint8_t usual[LITERALS + DISTANCES] = {
    6,  8,  9,  8,  8,  9,  9,  9,  9,  9,  7,  9,  9,  8,  9,  9,  9,  10, 10, 10, 10, 11, 11,
    11, 10, 11, 11, 11, 10, 11, 10, 9,  5,  10, 9,  10, 10, 10, 10, 9,  9,  9,  10, 10, 7,  8,
    8,  10, 8,  8,  8,  9,  9,  9,  9,  9,  9,  9,  9,  9,  10, 10, 9,  9,  9,  8,  8,  9,  9,
    9,  9,  9,  9,  9,  10, 10, 9,  9,  9,  9,  9,  10, 9,  9,  9,  10, 10, 10, 10, 10, 11, 10,
    10, 11, 11, 10, 10, 6,  8,  7,  7,  6,  8,  8,  7,  6,  10, 9,  7,  7,  7,  6,  7,  10, 6,
    6,  7,  7,  9,  8,  9,  8,  10, 11, 10, 11, 10, 10, 9,  11, 11, 11, 11, 11, 11, 11, 11, 11,
    11, 10, 11, 11, 11, 10, 10, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 10,
    11, 11, 11, 10, 11, 10, 11, 11, 11, 11, 11, 11, 11, 11, 11, 10, 11, 11, 11, 10, 11, 11, 11,
    11, 11, 11, 11, 11, 10, 11, 11, 9,  10, 9,  9,  11, 11, 11, 10, 11, 11, 11, 11, 11, 11, 11,
    10, 10, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 9,  11, 11, 10, 11, 11,
    11, 10, 10, 11, 11, 11, 11, 11, 11, 11, 9,  10, 11, 10, 11, 11, 11, 11, 10, 10, 11, 11, 10,
    10, 9,  8,  15, 15, 2,  4,  4,  5,  6,  7,  7,  5,  8,  8,  8,  8,  9,  10, 10, 10, 10, 10,
    10, 11, 12, 13, 13, 12, 13, 15, 15, 11, 8,  9,  8,  9,  8,  7,  7,  6,  6,  6,  5,  5,  5,
    5,  4,  4,  4,  5,  4,  5,  4,  5,  3,  5,  4,  5,  4,  5,  5,  6,
};
static const uint8_t usual_codes[PK_CODES] = {
    0, 0, 6, 7, 6, 4, 4, 4, 4, 3, 2, 2, 7, 7, 0, 7, 4, 0, 0,
};

int pk_igzip_usual(pk_header *header)
{
    const unsigned total = LITERALS + DISTANCES;
    memset(header, 0, sizeof *header);
    header->literals = LITERALS;
    header->distances = DISTANCES;
    header->codes = PK_CODES;
    memcpy(header->code_lengths, usual_codes, sizeof usual_codes);
    memcpy(header->lengths, usual, LITERALS);
    memcpy(header->lengths + PK_LITERALS, usual + LITERALS, DISTANCES);
    for (unsigned at = 0; at < total;) {
        unsigned repeat = 0;
        header->symbol[header->symbols++] = usual[at++];
        while (at + repeat < total && usual[at + repeat] == usual[at - 1])
            repeat++;
        for (at += repeat; repeat >= LEAST_REPEAT;) {
            const unsigned now = repeat < MOST_REPEAT ? repeat : MOST_REPEAT;
            header->extra[header->symbols] = (uint8_t)(now - 3);
            header->symbol[header->symbols++] = 16;
            repeat -= now;
        }
        at -= repeat;
    }
    return PK_DYNAMIC;
}

/* A node of Huffman's tree that is no child yet. */
typedef struct waiting {
    uint32_t count;
    uint16_t node;
} waiting;

/* Return a node's number: the least of all, of equals the symbol, then the newest node.
 *
 * leaves, next: the symbols by count, and the next of them. nodes, many: the others, by count. */
static unsigned take_least(const pk_weighted *leaves, unsigned total, unsigned *next,
                           waiting *nodes, unsigned *many)
{
    if (*next < total && (!*many || leaves[*next].count <= nodes[0].count))
        return (*next)++;
    unsigned last = 0;
    while (last + 1 < *many && nodes[last + 1].count == nodes[0].count)
        last++;
    const unsigned node = nodes[last].node;
    (*many)--;
    memmove(nodes + last, nodes + last + 1, (*many - last) * sizeof *nodes);
    return node;
}

/* Build Huffman's tree of `total` symbols, two or more.
 *
 * depth: written, of each symbol. */
static void build_tree(uint16_t depth[2 * PK_LITERALS], const pk_weighted *leaves, unsigned total)
{
    waiting nodes[PK_LITERALS];
    uint32_t weight[2 * PK_LITERALS];
    uint16_t parent[2 * PK_LITERALS];
    unsigned next = 0, left = 0;
    for (unsigned leaf = 0; leaf < total; leaf++)
        weight[leaf] = leaves[leaf].count;
    for (unsigned node = total; node < 2 * total - 1; node++) {
        weight[node] = 0;
        for (unsigned child = 0; child < 2; child++) {
            const unsigned least = take_least(leaves, total, &next, nodes, &left);
            weight[node] += weight[least];
            parent[least] = (uint16_t)node;
        }
        nodes[left++] = (waiting){weight[node], (uint16_t)node};
    }
    depth[2 * total - 2] = 0;
    for (unsigned node = 2 * total - 2; node-- > 0;)
        depth[node] = (uint16_t)(depth[parent[node]] + 1);
}

/* Cut lengths to at most `most`, and give the shortest to the most frequent symbols, of equals to
 * the last.
 *
 * depth: of the symbols, by count; changed. longest: of them. */
static void cut_lengths(uint16_t *depth, unsigned total, unsigned longest, unsigned most)
{
    uint32_t many[PK_LITERALS] = {0};
    for (unsigned leaf = 0; leaf < total; leaf++)
        many[depth[leaf]]++;
    while (longest > most) {
        unsigned shorter = most - 1;
        while (!many[shorter])
            shorter--;
        many[shorter]--;
        many[shorter + 1] += 2;
        many[longest - 1]++;
        many[longest] -= 2;
        longest -= !many[longest];
    }
    for (unsigned length = 1, leaf = total; leaf-- > 0; many[length]--) {
        while (!many[length])
            length++;
        depth[leaf] = (uint16_t)length;
    }
}

/* Make code lengths of at most `most` bits; fewer than two symbols are filled up. Returns the
 * number of lengths up to the last that is not 0. */
static unsigned make_lengths(uint8_t *lengths, const uint32_t *counts, unsigned symbols,
                             unsigned most)
{
    pk_weighted leaves[PK_LITERALS];
    uint16_t depth[2 * PK_LITERALS];
    unsigned total = 0, longest = 0, end = 0;
    for (unsigned symbol = 0; symbol < symbols; symbol++)
        if (counts[symbol])
            leaves[total++] = (pk_weighted){counts[symbol], (uint16_t)symbol};
    for (unsigned symbol = 0; total < 2; symbol++)
        if (!counts[symbol])
            leaves[total++] = (pk_weighted){1, (uint16_t)symbol};
    memset(lengths, 0, symbols);
    pk_sort_by_count(leaves, total);
    build_tree(depth, leaves, total);
    for (unsigned leaf = 0; leaf < total; leaf++)
        longest = depth[leaf] > longest ? depth[leaf] : longest;
    if (longest > most)
        cut_lengths(depth, total, longest, most);
    for (unsigned leaf = 0; leaf < total; leaf++) {
        lengths[leaves[leaf].symbol] = (uint8_t)depth[leaf];
        end = leaves[leaf].symbol >= end ? leaves[leaf].symbol + 1u : end;
    }
    return end;
}

static uint32_t bits_of(const uint32_t *counts, const uint8_t *lengths, unsigned symbols)
{
    uint32_t bits = 0;
    for (unsigned symbol = 0; symbol < symbols; symbol++)
        bits += counts[symbol] * lengths[symbol];
    return bits;
}

int pk_igzip_header(pk_header *header, const pk_counts *given)
{
    pk_counts counts = *given;
    uint32_t code_counts[PK_CODES] = {0};
    uint8_t joined[PK_LENGTHS], fixed[PK_LENGTHS], *distances = header->lengths + PK_LITERALS;
    memset(header, 0, sizeof *header);
    counts.symbol[END_OF_BLOCK] = 1;
    header->literals = (uint16_t)make_lengths(header->lengths, counts.symbol, LITERALS, MAX_BITS);
    header->distances =
        (uint16_t)make_lengths(distances, counts.symbol + PK_LITERALS, DISTANCES, MAX_BITS);
    memcpy(joined, header->lengths, header->literals);
    memcpy(joined + header->literals, distances, header->distances);
    pk_go_runs(header, code_counts, joined, (unsigned)header->literals + header->distances);
    make_lengths(header->code_lengths, code_counts, PK_CODES, CODE_BITS);
    header->codes = PK_CODES;
    while (header->codes > 4 && !header->code_lengths[pk_code_order[header->codes - 1]])
        header->codes--;
    pk_fixed_lengths(fixed);
    const uint32_t head = HEAD_BITS + 3u * header->codes
                          + bits_of(code_counts, header->code_lengths, PK_CODES)
                          + code_counts[16] * 2 + code_counts[17] * 3 + code_counts[18] * 7;
    return 3 + bits_of(counts.symbol, fixed, PK_LENGTHS)
                   <= head + bits_of(counts.symbol, header->lengths, PK_LENGTHS)
               ? PK_FIXED
               : PK_DYNAMIC;
}
