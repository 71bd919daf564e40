/* What the standard library of Python lacks of the file system. */
#ifndef PK_FS_H
#define PK_FS_H

/* Make everything written to the file system that holds `fd` durable: one call in place of an fsync per
 * file. Returns 0, or -1 with errno; ENOSYS where the operating system has no such call. */
int pk_sync_filesystem(int fd);

#endif
