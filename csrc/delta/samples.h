/* Samples: positions at which fingerprints are taken, which the content selects. Internal.
 *
 * Equal stretches of two texts have their samples at the same places, so few positions are looked
 * up and remembered. Nothing allocates or keeps state; any number of threads, with equal results
 * on all machines. */
#ifndef PK_DELTA_SAMPLES_H
#define PK_DELTA_SAMPLES_H

#include "common/bytes.h"

enum {
    PK_SAMPLE_BYTES = 8, /* that decide whether a position is a sample: those from it on */
    PK_SAMPLE_WORD = 64, /* positions of a word of bits */
    PK_SAMPLE_SHIFT = 9  /* by how much the second four bytes are shifted against the first */
};
#define PK_SAMPLE_FACTOR 0x9e3779b1u

/* Tell whether the position is a sample, one in 2^log; log: 0 to 16. Arithmetic of 32 bits, as
 * vector instructions have it. */
static inline unsigned pk_is_sample(const uint8_t *at, unsigned log)
{
    uint32_t both = pk_load32(at) ^ pk_load32(at + 4) << PK_SAMPLE_SHIFT;
    return (uint64_t)(both * PK_SAMPLE_FACTOR) >> (32 - log) == 0;
}

/* Set bit i % 64 of bits[i / 64] where data + i is a sample, i < count; clear the other bits of
 * these words.
 *
 * data: count + PK_SAMPLE_BYTES - 1 readable bytes. */
void pk_samples(const uint8_t *data, size_t count, unsigned log, uint64_t *bits);

#endif
