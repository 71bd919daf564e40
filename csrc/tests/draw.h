/* Random input of the C tests, the same in each run. */
#ifndef PK_DRAW_H
#define PK_DRAW_H

#include <stdint.h>

/* The generator's state, which each test sets first; not 0. */
static uint32_t draw_state;

/* A number below `below`, by xorshift (G. Marsaglia, "Xorshift RNGs", 2003). */
static inline uint32_t any(uint32_t below)
{
    draw_state ^= draw_state << 13;
    draw_state ^= draw_state >> 17;
    draw_state ^= draw_state << 5;
    return draw_state % below;
}

/* Letters, and copies from anywhere before. */
static inline void fill(uint8_t *data, uint32_t size, uint32_t letters, uint32_t longest)
{
    for (uint32_t at = 0; at < size;) {
        uint32_t length = 1 + any(longest), from = any(at + 1);
        int copies = at && any(3);
        for (uint32_t i = 0; i < length && at < size; i++, at++)
            data[at] = copies ? data[from + i] : (uint8_t)any(letters);
    }
}

#endif
