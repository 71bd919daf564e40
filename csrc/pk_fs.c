#define _GNU_SOURCE /* syncfs */
#include "pk_fs.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/statfs.h>
#elif defined(__APPLE__)
#include <sys/mount.h>
#include <sys/param.h>
#endif

int pk_sync_filesystem(int fd)
{
#ifdef __linux__
    return syncfs(fd);
#else
    (void)fd;
    errno = ENOSYS;
    return -1;
#endif
}

int pk_has_local_times(int fd)
{
#ifdef __linux__
    /* statfs(2). FAT and its relatives are missing on purpose: they keep no ctime. */
    static const unsigned long local[] = {
        0xef53,     /* ext2, ext3, ext4 */
        0x58465342, /* xfs */
        0x9123683e, /* btrfs */
        0x01021994, /* tmpfs */
        0x794c7630, /* overlayfs */
        0xf2f52010, /* f2fs */
        0x2fc12fc1, /* zfs */
        0xca451a4e, /* bcachefs */
    };
    struct statfs info;
    if (fstatfs(fd, &info) != 0)
        return -1;
    for (size_t at = 0; at < sizeof local / sizeof *local; at++)
        if ((unsigned long)info.f_type == local[at])
            return 1;
    return 0;
#elif defined(__APPLE__)
    struct statfs info;
    if (fstatfs(fd, &info) != 0)
        return -1;
    return (info.f_flags & MNT_LOCAL) != 0 && strcmp(info.f_fstypename, "apfs") == 0;
#else
    (void)fd;
    return 0;
#endif
}
