/* Decoding tables for prefix codes.
 *
 * A table has an entry for each value of the next bits, `root` of them: those of a shorter code
 * are repeated for all values of the bits behind it. Codes longer than that share tables of their
 * own, one for each value of their first `root` bits. Codes are made in their canonical order,
 * with bits reversed, as they are read; as long as they are short the table doubles with each
 * further bit, so that each part of it is written once.
 */
#include "deflate/inflate_codes.h"

#include <string.h>

/* Return the code behind `code`, of as many bits, reversed, in canonical order; there is one. */
static inline unsigned next_code(unsigned code, unsigned bits)
{
    unsigned bit = 1u << (31 - __builtin_clz(code ^ ((1u << bits) - 1)));
    return (code & (bit - 1)) | bit;
}

static inline pk_entry entry_of(pk_entry meaning, unsigned bits)
{
    return meaning + (bits << 8) + bits;
}

/* Write the tables for codes longer than `root`.
 *
 * at: code and length of the first, of which there are count[length]. symbols: sorted. */
static void make_longer(pk_entry *out, unsigned root, unsigned code, unsigned length,
                        const uint16_t *count, const uint16_t *symbols, const pk_entry *meanings)
{
    unsigned end = 1u << root, prefix = UINT32_MAX, start = 0, left = count[length];
    for (;;) {
        if ((code & ((1u << root) - 1)) != prefix) {
            prefix = code & ((1u << root) - 1);
            start = end;
            /* As many bits as it takes until its codes fill it. */
            unsigned bits = length - root;
            for (unsigned used = left; used < 1u << bits;) {
                bits++;
                used = (used << 1) + count[root + bits];
            }
            end = start + (1u << bits);
            out[prefix] =
                (pk_entry)start << 16 | PK_ENTRY_OTHER | PK_ENTRY_LONGER | bits << 8 | root;
        }
        const pk_entry entry = entry_of(meanings[*symbols++], length);
        for (unsigned at = start + (code >> root); at < end; at += 1u << (length - root))
            out[at] = entry;
        if (code == (1u << length) - 1)
            return;
        code = next_code(code, length);
        for (left--; !left;)
            left = count[++length];
    }
}

/* Write the table of a complete code; see make_longer. */
static void make_complete(pk_entry *out, unsigned root, const uint16_t *count,
                          const uint16_t *symbols, const pk_entry *meanings)
{
    unsigned code = 0, length = 1, left;
    while (!(left = count[length]))
        length++;
    if (length > root) {
        make_longer(out, root, code, length, count, symbols, meanings);
        return;
    }
    unsigned end = 1u << length; /* entries that are written, once the codes of this length are */
    for (;;) {
        out[code] = entry_of(meanings[*symbols++], length);
        if (code == end - 1)
            break;
        code = next_code(code, length);
        for (left--; !left; left = count[length]) {
            if (++length > root) {
                while (!(left = count[length]))
                    length++;
                make_longer(out, root, code, length, count, symbols, meanings);
                return;
            }
            memcpy(out + end, out, end * sizeof *out);
            end <<= 1;
        }
    }
    for (; end < 1u << root; end <<= 1)
        memcpy(out + end, out, end * sizeof *out);
}

/* Make the decoder of a code. Returns the number of symbols that have one, -1 as
 * pk_make_decoders. */
static int make_decoder(pk_entry *out, unsigned root, const uint8_t *lengths, unsigned symbols,
                        const pk_entry *meanings)
{
    uint16_t count[PK_MAX_BITS + 1] = {0}, place[PK_MAX_BITS + 1], sorted[PK_LITERALS];
    for (unsigned symbol = 0; symbol < symbols; symbol++)
        count[lengths[symbol]]++;
    const unsigned used = symbols - count[0];
    place[0] = 0;
    count[0] = 0;
    int left = 1;
    for (unsigned length = 1; length <= PK_MAX_BITS; length++) {
        left = left * 2 - count[length];
        if (left < 0)
            return -1;
        place[length] = (uint16_t)(place[length - 1] + count[length - 1]);
    }
    for (unsigned symbol = 0; symbol < symbols; symbol++)
        if (lengths[symbol])
            sorted[place[lengths[symbol]]++] = (uint16_t)symbol;
    if (!left) {
        make_complete(out, root, count, sorted, meanings);
        return (int)used;
    }
    if (used && !(used == 1 && count[1] == 1))
        return -1;
    for (unsigned at = 0; at < 1u << root; at++)
        out[at] = used && !(at & 1) ? entry_of(meanings[sorted[0]], 1) : PK_ENTRY_NONE;
    return (int)used;
}

/* What symbols stand for: entries without the bits of their codes. */
static void make_meanings(pk_entry literals[PK_LITERALS], pk_entry distances[PK_DISTANCES])
{
    for (unsigned symbol = 0; symbol < PK_LITERALS; symbol++)
        literals[symbol] = symbol << 16 | (symbol < 256 ? PK_ENTRY_LITERAL : PK_ENTRY_OTHER);
    for (unsigned symbol = 0; symbol < 29; symbol++)
        if (symbol != PK_LONGEST_BUT_ONE)
            literals[257 + symbol] =
                (pk_entry)pk_length_base[symbol] << 16 | pk_length_extra[symbol];
    for (unsigned symbol = 0; symbol < PK_DISTANCES; symbol++)
        distances[symbol] =
            symbol < 30 ? (pk_entry)pk_distance_base[symbol] << 16 | pk_distance_extra[symbol]
                        : symbol << 16 | PK_ENTRY_OTHER;
}

int pk_make_decoders(pk_decoders *out, const uint8_t lengths[PK_LENGTHS], unsigned distances)
{
    pk_entry meanings[PK_LITERALS], further[PK_DISTANCES];
    make_meanings(meanings, further);
    if (make_decoder(out->literals, PK_LITERAL_ROOT, lengths, PK_LITERALS, meanings) < 0
        || make_decoder(out->distances, PK_DISTANCE_ROOT, lengths + PK_LITERALS, distances,
                        further)
               < 0)
        return -1;
    return 0;
}

int pk_make_codes_decoder(pk_entry out[1 << PK_CODES_ROOT], const uint8_t lengths[PK_CODES])
{
    pk_entry meanings[PK_CODES];
    for (unsigned symbol = 0; symbol < PK_CODES; symbol++)
        meanings[symbol] = symbol << 16;
    return make_decoder(out, PK_CODES_ROOT, lengths, PK_CODES, meanings) > 0 ? 0 : -1;
}
