/* Content-defined chunking: the cut points of a buffer, by the rule of docs/chunking.md.
 *
 * The rule, in short: a chunk ends where a rolling hash of the preceding bytes is greatest among
 * the lengths min..max; see cut_points.c. Cut points depend on the bytes and on min and max
 * alone, never on the kernel, on alignment, or on how the input is split into buffers.
 *
 * Nothing here allocates, keeps state, or calls back; every function may run in any number of
 * threads.
 */
#ifndef PK_CHUNKER_CHUNKER_H
#define PK_CHUNKER_CHUNKER_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/* Numbers of the kernels. They are part of no format: all kernels give the same cut points. */
enum { PK_PORTABLE = 0, PK_AVX2 = 1, PK_AVX512 = 2, PK_NEON = 3, PK_KERNEL_COUNT = 4 };

/* States of a kernel: usable; not part of this build; the CPU or the operating system lacks it; no
 * kernel has this number. */
enum { PK_USABLE = 0, PK_NOT_BUILT = 1, PK_NO_CPU = 2, PK_NO_KERNEL = 3 };

/* Limits of the parameters, in bytes. */
enum {
    PK_MIN_LIMIT = 512,    /* least `min`: the hashes look back at most 512 bytes */
    PK_MAX_LIMIT = 6 << 20 /* greatest `max`: bounds the memory for block maxima on the stack */
};

/* Return the name of kernel `id` ("portable", "avx2", ...), a static string; NULL if no kernel has
 * this number. */
const char *pk_kernel_name(int id);

/* Return PK_USABLE, PK_NOT_BUILT, PK_NO_CPU or PK_NO_KERNEL. The CPU is asked once per process. */
int pk_kernel_state(int id);

/* Return the number of the fastest usable kernel. */
int pk_kernel_default(void);

/* Return the 16-bit hash of the 242 bytes before `end`; for tests, so that they need no copy of
 * the constants. */
uint16_t pk_hash(const uint8_t *end);

/* Return the 64-bit hash of the 512 bytes before `end`, which decides between offsets of equal
 * pk_hash. */
uint64_t pk_wide_hash(const uint8_t *end);

/* Find the cut points of data[0..length).
 *
 * data, length: bytes that start at a chunk's start; borrowed for the call.
 * min, max: bounds on a chunk's length in bytes, PK_MIN_LIMIT <= min < max <= PK_MAX_LIMIT. The
 *     input's last chunk may be shorter than `min`.
 * final: 1 if the data ends the input: the last cut point is `length`. 0 if more follows: only
 *     those cut points are written that no later byte can change, and the caller presents the
 *     bytes behind the last one again in front of what follows.
 * kernel: number of a usable kernel.
 * cuts: written: offsets where chunks end (exclusive), ascending.
 * capacity: cut points that `cuts` has room for; length / min + 1 is always enough.
 * count: set to the number of cut points; 0 for empty data.
 * Returns PK_OK; PK_BAD_PARAMETER: min or max is out of range; PK_BAD_KERNEL; PK_NO_SPACE: the
 * first `capacity` cut points were written. */
pk_status pk_cut_points(const uint8_t *data, size_t length, size_t min, size_t max, int final,
                        int kernel, uint64_t *cuts, size_t capacity, size_t *count);

/* Return the sum of the 64-bit words of data: what reading the memory once costs, for benchmarks.
 *
 * length: in bytes; rounded down to a multiple of 256. */
uint64_t pk_read_sum(const uint8_t *data, size_t length);

#endif
