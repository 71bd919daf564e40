#define _GNU_SOURCE /* syncfs, sync_file_range, fallocate */
#include "files/syscalls.h"
#include "files/walk.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <fcntl.h>
#include <sys/stat.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#ifdef __linux__
#include <sys/ioctl.h>
#include <sys/statfs.h>
#elif defined(__APPLE__)
#include <sys/mount.h>
#include <sys/param.h>
#endif

pk_status pk_sync_filesystem(int fd)
{
#ifdef __linux__
    return syncfs(fd) == 0 ? PK_OK : PK_SYSTEM;
#else
    (void)fd;
    errno = ENOSYS;
    return PK_SYSTEM;
#endif
}

void pk_start_writeback(int fd)
{
#ifdef __linux__
    (void)!sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
#else
    (void)fd;
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
        return 0;
    for (size_t at = 0; at < sizeof local / sizeof *local; at++)
        if ((unsigned long)info.f_type == local[at])
            return 1;
    return 0;
#elif defined(__APPLE__)
    struct statfs info;
    if (fstatfs(fd, &info) != 0)
        return 0;
    return (info.f_flags & MNT_LOCAL) != 0 && strcmp(info.f_fstypename, "apfs") == 0;
#else
    (void)fd;
    return 0;
#endif
}

/* Write a new file; 0, or -1 with errno. */
static int write_file(int directory, const char *name, const uint8_t *data, size_t length,
                      uint16_t mode, uint16_t mask)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(directory, name, flags, (mode_t)mode);
    if (fd < 0)
        return -1;
    int result = 0;
    while (length > 0 && result == 0) {
        ssize_t count = write(fd, data, length);
        if (count >= 0) {
            data += count;
            length -= (size_t)count;
        } else if (errno != EINTR) {
            result = -1;
        }
    }
    if (result == 0 && (mode & mask) != 0)
        result = fchmod(fd, (mode_t)mode);
    int error = errno;
    if (close(fd) != 0 && result == 0)
        return -1; /* network file systems report a full disk here */
    errno = error;
    return result;
}

size_t pk_write_files(int directory, const char *names, const uint8_t *data,
                      const uint64_t *bounds, const uint16_t *modes, uint16_t mask, size_t count)
{
    for (size_t at = 0; at < count; at++) {
        size_t length = (size_t)(bounds[2 * at + 1] - bounds[2 * at]);
        if (write_file(directory, names, data + bounds[2 * at], length, modes[at], mask) != 0)
            return at;
        names += strlen(names) + 1;
    }
    return count;
}

/* Tell whether an open file is a regular one with these PK_STAT_WORDS numbers. */
static int is_same(int fd, const uint64_t *stat)
{
    struct stat info;
    uint64_t now[PK_STAT_WORDS];
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        return 0;
    pk_stat_words(&info, now);
    return memcmp(now, stat, sizeof now) == 0;
}

static int read_whole(int directory, const char *name, const uint64_t *stat, uint8_t *out)
{
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return 0;
    uint64_t left = stat[PK_STAT_SIZE];
    int good = is_same(fd, stat);
    while (good && left > 0) {
        ssize_t count = read(fd, out, (size_t)left);
        if (count > 0) {
            out += count;
            left -= (uint64_t)count;
        } else if (count == 0 || errno != EINTR) {
            good = 0;
        }
    }
    /* Of some file systems (FUSE, /proc) the size is not to be believed. */
    uint8_t more;
    good = good && read(fd, &more, 1) == 0 && is_same(fd, stat);
    close(fd);
    return good;
}

void pk_read_files(int directory, const char *names, const uint64_t *stats, uint8_t *out,
                   uint8_t *good, size_t count)
{
    for (size_t at = 0; at < count; at++) {
        good[at] = (uint8_t)read_whole(directory, names, stats, out);
        out += stats[PK_STAT_SIZE];
        stats += PK_STAT_WORDS;
        names += strlen(names) + 1;
    }
}

pk_status pk_clone_file(int to, int from)
{
#ifdef __linux__
    int result = ioctl(to, 0x40049409 /* FICLONE, which linux/fs.h of old systems lacks */, from);
    return result == 0 ? PK_OK : PK_SYSTEM;
#else
    (void)to;
    (void)from;
    errno = ENOTSUP;
    return PK_SYSTEM;
#endif
}

pk_status pk_reserve(int fd, uint64_t size)
{
#ifdef __linux__
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size) != 0
        && (errno == ENOSPC || errno == EFBIG))
        return PK_SYSTEM;
#else
    (void)fd;
    (void)size;
#endif
    return PK_OK;
}

void pk_release_large_blocks(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    mallopt(M_ARENA_MAX, 4); /* each keeps some free memory, and else each thread has its own */
#endif
}

void pk_release_free_memory(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
