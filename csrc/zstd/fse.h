/* Finite state entropy, RFC 8878, 4.1: table descriptions, tables of both directions, and the
 * rules by which known encoders make descriptions from counts. Internal.
 *
 * Nothing here allocates; all functions may run on any thread.
 */
#ifndef PK_ZSTD_FSE_H
#define PK_ZSTD_FSE_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

enum {
    PK_FSE_SYMBOLS = 53, /* of the largest alphabet, that of match lengths */
    PK_FSE_LOG = 9,      /* greatest log2 of a table */
    PK_FSE_TEXT = 96,    /* a description is shorter */
    PK_FSE_LEAST_LOG = 5
};

/* Shares of the symbols in a table of 1 << log cells; -1 is a share of less than one cell. */
typedef struct pk_fse {
    int16_t share[PK_FSE_SYMBOLS];
    uint8_t symbols; /* one more than the greatest with a share */
    uint8_t log;
} pk_fse;

typedef struct pk_fse_cell {
    uint16_t base; /* of the next state, to which `bits` bits are added */
    uint8_t symbol, bits;
} pk_fse_cell;

typedef struct pk_fse_encoder {
    uint16_t state[1 << PK_FSE_LOG]; /* next states, by symbol and number */
    struct {
        int32_t find;  /* where in `state` those of the symbol are, less its first number */
        uint32_t bits; /* from which (state + bits) >> 16 is how many bits are written */
        uint16_t first;
    } symbol[PK_FSE_SYMBOLS];
    uint8_t log;
    uint8_t has[PK_FSE_SYMBOLS];
} pk_fse_encoder;

/* Who makes descriptions from counts; from then on they are given in full. */
enum { PK_RULE_LIBZSTD, PK_RULE_KLAUSPOST, PK_RULE_GIVEN };

/* Read a description of at most `most_log` and `symbols` symbols, and how many bytes it has.
 * Returns PK_OK, or PK_INVALID, also for one that no writer would write so. */
pk_status pk_fse_read(pk_fse *to, const uint8_t *in, size_t length, unsigned most_log,
                      unsigned symbols, size_t *used);

/* Write a description of valid shares; returns its length, less than PK_FSE_TEXT. */
size_t pk_fse_write(const pk_fse *from, uint8_t *out);

/* Make the shares of `counts` by a rule; `most_log` is that of the alphabet. hold_back: the
 * symbol that comes last, which libzstd counts once less, or -1. Returns PK_OK, or PK_INVALID if
 * the rule makes none. */
pk_status pk_fse_shares(pk_fse *to, unsigned rule, const uint32_t *counts, unsigned symbols,
                        unsigned most_log, int hold_back);

/* The same for the weights of a Huffman code, of which no symbol is held back. */
pk_status pk_fse_weight_shares(pk_fse *to, unsigned rule, const uint32_t *counts,
                               unsigned symbols);

/* Make tables of valid shares. */
void pk_fse_decoder(pk_fse_cell *cells, const pk_fse *from);
void pk_fse_encoder_of(pk_fse_encoder *to, const pk_fse *from);

/* A table that has one symbol, which costs no bits. */
void pk_fse_encoder_of_one(pk_fse_encoder *to, unsigned symbol);

static inline unsigned pk_high_bit(uint32_t value)
{
    return 31 - (unsigned)__builtin_clz(value | 1);
}

#endif
