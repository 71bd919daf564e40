#include "lookup/sketch.h"

#include <string.h>

enum {
    FEATURES = 12,
    GROUP = FEATURES / PK_SUPER_FEATURES,
    AT_ONCE = 4, /* features whose maxima are in registers while the samples pass */
    BATCH = 1024 /* bytes hashed before their samples are looked at: about 32 samples */
};

/* A position is sampled if the top bits of its hash are zero: one in 32. */
#define SAMPLE_SHIFT 59

/* splitmix64's finalizer: spreads a small number over 64 bits. */
static inline uint64_t mix(uint64_t value)
{
    value ^= value >> 30;
    value *= 0xbf58476d1ce4e5b9u;
    value ^= value >> 27;
    value *= 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

int pk_sketch(const uint8_t *data, size_t length, uint64_t out[PK_SUPER_FEATURES])
{
    uint64_t table[256], factor[FEATURES], offset[FEATURES], greatest[FEATURES];
    memset(out, 0, PK_SUPER_FEATURES * sizeof *out);
    memset(greatest, 0, sizeof greatest);
    for (unsigned byte = 0; byte < 256; byte++)
        table[byte] = mix(byte + 1);
    for (unsigned feature = 0; feature < FEATURES; feature++) {
        factor[feature] = mix(1000 + feature) | 1;
        offset[feature] = mix(2000 + feature);
    }
    /* Two bits a byte: the hash looks back 32 bytes, so that one edit moves about one sample. */
    uint64_t hash = 0;
    size_t samples = 0;
    uint64_t sampled[BATCH];
    for (size_t at = 0; at < length;) {
        /* No branch depends on the data: a mispredicted one costs as much as ten bytes. */
        size_t end = length - at < BATCH ? length : at + BATCH, found = 0;
        for (; at < end; at++) {
            hash = (hash << 2) + table[data[at]];
            sampled[found] = hash;
            found += !(hash >> SAMPLE_SHIFT);
        }
        samples += found;
        for (unsigned feature = 0; feature < FEATURES; feature += AT_ONCE) {
            uint64_t most[AT_ONCE];
            memcpy(most, greatest + feature, sizeof most);
            for (size_t i = 0; i < found; i++)
                for (unsigned next = 0; next < AT_ONCE; next++) {
                    uint64_t value = sampled[i] * factor[feature + next] + offset[feature + next];
                    most[next] = value > most[next] ? value : most[next];
                }
            memcpy(greatest + feature, most, sizeof most);
        }
    }
    if (samples < FEATURES / 2)
        return 0;
    for (unsigned super = 0; super < PK_SUPER_FEATURES; super++) {
        uint64_t value = super + 1;
        for (unsigned feature = 0; feature < GROUP; feature++)
            value = mix(value ^ greatest[super * GROUP + feature]);
        out[super] = value;
    }
    return 1;
}
