/* Parts of zstd streams: tables and their descriptions, for all counts that rules may meet; under
 * the sanitizers. Streams of real encoders are tested from Python. */
#include "check.h"

#include "zstd/internal.h"

static uint64_t state = 88172645463325252u;

static uint32_t draw(uint32_t below)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

/* A description of any shares that a rule makes comes back, and its tables undo one another. */
static void test_tables(void)
{
    unsigned made = 0;
    for (unsigned round = 0; round < 4000; round++) {
        uint32_t counts[PK_FSE_SYMBOLS] = {0};
        unsigned table = draw(3), symbols = 1 + draw(pk_zstd_symbols[table]), last = 0;
        uint32_t most = 1u << draw(13);
        for (unsigned s = 0; s < symbols; s++)
            if (draw(4) && (counts[s] = draw(draw(8) ? 1 + most / 8 : 1 + most)))
                last = s;
        pk_fse shares, again;
        unsigned rule = draw(2);
        if (pk_fse_shares(&shares, rule, counts, pk_zstd_symbols[table], pk_zstd_logs[table],
                          (int)last))
            continue;
        made++;
        uint8_t text[PK_FSE_TEXT];
        size_t length = pk_fse_write(&shares, text), used;
        CHECK(length < PK_FSE_TEXT);
        uint8_t *exact = exact_copy(text, length);
        CHECK(
            pk_fse_read(&again, exact, length, pk_zstd_logs[table], pk_zstd_symbols[table], &used)
            == PK_OK);
        CHECK(used == length && again.log == shares.log && again.symbols == shares.symbols);
        CHECK(!memcmp(again.share, shares.share, sizeof again.share));
        for (size_t less = 0; less < length; less++)
            CHECK(pk_fse_read(&again, exact, less, 9, 53, &used) == PK_INVALID);
        free(exact);
        pk_fse_cell cells[PK_ZSTD_MOST_TABLE];
        pk_fse_encoder encoder;
        pk_fse_decoder(cells, &shares);
        pk_fse_encoder_of(&encoder, &shares);
        uint32_t size = 1u << shares.log;
        for (unsigned i = 0; i < 300; i++) {
            uint32_t from = size + draw(size);
            unsigned symbol = draw(shares.symbols);
            if (!encoder.has[symbol])
                continue;
            unsigned bits = (from + encoder.symbol[symbol].bits) >> 16;
            uint32_t to =
                encoder.state[(int32_t)(from >> bits) + encoder.symbol[symbol].find] - size;
            CHECK(cells[to].symbol == symbol && cells[to].bits == bits);
            CHECK(cells[to].base + (from & ((1u << bits) - 1)) == from - size);
        }
    }
    CHECK(made > 2000);
}

/* A code of any counts has a description that tells it, and no symbol without one. */
static void test_codes(void)
{
    unsigned made = 0;
    for (unsigned round = 0; round < 2000; round++) {
        uint32_t counts[256] = {0}, total = 0;
        unsigned symbols = 1 + draw(256), steep = draw(3);
        for (unsigned s = 0; s < symbols; s++)
            total += counts[s] = draw(3)      ? draw(1 + (UINT32_C(1) << draw(11)))
                                 : steep == 2 ? UINT32_C(1) << (s % 17)
                                              : 0;
        uint8_t text[PK_HUFFMAN_TEXT + 1];
        size_t length = pk_huffman_describe(draw(PK_HUFFMAN_RULES), counts, total, text), used;
        if (!length)
            continue;
        made++;
        CHECK(length <= PK_HUFFMAN_TEXT);
        uint8_t *exact = exact_copy(text, length);
        pk_huffman code;
        CHECK(pk_huffman_read(&code, exact, length, &used) == PK_OK && used == length);
        uint32_t codes[256];
        uint16_t cells[1 << PK_HUFFMAN_BITS];
        pk_huffman_decoder(cells, &code);
        pk_huffman_encoder(codes, &code);
        for (unsigned s = 0; s < 256; s++) {
            CHECK(!counts[s] == !codes[s]);
            if (!codes[s])
                continue;
            unsigned rest = code.most - (codes[s] >> 16);
            unsigned cell = cells[((codes[s] & 0xffff) << rest) + draw(1u << rest)];
            CHECK((cell & 255) == s && cell >> 8 == codes[s] >> 16);
        }
        for (size_t less = 0; less < length; less++)
            CHECK(pk_huffman_read(&code, exact, less, &used) == PK_INVALID);
        free(exact);
    }
    CHECK(made > 1000);
}

/* Codes of lengths are those whose base is the greatest that is not greater. */
static void test_lengths(void)
{
    for (uint32_t length = 0; length < PK_ZSTD_BLOCK; length++) {
        unsigned code = pk_zstd_length_code(length);
        CHECK(code < 36 && pk_zstd_length_base[code] <= length);
        CHECK(length - pk_zstd_length_base[code] < 1u << pk_zstd_length_bits[code]);
        code = pk_zstd_match_code(length + 3);
        CHECK(code < 53 && pk_zstd_match_base[code] <= length + 3);
        CHECK(length + 3 - pk_zstd_match_base[code] < 1u << pk_zstd_match_bits[code]);
    }
}

int main(void)
{
    test_tables();
    test_codes();
    test_lengths();
    return 0;
}
