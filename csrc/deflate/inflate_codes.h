/* The bits of a deflate stream, and tables that decode prefix codes. Internal to inflating.
 *
 * Nothing here keeps state or allocates; any number of threads. */
#ifndef PK_DEFLATE_INFLATE_CODES_H
#define PK_DEFLATE_INFLATE_CODES_H

#include "common/bytes.h"
#include "deflate/inflate.h"

enum {
    PK_MAX_BITS = 15,     /* of a code */
    PK_LITERAL_ROOT = 11, /* bits that are looked up at once */
    PK_DISTANCE_ROOT = 8,
    PK_CODES_ROOT = 7,
    /* Entries of a table and all its tables for longer codes, at most: zlib's program `enough`
     * for 288 and 32 symbols. */
    PK_LITERAL_ENTRIES = 2342,
    PK_DISTANCE_ENTRIES = 402,
    /* The symbol of lengths from 227 on, less 257: 258 has one of its own, and no encoder writes
     * it the long way. So it is left to the careful reader. */
    PK_LONGEST_BUT_ONE = 27
};

/* What the next bits stand for. From bit 16 on: a literal's byte, the base of a length or
 * distance, a symbol, or where the table for longer codes begins. Bits 8 to 11: bits of the code,
 * or of the index into that table. Bits 0 to 7: bits of the code and of the extra bits. */
typedef uint32_t pk_entry;

enum {
    PK_ENTRY_LONGER = 1 << 14, /* look into another table; OTHER too */
    PK_ENTRY_OTHER = 1 << 15,  /* neither a literal, nor a length or a distance */
    PK_ENTRY_LITERAL = 1 << 30,
    PK_ENTRY_NONE = PK_ENTRY_OTHER /* no code has these bits */
};

/* The decoders of a block. */
typedef struct pk_decoders {
    pk_entry literals[PK_LITERAL_ENTRIES], distances[PK_DISTANCE_ENTRIES];
} pk_decoders;

/* Make the decoders of a block's codes.
 *
 * lengths: of the codes. distances: how many of the symbols of distances may have one.
 * Returns 0, or -1 if the lengths make no code that decoders accept: it must be complete, or have
 * one symbol. */
int pk_make_decoders(pk_decoders *out, const uint8_t lengths[PK_LENGTHS], unsigned distances);

/* Make the decoder of code lengths: entries hold symbols. Returns 0, or -1 as above; -1 also if
 * there is no symbol. */
int pk_make_codes_decoder(pk_entry out[1 << PK_CODES_ROOT], const uint8_t lengths[PK_CODES]);

/* Bits of the input, least significant first; zeros behind its end, which `over` tells. */
typedef struct pk_reader {
    const uint8_t *in;
    size_t length, at;
    uint64_t bits;
    unsigned count;
    int over;
} pk_reader;

static inline void pk_refill(pk_reader *from)
{
    if (from->at + 8 <= from->length) {
        from->bits |= pk_load64(from->in + from->at) << from->count;
        unsigned bytes = (63 - from->count) >> 3;
        from->at += bytes;
        from->count += bytes * 8;
        from->bits &= (UINT64_C(1) << from->count) - 1;
        return;
    }
    while (from->count <= 56 && from->at < from->length) {
        from->bits |= (uint64_t)from->in[from->at++] << from->count;
        from->count += 8;
    }
}

/* Return the next `count` bits, at most 16. */
static inline unsigned pk_take(pk_reader *from, unsigned count)
{
    if (from->count < count)
        pk_refill(from);
    unsigned value = (unsigned)(from->bits & ((UINT64_C(1) << count) - 1));
    if (from->count < count) {
        from->over = 1;
        return 0;
    }
    from->bits >>= count;
    from->count -= count;
    return value;
}

/* Return the entry of the bits, which go on with those that `entry` was found with. */
static inline pk_entry pk_longer(const pk_entry *table, pk_entry entry, uint64_t bits,
                                 unsigned root)
{
    return table[(entry >> 16) + ((bits >> root) & ((1u << (entry >> 8 & 15)) - 1))];
}

static inline unsigned pk_entry_code(pk_entry entry)
{
    return entry >> 8 & 15;
}

/* Step over the next code, not over its extra bits, and return its entry; PK_ENTRY_NONE if they
 * are the bits of no code. Check `over` in both cases. */
static inline pk_entry pk_decode(pk_reader *from, const pk_entry *table, unsigned root)
{
    if (from->count < PK_MAX_BITS)
        pk_refill(from);
    pk_entry entry = table[from->bits & ((1u << root) - 1)];
    if (entry & PK_ENTRY_LONGER)
        entry = pk_longer(table, entry, from->bits, root);
    /* Bits that are no code are certain only with as many as the longest has. */
    const unsigned own = entry == PK_ENTRY_NONE ? PK_MAX_BITS : pk_entry_code(entry);
    if (from->count < own) {
        from->over = 1;
        return PK_ENTRY_NONE;
    }
    from->bits >>= own;
    from->count -= own;
    return entry;
}

/* Read a block's tokens, or those up to where a segment ends within it.
 *
 * to: they are added to it, and its `open` is set. block: its counts are set; the rest is. */
pk_status pk_read_tokens(pk_reader *from, pk_segment *to, pk_block *block,
                         const pk_decoders *with);

/* Make memory hold `wanted` units, and half as many again as before if it has to grow. */
pk_status pk_segment_grow(void **memory, size_t *capacity, size_t wanted, size_t unit);

/* Return how much of something a segment will have, about, given how much it has so far: bytes of
 * data, or tokens. So memory grows once, and is not copied again and again. */
size_t pk_segment_expected(const pk_reader *from, const pk_segment *to, size_t have);

#endif
