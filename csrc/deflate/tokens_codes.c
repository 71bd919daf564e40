/* Headers as further encoders make them.
 *
 * libdeflate and 7-Zip build Huffman's tree with two queues (J. van Leeuwen, "On the
 * construction of Huffman trees", 1976): symbols sorted by frequency, then value, and inner
 * nodes in the order they were made. Of a symbol and a node of equal weight they take the
 * symbol. Depths above the limit are cut while the numbers of codes of each length are counted,
 * from the root down; the rarest symbols then get the longest codes.
 */
#include "deflate/tokens_internal.h"

enum { MAX_BITS = 15, CODE_BITS = 7, END_OF_BLOCK = 256, LIBDEFLATE_BITS = 14 };

static void queue_lengths(uint8_t *lengths, const uint32_t *counts, unsigned symbols,
                          unsigned most)
{
    pk_weighted leaf[PK_LITERALS];
    uint32_t weight[PK_LITERALS];
    uint16_t parent[PK_LITERALS], depth[PK_LITERALS];
    unsigned total = 0;
    memset(lengths, 0, symbols);
    for (unsigned symbol = 0; symbol < symbols; symbol++)
        if (counts[symbol])
            leaf[total++] = (pk_weighted){counts[symbol], (uint16_t)symbol};
    if (total < 2) { /* a code of two symbols, one of them made up */
        unsigned symbol = total ? leaf[0].symbol : 0;
        lengths[0] = lengths[symbol ? symbol : 1] = 1;
        return;
    }
    pk_sort_by_count(leaf, total);
    unsigned leaves = 0, nodes = 0, made = 0;
    for (; made < total - 1; made++) {
        weight[made] = 0;
        for (int twice = 0; twice < 2; twice++) {
            if (leaves < total && (nodes == made || leaf[leaves].count <= weight[nodes])) {
                weight[made] += leaf[leaves++].count;
            } else {
                weight[made] += weight[nodes];
                parent[nodes++] = (uint16_t)made;
            }
        }
    }
    unsigned count[MAX_BITS + 2] = {0};
    count[1] = 2;
    depth[made - 1] = 0;
    for (unsigned node = made - 1; node-- > 0;) {
        unsigned at = depth[node] = (uint16_t)(depth[parent[node]] + 1);
        if (at >= most)
            for (at = most - 1; !count[at]; at--)
                ;
        count[at]--;
        count[at + 1] += 2;
    }
    unsigned next = 0;
    for (unsigned length = most; length; length--)
        for (unsigned left = count[length]; left; left--)
            lengths[leaf[next++].symbol] = (uint8_t)length;
}

void pk_tokens_runs(pk_header *header, unsigned make)
{
    uint32_t counts[PK_CODES] = {0};
    header->symbols = 0;
    if (make == MAKES_ZLIB || make >= MAKES_SEVEN) {
        pk_zlib_runs(header, counts, header->lengths, header->literals);
        pk_zlib_runs(header, counts, header->lengths + PK_LITERALS, header->distances);
    } else {
        uint8_t joined[PK_LENGTHS];
        memcpy(joined, header->lengths, header->literals);
        memcpy(joined + header->literals, header->lengths + PK_LITERALS, header->distances);
        pk_go_runs(header, counts, joined, (unsigned)header->literals + header->distances);
    }
    if (make == MAKES_ZLIB)
        pk_zlib_lengths(header->code_lengths, counts, PK_CODES, CODE_BITS);
    else if (make == MAKES_GO)
        pk_go_lengths(header->code_lengths, counts, PK_CODES, CODE_BITS);
    else
        queue_lengths(header->code_lengths, counts, PK_CODES, CODE_BITS);
    header->codes = PK_CODES;
    while (header->codes > 4 && !header->code_lengths[pk_code_order[header->codes - 1]])
        header->codes--;
}

static uint32_t bits_of(const uint32_t *counts, const uint8_t *lengths, unsigned symbols)
{
    uint32_t bits = 0;
    for (unsigned symbol = 0; symbol < symbols; symbol++)
        bits += counts[symbol] * lengths[symbol];
    return bits;
}

int pk_tokens_header(pk_header *header, unsigned make, const pk_counts *given, uint32_t plain)
{
    if (make == MAKES_ZLIB || make == MAKES_GO)
        return pk_make_header(header, make == MAKES_GO ? PK_TREES_GO : PK_TREES_ZLIB, given,
                              plain);
    uint32_t counts[PK_LENGTHS];
    memcpy(counts, given->symbol, sizeof counts);
    counts[END_OF_BLOCK] = 1;
    unsigned most = make == MAKES_LIBDEFLATE ? LIBDEFLATE_BITS : make - MAKES_SEVEN + 9;
    memset(header->lengths, 0, sizeof header->lengths);
    queue_lengths(header->lengths, counts, 286, most);
    queue_lengths(header->lengths + PK_LITERALS, counts + PK_LITERALS, 30,
                  make == MAKES_LIBDEFLATE ? MAX_BITS : most);
    for (header->literals = 286; header->literals > 257 && !header->lengths[header->literals - 1];)
        header->literals--;
    for (header->distances = 30;
         header->distances > 1 && !header->lengths[PK_LITERALS + header->distances - 1];)
        header->distances--;
    pk_tokens_runs(header, make);
    uint8_t fixed[PK_LENGTHS];
    pk_fixed_lengths(fixed);
    uint32_t head = 14 + 3u * header->codes;
    for (unsigned at = 0; at < header->symbols; at++) {
        unsigned symbol = header->symbol[at];
        head += header->code_lengths[symbol]
                + (symbol == 16   ? 2u
                   : symbol == 17 ? 3u
                   : symbol == 18 ? 7u
                                  : 0u);
    }
    return head + bits_of(counts, header->lengths, PK_LENGTHS) < bits_of(counts, fixed, PK_LENGTHS)
               ? PK_DYNAMIC
               : PK_FIXED;
}
