/* The table of kernels, and the detection of those that the CPU and the operating system can run.
 */
#include "chunker/kernel.h"

#include <stdatomic.h>

#if defined(PK_HAVE_AVX2) || defined(PK_HAVE_AVX512)
#include <cpuid.h>

static uint64_t enabled_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Bits 1 << id of the kernels this machine can run. The CPU having an instruction is not enough:
 * the operating system must save its registers (XCR0). Darwin turns the AVX-512 state on only at a
 * process's first use of it and thus looks as if it lacked AVX-512, which costs speed, not safety.
 */
static unsigned detect(void)
{
    uint32_t a, b, c, d;
    unsigned can = 1u << PK_PORTABLE;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX))
        return can;
    uint64_t state = enabled_state();
    if ((state & 0x6) != 0x6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return can;
    if (b & bit_AVX2)
        can |= 1u << PK_AVX2;
    if ((state & 0xe6) == 0xe6 && (b & bit_AVX2) && (b & bit_AVX512F) && (b & bit_AVX512BW))
        can |= 1u << PK_AVX512;
    return can;
}
#else
static unsigned detect(void)
{
#ifdef PK_HAVE_NEON
    return 1u << PK_PORTABLE | 1u << PK_NEON; /* part of every 64-bit ARM */
#else
    return 1u << PK_PORTABLE;
#endif
}
#endif

/* CPUID leaves a virtual machine, which takes microseconds, so the answer is kept. Threads that
 * race here write the same value. */
static unsigned usable(void)
{
    static atomic_uint known;
    unsigned can = atomic_load_explicit(&known, memory_order_relaxed);
    if (can == 0) {
        can = detect();
        atomic_store_explicit(&known, can, memory_order_relaxed);
    }
    return can;
}

static const struct {
    const char *name;
    const pk_kernel *kernel; /* NULL if not built */
} kernels[PK_KERNEL_COUNT] = {
    [PK_PORTABLE] = {"portable", &pk_kernel_portable},
    [PK_AVX2] = {"avx2",
#ifdef PK_HAVE_AVX2
                 &pk_kernel_avx2
#else
                 NULL
#endif
    },
    [PK_AVX512] = {"avx512",
#ifdef PK_HAVE_AVX512
                   &pk_kernel_avx512
#else
                   NULL
#endif
    },
    [PK_NEON] = {"neon",
#ifdef PK_HAVE_NEON
                 &pk_kernel_neon
#else
                 NULL
#endif
    },
};

const char *pk_kernel_name(int id)
{
    return id >= 0 && id < PK_KERNEL_COUNT ? kernels[id].name : NULL;
}

int pk_kernel_state(int id)
{
    if (id < 0 || id >= PK_KERNEL_COUNT)
        return PK_NO_KERNEL;
    if (kernels[id].kernel == NULL)
        return PK_NOT_BUILT;
    return usable() >> id & 1 ? PK_USABLE : PK_NO_CPU;
}

int pk_kernel_default(void)
{
    static const int preferred[] = {PK_AVX512, PK_AVX2, PK_NEON};
    for (size_t i = 0; i < sizeof preferred / sizeof *preferred; i++)
        if (pk_kernel_state(preferred[i]) == PK_USABLE)
            return preferred[i];
    return PK_PORTABLE;
}

const pk_kernel *pk_kernel_get(int id)
{
    return pk_kernel_state(id) == PK_USABLE ? kernels[id].kernel : NULL;
}
