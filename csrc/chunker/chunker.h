/* Content-defined chunking: the cut points of a buffer, by the rule of docs/chunking.md.
 *
 * The rule, in short: a chunk ends where a rolling hash of the preceding bytes is greatest among the
 * lengths min..max; see chunker/cut_points.c. Cut points depend on the bytes and on min and max alone, never on
 * the kernel, on alignment, or on how the input is split into buffers.
 *
 * Nothing here allocates, keeps state, or calls back; every function may run in any number of threads.
 */
#ifndef PK_CHUNKER_H
#define PK_CHUNKER_H

#include <stddef.h>
#include <stdint.h>

/* Numbers of the kernels. They are part of no format: all kernels give the same cut points. */
enum { PK_PORTABLE = 0, PK_AVX2 = 1, PK_AVX512 = 2, PK_NEON = 3, PK_KERNEL_COUNT = 4 };

/* What pk_kernel_state tells about a kernel. */
enum { PK_USABLE = 0, PK_NOT_BUILT = 1, PK_NO_CPU = 2 };

/* Limits of the parameters. */
#define PK_MIN_LIMIT 512        /* least `min`: the hashes look back at most 512 bytes */
#define PK_MAX_LIMIT (6u << 20) /* greatest `max` */

/* Negative results of pk_cut_points. */
enum { PK_BAD_PARAMETER = -1, PK_BAD_KERNEL = -2, PK_NO_SPACE = -3 };

/* Name of kernel `id` ("portable", "avx2", ...), NULL if there is no such number. */
const char *pk_kernel_name(int id);

/* PK_USABLE, PK_NOT_BUILT, PK_NO_CPU (the CPU or the operating system lacks it), or PK_BAD_KERNEL. */
int pk_kernel_state(int id);

/* The fastest usable kernel. */
int pk_kernel_default(void);

/* The hash window, so that callers need no copy of the constants. */
uint16_t pk_hash(const uint8_t *end);      /* of the 242 bytes before `end` */
uint64_t pk_wide_hash(const uint8_t *end); /* of the 512 bytes before `end` */

/* Write the cut points (exclusive ends of chunks) of data[0..length) to `cuts`, ascending.
 *
 * `data` starts at a chunk start. With `final`, the data ends the input and the last cut point is
 * `length`; otherwise only the cut points that no later byte can change are written, and the caller
 * presents the bytes after the last one again in front of what follows.
 *
 * Needs PK_MIN_LIMIT <= min < max <= PK_MAX_LIMIT and capacity >= length / min + 1 (all cut points of any
 * data fit). Returns their number, or a negative PK_BAD_... / PK_NO_SPACE.
 */
int64_t pk_cut_points(const uint8_t *data, size_t length, size_t min, size_t max, int final,
                      int kernel, uint64_t *cuts, size_t capacity);

/* Sum of the 64-bit words of data, read front to back: what merely reading the memory costs, for the
 * benchmarks. `length` is rounded down to a multiple of 256. */
uint64_t pk_read_sum(const uint8_t *data, size_t length);

#endif
