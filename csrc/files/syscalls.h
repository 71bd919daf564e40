/* Calls of the file system that Python's os module does not offer, or offers only one file at a
 * time.
 *
 * Descriptors stay the caller's: nothing here closes one that it was given. Functions that return
 * a pk_status return PK_OK, or PK_SYSTEM with errno. Any number of threads. */
#ifndef PK_FILES_SYSCALLS_H
#define PK_FILES_SYSCALLS_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/* Make everything written to the file system that holds `fd` durable: one call instead of an fsync
 * per file. Blocks until the disk is done. PK_SYSTEM with ENOSYS: the operating system has no such
 * call. */
pk_status pk_sync_filesystem(int fd);

/* Start to write the dirty pages of the file `fd` to the disk, without waiting: the final sync
 * then has little left to do. Does nothing outside of Linux. Cannot fail: the final sync reports
 * errors. */
void pk_start_writeback(int fd);

/* Tell whether times of files on the file system that holds `fd` come from this machine's own
 * clock.
 *
 * Returns 1 for the local disk and memory file systems known to do so, 0 for network file systems,
 * FUSE and unknown ones, and if the system does not tell. */
int pk_has_local_times(int fd);

/* Create files and write them whole, with three or four system calls each.
 *
 * directory: descriptor of the directory below which they lie.
 * names: `count` relative paths, a NUL behind each. Their folders must exist, the files must not;
 *     the last component may be no link.
 * data: the files' bytes; borrowed for the call.
 * bounds: 2 * count offsets into `data` in bytes: start and end of each file.
 * modes: permission bits of each file.
 * mask: permission bits that the process's umask takes away; files that have one of these are
 *     given their mode by a second call.
 * Returns how many files were written, in order. Fewer than `count`: the next one failed, errno
 * says why, and it may exist in part. */
size_t pk_write_files(int directory, const char *names, const uint8_t *data,
                      const uint64_t *bounds, const uint16_t *modes, uint16_t mask, size_t count);

/* Read files whole, one behind another.
 *
 * directory, names: as for pk_write_files.
 * stats: PK_STAT_WORDS numbers a file, as pk_walk_next gives them.
 * out: room for the sum of their sizes. Each file has its place there, whether it was read or not.
 * good: `count` bytes, set to 1 if the file was, before reading and after it, the very file that
 *     `stats` describes; else to 0, and its place in `out` is undefined. */
void pk_read_files(int directory, const char *names, const uint64_t *stats, uint8_t *out,
                   uint8_t *good, size_t count);

/* Let the empty file `to` share the blocks of the file `from`. PK_SYSTEM: the file system cannot,
 * or the files are on different ones; `to` is empty then. */
pk_status pk_clone_file(int to, int from);

/* Reserve space for the first `size` bytes of the file `fd`, so that they lie in few extents. The
 * file's length stays. PK_SYSTEM: there is no such space. PK_OK also where space cannot be
 * reserved. */
pk_status pk_reserve(int fd, uint64_t size);

/* Tell the C library to return freed blocks of 1 MiB and more to the system at once. Left to
 * itself, glibc keeps them for later blocks, which have other sizes here: a third more memory. A
 * setting of the whole process; call it once, at its start. And let threads share four arenas, as
 * free memory stays in each. Does nothing without glibc. */
void pk_release_large_blocks(void);

/* Return the memory that is free now to the system. */
void pk_release_free_memory(void);

#endif
