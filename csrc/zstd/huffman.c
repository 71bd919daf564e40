/* The rules follow what the public encoders are known to do: libzstd's (BSD), and
 * klauspost/compress's, whose descriptions differ in how their weights are coded. Both build the
 * tree with two queues (J. van Leeuwen, "On the construction of Huffman trees", 1976) and cut
 * it to a height. */
#include "zstd/huffman.h"

#include <stdlib.h>
#include <string.h>

/* ---- Descriptions ---- */

/* The weights that FSE codes, by two states in turn, RFC 8878, 4.2.1.2. `in` is all of them;
 * returns how many, or 0. */
static unsigned read_weights(uint8_t *weights, const uint8_t *in, size_t length)
{
    pk_fse table;
    pk_fse_cell cells[64];
    size_t used;
    if (pk_fse_read(&table, in, length, 6, 13, &used) || used >= length || !in[length - 1])
        return 0;
    pk_fse_decoder(cells, &table);
    int left = (int)(8 * (length - used)) - 8 + (int)pk_high_bit(in[length - 1]);
    const uint8_t *bits = in + used;
    unsigned state[2], count = 0;
    for (int i = -2;; i++) {
        unsigned which = (unsigned)i & 1, wanted = table.log;
        if (i >= 0) {
            const pk_fse_cell *cell = &cells[state[which]];
            if (count >= 255)
                return 0;
            weights[count++] = cell->symbol;
            wanted = cell->bits;
            if (left < (int)wanted) { /* the other state has the last one */
                if (count >= 255 || left)
                    return 0;
                weights[count++] = cells[state[!which]].symbol;
                return count;
            }
        } else if (left < (int)wanted) {
            return 0;
        }
        unsigned value = 0;
        for (; wanted; wanted--) {
            left--;
            value = value << 1 | (bits[left >> 3] >> (left & 7) & 1);
        }
        state[which] = i < 0 ? value : cells[state[which]].base + value;
    }
}

pk_status pk_huffman_read(pk_huffman *to, const uint8_t *in, size_t length, size_t *used)
{
    uint8_t weights[256];
    unsigned count;
    if (!length)
        return PK_INVALID;
    if (in[0] >= 128) {
        count = in[0] - 127u;
        *used = 1 + (count + 1) / 2;
        if (*used > length)
            return PK_INVALID;
        for (unsigned i = 0; i < count; i++)
            weights[i] = i & 1 ? in[1 + i / 2] & 15 : in[1 + i / 2] >> 4;
    } else {
        *used = 1u + in[0];
        if (*used > length || !in[0])
            return PK_INVALID;
        count = read_weights(weights, in + 1, in[0]);
    }
    uint32_t sum = 0;
    for (unsigned i = 0; i < count; i++) {
        if (weights[i] > PK_HUFFMAN_BITS)
            return PK_INVALID;
        sum += weights[i] ? 1u << (weights[i] - 1) : 0;
    }
    if (!sum || sum >= 1u << PK_HUFFMAN_BITS)
        return PK_INVALID;
    unsigned most = pk_high_bit(sum) + 1;
    uint32_t rest = (1u << most) - sum; /* the last weight is what makes the sum a power of 2 */
    if (rest & (rest - 1))
        return PK_INVALID;
    weights[count++] = (uint8_t)(pk_high_bit(rest) + 1);
    memset(to->bits, 0, sizeof to->bits);
    for (unsigned i = 0; i < count; i++)
        to->bits[i] = (uint8_t)(weights[i] ? most + 1 - weights[i] : 0);
    to->most = (uint8_t)most;
    return PK_OK;
}

/* Write weights with FSE, as read_weights() reads them; returns the length, or 0 where that is
 * not done. */
static size_t write_weights(unsigned rule, const uint8_t *weights, unsigned count, uint8_t *out)
{
    uint32_t counts[16] = {0}, greatest = 0;
    for (unsigned i = 0; i < count; i++)
        if (++counts[weights[i]] > greatest)
            greatest = counts[weights[i]];
    pk_fse table;
    if (count <= 2 || greatest == count || greatest == 1
        || pk_fse_weight_shares(&table, rule, counts, 13))
        return 0;
    static const unsigned turns = 2;
    pk_fse_encoder encoder;
    pk_fse_encoder_of(&encoder, &table);
    size_t length = pk_fse_write(&table, out);
    uint64_t bits = 0;
    unsigned pending = 0, state[2] = {0};
    for (unsigned i = count; i-- > 0;) {
        unsigned which = i % turns, symbol = weights[i];
        if (i + turns >= count) {
            state[which] = encoder.symbol[symbol].first;
            continue;
        }
        unsigned number = (state[which] + encoder.symbol[symbol].bits) >> 16;
        bits |= (uint64_t)(state[which] & ((1u << number) - 1)) << pending;
        state[which] =
            encoder.state[(int32_t)(state[which] >> number) + encoder.symbol[symbol].find];
        for (pending += number; pending >= 8; pending -= 8, bits >>= 8)
            out[length++] = (uint8_t)bits;
    }
    bits |= (uint64_t)(state[1] & ((1u << table.log) - 1)) << pending;
    pending += table.log;
    bits |= (uint64_t)(state[0] & ((1u << table.log) - 1)) << pending;
    pending += table.log;
    bits |= UINT64_C(1) << pending++;
    for (; pending; pending -= pending < 8 ? pending : 8, bits >>= 8)
        out[length++] = (uint8_t)bits;
    return length;
}

/* ---- Codes from counts ---- */

typedef struct node {
    uint32_t count;
    uint16_t parent;
    uint8_t symbol, bits;
} node;

static int by_count(const void *one, const void *other)
{
    const node *left = one, *right = other;
    if (left->count != right->count)
        return left->count < right->count ? 1 : -1;
    return left->symbol < right->symbol ? -1 : 1;
}

/* Cut a code to `most` bits: nodes too deep are raised, and others pay for it by becoming longer
 * where that costs least. leaves: by falling count. */
static void cut_height(node *leaf, int last, unsigned most)
{
    enum { NONE = -1 };
    const unsigned deepest = leaf[last].bits;
    int owed = 0, at = last, end[PK_HUFFMAN_BITS + 2];
    for (; leaf[at].bits > most; at--) {
        owed += (1 << (deepest - most)) - (1 << (deepest - leaf[at].bits));
        leaf[at].bits = (uint8_t)most;
    }
    while (at >= 0 && leaf[at].bits == most)
        at--;
    owed >>= deepest - most;
    for (unsigned i = 0; i < PK_HUFFMAN_BITS + 2; i++)
        end[i] = NONE;
    unsigned bits = most;
    for (int i = at; i >= 0; i--)
        if (leaf[i].bits < bits) {
            bits = leaf[i].bits;
            end[most - bits] = i;
        }
    while (owed > 0) {
        unsigned less = pk_high_bit((uint32_t)owed) + 1;
        for (; less > 1; less--) {
            if (end[less] == NONE)
                continue;
            if (end[less - 1] == NONE || leaf[end[less]].count <= 2 * leaf[end[less - 1]].count)
                break;
        }
        while (less <= PK_HUFFMAN_BITS && end[less] == NONE)
            less++;
        if (less > PK_HUFFMAN_BITS)
            return; /* no code of this height; the caller sees it */
        owed -= 1 << (less - 1);
        int which = end[less];
        leaf[which].bits++;
        if (end[less - 1] == NONE)
            end[less - 1] = which;
        end[less] = which && leaf[which - 1].bits == most - less ? which - 1 : NONE;
    }
    for (; owed < 0; owed++) {
        if (end[1] == NONE) {
            while (at >= 0 && leaf[at].bits == most)
                at--;
            if (at + 1 > last)
                return;
            leaf[at + 1].bits--;
            end[1] = at + 1;
        } else {
            if (end[1] + 1 > last)
                return;
            leaf[++end[1]].bits--;
        }
    }
}

/* Returns PK_INVALID if there are fewer than two symbols. */
static pk_status make_code(pk_huffman *to, const uint32_t counts[256], unsigned most)
{
    node nodes[512];
    int total = 0;
    for (unsigned s = 0; s < 256; s++)
        if (counts[s])
            nodes[total++] = (node){counts[s], 0, (uint8_t)s, 0};
    if (total < 2)
        return PK_INVALID;
    qsort(nodes, (size_t)total, sizeof *nodes, by_count);
    int made = total, inner = total, leaf = total - 1;
    for (; made < 2 * total - 1; made++) {
        nodes[made].count = 0;
        for (int twice = 0; twice < 2; twice++) {
            int which = leaf >= 0 && (inner == made || nodes[leaf].count < nodes[inner].count)
                            ? leaf--
                            : inner++;
            nodes[made].count += nodes[which].count;
            nodes[which].parent = (uint16_t)made;
        }
    }
    unsigned depth[512];
    depth[made - 1] = 0;
    for (int i = made - 2; i >= total; i--)
        depth[i] = depth[nodes[i].parent] + 1;
    for (int i = 0; i < total; i++) {
        unsigned bits = depth[nodes[i].parent] + 1;
        nodes[i].bits = (uint8_t)(bits);
    }
    if (nodes[total - 1].bits > 30)
        return PK_INVALID;
    if (nodes[total - 1].bits > most)
        cut_height(nodes, total - 1, most);
    memset(to, 0, sizeof *to);
    uint32_t sum = 0;
    for (int i = 0; i < total; i++) {
        unsigned bits = nodes[i].bits;
        if (!bits || bits > PK_HUFFMAN_BITS)
            return PK_INVALID;
        to->bits[nodes[i].symbol] = (uint8_t)bits;
        if (bits > to->most)
            to->most = (uint8_t)bits;
        sum += 1u << (PK_HUFFMAN_BITS - bits);
    }
    return sum == 1u << PK_HUFFMAN_BITS ? PK_OK : PK_INVALID;
}

static size_t write_code(unsigned rule, const pk_huffman *code, uint8_t *out)
{
    uint8_t weights[257] = {0}, coded[512];
    unsigned last = 255;
    while (!code->bits[last])
        last--;
    for (unsigned s = 0; s < last; s++)
        weights[s] = (uint8_t)(code->bits[s] ? code->most + 1 - code->bits[s] : 0);
    size_t length = write_weights(rule, weights, last, coded);
    if (length > 1 && length < (rule == PK_RULE_KLAUSPOST ? (last + 1) / 2 : last / 2)) {
        out[0] = (uint8_t)length;
        memcpy(out + 1, coded, length);
        return length + 1;
    }
    if (last > 128 || !last)
        return 0;
    out[0] = (uint8_t)(127 + last);
    for (unsigned s = 0; s < last; s += 2)
        out[1 + s / 2] = (uint8_t)(weights[s] << 4 | weights[s + 1]);
    return 1 + (last + 1) / 2;
}

static unsigned code_log(const uint32_t counts[256], uint32_t total)
{
    unsigned last = 255, log = PK_HUFFMAN_BITS;
    while (last && !counts[last])
        last--;
    unsigned by_size = pk_high_bit(total - 1) - 1, least = pk_high_bit(total) + 1;
    if (pk_high_bit(last) + 2 < least)
        least = pk_high_bit(last) + 2;
    if (by_size < log)
        log = by_size;
    if (least > log)
        log = least;
    if (log < PK_FSE_LEAST_LOG)
        log = PK_FSE_LEAST_LOG;
    return log < PK_HUFFMAN_BITS ? log : PK_HUFFMAN_BITS;
}

/* Try all heights from the least one on until the bytes become more. */
static size_t search_height(const uint32_t counts[256], uint8_t *out)
{
    unsigned symbols = 0;
    for (unsigned s = 0; s < 256; s++)
        symbols += counts[s] != 0;
    unsigned least = pk_high_bit(symbols) + 1;
    size_t best = SIZE_MAX - 1, length = 0;
    for (unsigned log = least; log <= PK_HUFFMAN_BITS; log++) {
        pk_huffman code;
        uint8_t text[PK_HUFFMAN_TEXT + 1];
        if (make_code(&code, counts, log))
            continue;
        if (code.most < log && log > least)
            break;
        size_t taken = write_code(PK_RULE_LIBZSTD, &code, text), bits = 0;
        if (!taken)
            continue;
        for (unsigned s = 0; s < 256; s++)
            bits += (size_t)code.bits[s] * counts[s];
        size_t bytes = (bits >> 3) + taken;
        if (bytes > best + 1)
            break;
        if (bytes < best) {
            best = bytes;
            length = taken;
            memcpy(out, text, taken);
        }
    }
    return length;
}

size_t pk_huffman_describe(unsigned rule, const uint32_t counts[256], uint32_t total, uint8_t *out)
{
    pk_huffman code;
    if (total < 2)
        return 0;
    if (rule == PK_RULE_SEARCHED)
        return search_height(counts, out);
    if (make_code(&code, counts, code_log(counts, total)))
        return 0;
    return write_code(rule, &code, out);
}

/* ---- Tables ---- */

void pk_huffman_decoder(uint16_t *cells, const pk_huffman *from)
{
    for (unsigned bits = from->most; bits; bits--)
        for (unsigned s = 0; s < 256; s++)
            if (from->bits[s] == bits)
                for (unsigned i = 1u << (from->most - bits); i; i--)
                    *cells++ = (uint16_t)(s | bits << 8);
}

void pk_huffman_encoder(uint32_t codes[256], const pk_huffman *from)
{
    unsigned count[PK_HUFFMAN_BITS + 2] = {0}, next[PK_HUFFMAN_BITS + 2] = {0}, code = 0;
    for (unsigned s = 0; s < 256; s++)
        count[from->bits[s]]++;
    for (unsigned bits = from->most; bits; bits--) {
        next[bits] = code;
        code = (code + count[bits]) >> 1;
    }
    for (unsigned s = 0; s < 256; s++)
        codes[s] = from->bits[s] ? next[from->bits[s]]++ | (uint32_t)from->bits[s] << 16 : 0;
}
