/* What the standard library of Python lacks of the file system. */
#ifndef PK_FS_H
#define PK_FS_H

#include <stddef.h>
#include <stdint.h>

/* Make everything written to the file system that holds `fd` durable: one call in place of an fsync per
 * file. Returns 0, or -1 with errno; ENOSYS where the operating system has no such call. */
int pk_sync_filesystem(int fd);

/* Start writing the dirty pages of the file `fd` to the disk, and do not wait: the sync in the end then finds little
 * to do. Nothing where that cannot be had (all but Linux); failures show when the file is synced. */
void pk_start_writeback(int fd);

/* Tell whether files of the file system that holds `fd` carry times of this machine's own clock: 1 for
 * those on local disks and in memory that are known to, 0 for network file systems, FUSE and unknown ones,
 * -1 with errno. */
int pk_has_local_times(int fd);

/* Make `count` new files below the directory `directory`, whole, three or four system calls each.
 * names: their paths, a NUL behind each; no component may be a link or missing. bounds: 2 * count offsets
 * into `data`, where each file begins and ends. modes: their permission bits; `mask` are those that the
 * process's umask would take away, and which are set afterwards.
 * Returns how many were written; less than `count` with errno: the next one failed. */
size_t pk_write_files(int directory, const char *names, const uint8_t *data,
                      const uint64_t *bounds, const uint16_t *modes, uint16_t mask, size_t count);

/* Read `count` files below the directory `directory` whole, one after another into `out`, which has room for the
 * sum of their sizes: each takes its size there, also one that was not read.
 * names: their paths, a NUL behind each. stats: PK_STAT_WORDS a file, as pk_walk gives them.
 * good: one byte a file, set to 1 if it was there and, before reading and after, is the file that was walked; else
 * to 0. */
void pk_read_files(int directory, const char *names, const uint64_t *stats, uint8_t *out,
                   uint8_t *good, size_t count);

/* Let the empty file `to` share the blocks of the file `from`. Returns 0, or -1 with errno: the file
 * system cannot, or the files are not on the same one. */
int pk_clone_file(int to, int from);

/* Reserve space for the first `size` bytes of the file `fd`, in few extents. Returns 0, also where that
 * cannot be done, or -1 with errno: there is no such space. */
int pk_reserve(int fd, uint64_t size);

/* Have the C library give large blocks of memory back to the system when they are freed. Left to itself, glibc
 * keeps them for later ones, which have other sizes here: a third more memory. A setting of the process. */
void pk_release_large_blocks(void);

#endif
