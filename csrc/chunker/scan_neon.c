/* Kernel 3: NEON, which every 64-bit ARM has. */
#include "chunker/kernel.h"

#ifdef PK_HAVE_NEON
#include <arm_neon.h>

#define PK_KERNEL pk_kernel_neon
#define PK_TARGET
#define VEC uint16x8_t
#define LOAD(p) vreinterpretq_u16_u8(vld1q_u8(p))
#define MUL vmulq_u16 /* with ADD it becomes one mla */
#define ADD vaddq_u16
#define SUB vsubq_u16
#define MAX vmaxq_u16
#define SET1(x) vdupq_n_u16((uint16_t)(x))
#define ZERO() vdupq_n_u16(0)
#define EQUAL equal_lanes
#define REDUCE vmaxvq_u16

static inline uint32_t equal_lanes(uint16x8_t a, uint16x8_t b)
{
    static const uint16_t bits[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    return vaddvq_u16(vandq_u16(vceqq_u16(a, b), vld1q_u16(bits)));
}

#include "chunker/scan_vector.h"
#else
typedef int pk_not_built; /* ISO C wants a declaration in every file */
#endif
