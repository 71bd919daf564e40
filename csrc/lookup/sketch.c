#include "lookup/sketch.h"

#include <string.h>

enum {
    FEATURES = 12,
    GROUP = FEATURES / PK_SUPER_FEATURES,
    AT_ONCE = 4, /* features whose maxima are in registers while the samples pass */
    REACH = 32,  /* bytes that a hash looks back, two bits each: one edit moves about one sample */
    BATCH = 1024 /* bytes hashed before their samples are looked at: about 32 samples */
};

/* A position is sampled if its hash is below this: one in 32. */
#define SAMPLED ((uint64_t)1 << 59)

/* splitmix64's finalizer: spreads a small number over 64 bits. */
static inline uint64_t mix(uint64_t value)
{
    value ^= value >> 30;
    value *= 0xbf58476d1ce4e5b9u;
    value ^= value >> 27;
    value *= 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

typedef struct sketcher {
    uint64_t table[256], factor[FEATURES], offset[FEATURES], greatest[FEATURES];
    uint64_t sampled[BATCH];
    size_t samples;
} sketcher;

/* Look at the first `found` of the samples. */
static void look(sketcher *self, size_t found)
{
    self->samples += found;
    for (unsigned feature = 0; feature < FEATURES; feature += AT_ONCE) {
        const uint64_t *factor = self->factor + feature, *offset = self->offset + feature;
        uint64_t most[AT_ONCE];
        memcpy(most, self->greatest + feature, sizeof most);
        for (size_t i = 0; i < found; i++)
            for (unsigned next = 0; next < AT_ONCE; next++) {
                uint64_t value = self->sampled[i] * factor[next] + offset[next];
                most[next] = value > most[next] ? value : most[next];
            }
        memcpy(self->greatest + feature, most, sizeof most);
    }
}

static inline uint64_t roll(const sketcher *self, uint64_t hash, uint8_t byte)
{
    return (hash << 2) + self->table[byte];
}

/* Add one to `found` if a hash is sampled. It is stored in any case, and no branch depends on the
 * data: a mispredicted one costs as much as ten bytes. */
static inline size_t take(sketcher *self, uint64_t hash, size_t found)
{
    self->sampled[found] = hash;
    return found + (hash < SAMPLED);
}

/* Sample the positions behind the bytes data[from] to data[to - 1]. */
static void sample(sketcher *self, const uint8_t *data, size_t from, size_t to)
{
    uint64_t hash = 0;
    for (size_t at = from > REACH ? from - REACH : 0; at < from; at++)
        hash = roll(self, hash, data[at]);
    while (from < to) {
        size_t end = to - from < BATCH ? to : from + BATCH, found = 0;
        for (; from < end; from++) {
            hash = roll(self, hash, data[from]);
            found = take(self, hash, found);
        }
        look(self, found);
    }
}

/* The same of four stretches of `count` bytes, one behind another, side by side: each hash waits
 * for the one before it. There are REACH bytes before the first stretch. */
static void sample_four(sketcher *self, const uint8_t *data, size_t count)
{
    const uint8_t *one = data, *two = one + count, *three = two + count, *four = three + count;
    uint64_t first = 0, second = 0, third = 0, fourth = 0;
    for (int at = -REACH; at < 0; at++) {
        first = roll(self, first, one[at]);
        second = roll(self, second, two[at]);
        third = roll(self, third, three[at]);
        fourth = roll(self, fourth, four[at]);
    }
    for (size_t at = 0; at < count;) {
        size_t end = count - at < BATCH / 4 ? count : at + BATCH / 4, found = 0;
        for (; at < end; at++) {
            first = roll(self, first, one[at]);
            found = take(self, first, found);
            second = roll(self, second, two[at]);
            found = take(self, second, found);
            third = roll(self, third, three[at]);
            found = take(self, third, found);
            fourth = roll(self, fourth, four[at]);
            found = take(self, fourth, found);
        }
        look(self, found);
    }
}

int pk_sketch(const uint8_t *data, size_t length, uint64_t out[PK_SUPER_FEATURES])
{
    sketcher self = {.samples = 0};
    memset(out, 0, PK_SUPER_FEATURES * sizeof *out);
    for (unsigned byte = 0; byte < 256; byte++)
        self.table[byte] = mix(byte + 1);
    for (unsigned feature = 0; feature < FEATURES; feature++) {
        self.factor[feature] = mix(1000 + feature) | 1;
        self.offset[feature] = mix(2000 + feature);
    }
    size_t before = length < REACH ? length : REACH, quarter = (length - before) / 4;
    sample(&self, data, 0, before);
    if (quarter)
        sample_four(&self, data + before, quarter);
    sample(&self, data, before + 4 * quarter, length);
    if (self.samples < FEATURES / 2)
        return 0;
    for (unsigned super = 0; super < PK_SUPER_FEATURES; super++) {
        uint64_t value = super + 1;
        for (unsigned feature = 0; feature < GROUP; feature++)
            value = mix(value ^ self.greatest[super * GROUP + feature]);
        out[super] = value;
    }
    return 1;
}
