/* An adaptive binary range coder. Internal.
 *
 * G. Martin, "Range encoding: an algorithm for removing redundancy from a digitised message",
 * 1979; the byte-wise renormalisation with carries is that of M. Schindler's and I. Pavlov's
 * coders. Each bit has a context, whose probability follows what it has seen: as an average at
 * first, then with a fixed rate.
 *
 * Encoding and decoding are one text: code_bit() takes the bit to be written, and returns the
 * one that was written or read. So what is coded is described once, and both sides cannot
 * disagree.
 */
#ifndef PK_COMMON_RANGE_CODER_H
#define PK_COMMON_RANGE_CODER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"

enum { CODER_LIMIT = 30, CODER_LEAST = 24, CODER_TOP = 1 << 24 };

/* p / 65536: the probability of a 0. seen: how many bits there were, at most CODER_LIMIT. */
typedef struct chance {
    uint16_t p, seen;
} chance;

typedef struct coder {
    int decodes;
    int failed; /* PK_INVALID, PK_NO_MEMORY */
    uint32_t range;
    uint32_t value; /* decoding */
    const uint8_t *at, *end;
    uint64_t low; /* encoding */
    uint8_t cache;
    uint64_t pending;
    uint8_t *bytes;
    size_t length, capacity, most;
} coder;

static inline void coder_byte(coder *to, uint8_t byte)
{
    if (to->length >= to->most) {
        to->failed = PK_INVALID;
        return;
    }
    if (to->length == to->capacity) {
        size_t wanted = to->capacity * 2 + 256;
        uint8_t *moved = realloc(to->bytes, wanted);
        if (!moved) {
            to->failed = PK_NO_MEMORY;
            return;
        }
        to->bytes = moved;
        to->capacity = wanted;
    }
    to->bytes[to->length++] = byte;
}

static inline void coder_shift(coder *to)
{
    if (to->low < 0xff000000u || to->low >> 32) {
        uint8_t carry = (uint8_t)(to->low >> 32);
        if (to->pending)
            coder_byte(to, (uint8_t)(to->cache + carry));
        for (; to->pending > 1 && !to->failed; to->pending--)
            coder_byte(to, (uint8_t)(0xff + carry));
        to->cache = (uint8_t)(to->low >> 24);
        to->pending = 0;
    }
    to->pending++;
    to->low = (uint32_t)to->low << 8;
}

static inline void coder_encodes(coder *to, size_t most)
{
    to->decodes = to->failed = 0;
    to->range = UINT32_MAX;
    to->low = 0;
    to->pending = 0;
    to->cache = 0xff; /* what stands before the first byte is never written */
    to->length = 0;
    to->most = most;
}

/* End the bytes; zeros at the end are left out, a decoder makes them. */
static inline void coder_ends(coder *to)
{
    for (int i = 0; i < 5; i++)
        coder_shift(to);
    while (to->length && !to->bytes[to->length - 1])
        to->length--;
}

/* Zeros follow the last byte. A decoder asks for no more bits than its data have bytes to be
 * told of. */
static inline uint8_t coder_next(coder *from)
{
    return from->at != from->end ? *from->at++ : 0;
}

static inline void coder_decodes(coder *from, const uint8_t *bytes, size_t length)
{
    from->decodes = 1;
    from->failed = 0;
    from->range = UINT32_MAX;
    from->value = 0;
    from->at = bytes;
    from->end = bytes + length;
    for (int i = 0; i < 4; i++)
        from->value = from->value << 8 | coder_next(from);
}

extern const uint16_t pk_coder_rate[CODER_LIMIT + 1];

static inline unsigned code_bit(coder *with, chance *is, unsigned bit)
{
    uint32_t bound = (with->range >> 16) * is->p;
    if (with->decodes)
        bit = with->value >= bound;
    if (bit) {
        if (with->decodes)
            with->value -= bound;
        else
            with->low += bound;
        with->range -= bound;
        is->p =
            (uint16_t)(is->p - ((uint32_t)(is->p - CODER_LEAST) * pk_coder_rate[is->seen] >> 16));
    } else {
        with->range = bound;
        is->p = (uint16_t)(is->p
                           + ((uint32_t)(65536 - CODER_LEAST - is->p) * pk_coder_rate[is->seen]
                              >> 16));
    }
    is->seen = (uint16_t)(is->seen + (is->seen < CODER_LIMIT));
    while (with->range < CODER_TOP) {
        with->range <<= 8;
        if (with->decodes)
            with->value = with->value << 8 | coder_next(with);
        else
            coder_shift(with);
    }
    return bit;
}

/* Bits that are as often 0 as 1. */
static inline uint32_t code_even(coder *with, uint32_t value, unsigned count)
{
    uint32_t out = 0;
    while (count--) {
        with->range >>= 1;
        unsigned bit = value >> count & 1;
        if (with->decodes) {
            bit = with->value >= with->range;
            with->value -= bit ? with->range : 0;
        } else if (bit) {
            with->low += with->range;
        }
        out = out << 1 | bit;
        while (with->range < CODER_TOP) {
            with->range <<= 8;
            if (with->decodes)
                with->value = with->value << 8 | coder_next(with);
            else
                coder_shift(with);
        }
    }
    return out;
}

/* A symbol of `bits` bits, the highest first. chances: 1 << bits, of which the first is not
 * used. */
static inline unsigned code_symbol(coder *with, chance *chances, unsigned symbol, unsigned bits)
{
    unsigned node = 1;
    while (bits--)
        node = node << 1 | code_bit(with, &chances[node], symbol >> bits & 1);
    return node;
}

/* A number below 2^31: how long it is, its upper bits, the rest. */
typedef struct numbers {
    chance length[32], upper[32][4];
} numbers;

static inline uint32_t code_number(coder *with, numbers *chances, uint32_t value)
{
    uint32_t more = value + 1, out = 1;
    unsigned length =
        code_symbol(with, chances->length, 31 - (unsigned)__builtin_clz(more | 1), 5) & 31;
    unsigned upper = length < 2 ? length : 2, rest = length - upper;
    if (upper) {
        unsigned coded =
            code_symbol(with, chances->upper[length], more >> rest & ((1u << upper) - 1), upper);
        out = coded;
    }
    return (out << rest | code_even(with, more & ((1u << rest) - 1), rest)) - 1;
}

static inline int32_t code_signed(coder *with, numbers *chances, int32_t value)
{
    uint32_t coded =
        code_number(with, chances, (uint32_t)value << 1 ^ (value < 0 ? UINT32_MAX : 0));
    return (int32_t)(coded >> 1 ^ (coded & 1 ? UINT32_MAX : 0));
}

#endif
