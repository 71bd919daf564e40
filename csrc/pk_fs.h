/* What the standard library of Python lacks of the file system. */
#ifndef PK_FS_H
#define PK_FS_H

/* Make everything written to the file system that holds `fd` durable: one call in place of an fsync per
 * file. Returns 0, or -1 with errno; ENOSYS where the operating system has no such call. */
int pk_sync_filesystem(int fd);

/* Tell whether files of the file system that holds `fd` carry times of this machine's own clock: 1 for
 * those on local disks and in memory that are known to, 0 for network file systems, FUSE and unknown ones,
 * -1 with errno. */
int pk_has_local_times(int fd);

#endif
