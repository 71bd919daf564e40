#define _GNU_SOURCE /* syncfs */
#include "pk_fs.h"

#include <errno.h>
#include <unistd.h>

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
