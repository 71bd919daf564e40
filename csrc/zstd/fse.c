/* The rules follow what the public encoders are known to do: libzstd's (BSD; FSE_normalizeCount
 * and its second method) and klauspost/compress's, which is the same but for its table sizes,
 * its small shares, and that it holds no symbol back. */
#include "zstd/fse.h"

#include <string.h>

/* ---- Descriptions ---- */

typedef struct text_reader {
    const uint8_t *in;
    size_t length, bit;
} text_reader;

/* Bits beyond the end are zeros; the caller compares `bit` with the length at last. */
static uint32_t peek(const text_reader *from, unsigned count)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < 3; i++) {
        size_t at = (from->bit >> 3) + i;
        if (at < from->length)
            value |= (uint32_t)from->in[at] << (8 * i);
    }
    return value >> (from->bit & 7) & ((1u << count) - 1);
}

static uint32_t take(text_reader *from, unsigned count)
{
    uint32_t value = peek(from, count);
    from->bit += count;
    return value;
}

static int read_share(text_reader *from, int remaining, unsigned bits, int half)
{
    int most = 2 * half - 1 - remaining;
    int share = (int)peek(from, bits - 1);
    if (share < most) {
        from->bit += bits - 1;
    } else {
        share = (int)take(from, bits);
        if (share >= half)
            share -= most;
    }
    return share - 1;
}

pk_status pk_fse_read(pk_fse *to, const uint8_t *in, size_t length, unsigned most_log,
                      unsigned symbols, size_t *used)
{
    text_reader from = {in, length, 0};
    unsigned log = take(&from, 4) + PK_FSE_LEAST_LOG, bits = log + 1, symbol = 0;
    if (!length || log > most_log)
        return PK_INVALID;
    int remaining = (1 << log) + 1, half = 1 << log;
    memset(to->share, 0, sizeof to->share);
    while (remaining > 1) {
        if (symbol >= symbols || from.bit > 8 * length)
            return PK_INVALID;
        int share = read_share(&from, remaining, bits, half);
        remaining -= share < 0 ? -share : share;
        if (remaining < 1)
            return PK_INVALID;
        to->share[symbol++] = (int16_t)share;
        for (; remaining < half; half >>= 1)
            bits--;
        if (!share) {
            uint32_t more;
            do {
                more = take(&from, 2);
                symbol += more;
                if (symbol > symbols)
                    return PK_INVALID;
            } while (more == 3);
        }
    }
    to->symbols = (uint8_t)symbol;
    to->log = (uint8_t)log;
    *used = (from.bit + 7) >> 3;
    if (*used > length)
        return PK_INVALID;
    uint8_t again[PK_FSE_TEXT];
    return pk_fse_write(to, again) == *used && !memcmp(again, in, *used) ? PK_OK : PK_INVALID;
}

typedef struct text_writer {
    uint8_t *out;
    uint64_t bits;
    unsigned count;
} text_writer;

static void put(text_writer *to, uint32_t value, unsigned count)
{
    to->bits |= (uint64_t)value << to->count;
    for (to->count += count; to->count >= 8; to->count -= 8) {
        *to->out++ = (uint8_t)to->bits;
        to->bits >>= 8;
    }
}

size_t pk_fse_write(const pk_fse *from, uint8_t *out)
{
    text_writer to = {out, 0, 0};
    put(&to, from->log - PK_FSE_LEAST_LOG, 4);
    int remaining = (1 << from->log) + 1, half = 1 << from->log;
    unsigned bits = from->log + 1u;
    for (unsigned symbol = 0; remaining > 1 && symbol < from->symbols;) {
        int share = from->share[symbol++];
        int most = 2 * half - 1 - remaining, value = share + 1;
        remaining -= share < 0 ? -share : share;
        if (value >= half)
            value += most;
        put(&to, (uint32_t)value, bits - (value < most));
        for (; remaining < half && half > 1; half >>= 1)
            bits--;
        if (share || remaining <= 1)
            continue;
        unsigned start = symbol;
        while (symbol < from->symbols && !from->share[symbol])
            symbol++;
        for (; symbol - start >= 3; start += 3)
            put(&to, 3, 2);
        put(&to, symbol - start, 2);
    }
    if (to.count)
        *to.out++ = (uint8_t)to.bits;
    return (size_t)(to.out - out);
}

/* ---- Shares from counts ---- */

enum { NOT_YET = -2 };

static unsigned table_log(unsigned most_log, uint32_t total, unsigned last_symbol)
{
    unsigned log = most_log;
    unsigned by_size = pk_high_bit(total - 1) - 2; /* wraps below 5: no bound, as theirs */
    unsigned least = pk_high_bit(total) + 1, by_symbols = pk_high_bit(last_symbol) + 2;
    if (by_symbols < least)
        least = by_symbols;
    if (by_size < log)
        log = by_size;
    if (least > log)
        log = least;
    if (log < PK_FSE_LEAST_LOG)
        log = PK_FSE_LEAST_LOG;
    return log < most_log ? log : most_log;
}

/* Where rounding would leave the most frequent symbol too little: rare ones get one cell, the
 * others share the rest. */
static pk_status share_rest(pk_fse *to, const uint32_t *counts, uint32_t total, int rare)
{
    const unsigned log = to->log;
    uint32_t low = total >> log, one = (uint32_t)((uint64_t)total * 3 >> (log + 1)), given = 0;
    uint32_t left = total;
    for (unsigned s = 0; s < to->symbols; s++) {
        to->share[s] = counts[s] ? (int16_t)(counts[s] <= low   ? rare
                                             : counts[s] <= one ? 1
                                                                : NOT_YET)
                                 : 0;
        if (counts[s] && to->share[s] != NOT_YET) {
            given++;
            left -= counts[s];
        }
    }
    uint32_t cells = (1u << log) - given;
    if (given >= 1u << log)
        return given == 1u << log ? PK_OK : PK_INVALID;
    if (left / cells > one) {
        one = (uint32_t)((uint64_t)left * 3 / (cells * 2));
        for (unsigned s = 0; s < to->symbols; s++)
            if (to->share[s] == NOT_YET && counts[s] <= one) {
                to->share[s] = 1;
                given++;
                left -= counts[s];
            }
        if (given >= 1u << log)
            return PK_INVALID;
        cells = (1u << log) - given;
    }
    if (given == to->symbols || !left)
        return PK_INVALID; /* does not happen where a symbol has more than half */
    const unsigned fine = 62 - log;
    const uint64_t middle = (UINT64_C(1) << (fine - 1)) - 1;
    const uint64_t step = ((UINT64_C(1) << fine) * cells + middle) / left;
    uint64_t sum = middle;
    for (unsigned s = 0; s < to->symbols; s++) {
        if (to->share[s] != NOT_YET)
            continue;
        uint64_t end = sum + counts[s] * step;
        uint32_t cell = (uint32_t)(end >> fine) - (uint32_t)(sum >> fine);
        if (!cell || cell > 1u << log)
            return PK_INVALID;
        to->share[s] = (int16_t)cell;
        sum = end;
    }
    return PK_OK;
}

static pk_status normalise(pk_fse *to, const uint32_t *counts, uint32_t total, int rare)
{
    static const uint32_t rest_to_beat[8] = {0,      473195, 504333, 520860,
                                             550000, 700000, 750000, 830000};
    const unsigned fine = 62 - to->log;
    const uint64_t step = (UINT64_C(1) << 62) / total;
    const uint32_t low = total >> to->log;
    int left = 1 << to->log, greatest = 0;
    unsigned largest = 0;
    for (unsigned s = 0; s < to->symbols; s++) {
        if (counts[s] == total)
            return PK_INVALID;
        int share = 0;
        if (counts[s] && counts[s] <= low) {
            share = rare;
            left--;
        } else if (counts[s]) {
            share = (int)(counts[s] * step >> fine);
            if (share < 8)
                share += counts[s] * step - ((uint64_t)share << fine)
                         > (UINT64_C(1) << (fine - 20)) * rest_to_beat[share];
            if (share > greatest) {
                greatest = share;
                largest = s;
            }
            left -= share;
        }
        to->share[s] = (int16_t)share;
    }
    if (-left >= to->share[largest] >> 1)
        return share_rest(to, counts, total, rare);
    to->share[largest] = (int16_t)(to->share[largest] + left);
    return PK_OK;
}

/* Whether the shares fill the table, which a description presumes. */
static pk_status checked(const pk_fse *to)
{
    int sum = 0;
    for (unsigned s = 0; s < to->symbols; s++)
        sum += to->share[s] < 0 ? 1 : to->share[s];
    return sum == 1 << to->log ? PK_OK : PK_INVALID;
}

static pk_status shares(pk_fse *to, const uint32_t *counts, unsigned symbols, unsigned log,
                        int hold_back, int rare)
{
    uint32_t held[PK_FSE_SYMBOLS], total = 0;
    memset(to, 0, sizeof *to);
    while (symbols && !counts[symbols - 1])
        symbols--;
    for (unsigned s = 0; s < symbols; s++)
        total += held[s] = counts[s];
    if (symbols < 2 || total < 2)
        return PK_INVALID;
    to->symbols = (uint8_t)symbols;
    to->log = (uint8_t)table_log(log, total, symbols - 1);
    if (hold_back >= 0 && held[hold_back] > 1) {
        held[hold_back]--;
        total--;
    }
    pk_status status = normalise(to, held, total, rare ? rare : total >= 2048 ? -1 : 1);
    return status ? status : checked(to);
}

pk_status pk_fse_shares(pk_fse *to, unsigned rule, const uint32_t *counts, unsigned symbols,
                        unsigned most_log, int hold_back)
{
    if (rule == PK_RULE_LIBZSTD)
        return shares(to, counts, symbols, most_log, hold_back, 0);
    return shares(to, counts, symbols, 8, -1, -1);
}

pk_status pk_fse_weight_shares(pk_fse *to, unsigned rule, const uint32_t *counts, unsigned symbols)
{
    return shares(to, counts, symbols, 6, -1, rule == PK_RULE_KLAUSPOST ? -1 : 1);
}

/* ---- Tables ---- */

/* The symbol of each cell, RFC 8878, 4.1.1. */
static void spread(uint8_t *cell, const pk_fse *from)
{
    const unsigned size = 1u << from->log, step = (size >> 1) + (size >> 3) + 3;
    unsigned high = size - 1, at = 0;
    for (unsigned s = 0; s < from->symbols; s++)
        if (from->share[s] < 0)
            cell[high--] = (uint8_t)s;
    for (unsigned s = 0; s < from->symbols; s++)
        for (int i = 0; i < from->share[s]; i++) {
            cell[at] = (uint8_t)s;
            do
                at = (at + step) & (size - 1);
            while (at > high);
        }
}

void pk_fse_decoder(pk_fse_cell *cells, const pk_fse *from)
{
    const unsigned size = 1u << from->log;
    uint8_t symbol[1 << PK_FSE_LOG];
    uint16_t next[PK_FSE_SYMBOLS];
    spread(symbol, from);
    for (unsigned s = 0; s < from->symbols; s++)
        next[s] = (uint16_t)(from->share[s] < 0 ? 1 : from->share[s]);
    for (unsigned at = 0; at < size; at++) {
        unsigned number = next[symbol[at]]++, bits = from->log - pk_high_bit(number);
        cells[at] = (pk_fse_cell){(uint16_t)((number << bits) - size), symbol[at], (uint8_t)bits};
    }
}

void pk_fse_encoder_of(pk_fse_encoder *to, const pk_fse *from)
{
    const unsigned size = 1u << from->log;
    uint8_t symbol[1 << PK_FSE_LOG];
    uint16_t next[PK_FSE_SYMBOLS], total = 0;
    spread(symbol, from);
    memset(to->has, 0, sizeof to->has);
    to->log = from->log;
    for (unsigned s = 0; s < from->symbols; s++) {
        unsigned share = from->share[s] < 0 ? 1 : (unsigned)from->share[s];
        next[s] = total;
        if (!share)
            continue;
        unsigned bits = share > 1 ? from->log - pk_high_bit(share - 1) : from->log;
        to->has[s] = 1;
        to->symbol[s].bits = (bits << 16) - (share << bits);
        to->symbol[s].find = (int32_t)total - (int32_t)share;
        total = (uint16_t)(total + share);
    }
    for (unsigned at = 0; at < size; at++)
        to->state[next[symbol[at]]++] = (uint16_t)(size + at);
    for (unsigned s = 0; s < from->symbols; s++)
        if (to->has[s])
            to->symbol[s].first = to->state[next[s] - (from->share[s] < 0 ? 1 : from->share[s])];
}

void pk_fse_encoder_of_one(pk_fse_encoder *to, unsigned symbol)
{
    memset(to, 0, sizeof *to);
    to->has[symbol] = 1;
}
