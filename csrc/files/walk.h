/* A directory tree in byte order of the path, as columns: what packing asks of the file system.
 *
 * One walker holds the listings of the directories between the root and where it is, nothing else. Names
 * are sorted one directory at a time: an entry under its name, what is below a directory under the name
 * and a slash, which together is the order of whole paths.
 *
 * Used by one thread at a time. */
#ifndef PK_WALK_H
#define PK_WALK_H

#include <stddef.h>
#include <stdint.h>

#include <sys/stat.h>

enum { PK_DIRECTORY = 0, PK_FILE = 1, PK_SYMLINK = 2 }; /* as in packer/tree.py */

#define PK_STAT_WORDS \
    5 /* device, inode, size in bytes, mtime and ctime in ns; zeros of all but files */

/* Write what a file is known by. */
void pk_stat_words(const struct stat *info, uint64_t out[PK_STAT_WORDS]);

typedef struct pk_walker {
    /* The entries of the last batch; valid until the next one. */
    uint8_t *paths; /* relative to the root, a NUL behind each */
    size_t paths_length;
    uint8_t *targets; /* of its symbolic links, a NUL behind each */
    size_t targets_length;
    uint8_t *kinds;
    uint16_t *modes; /* permission bits, 0777 of links */
    uint64_t *stats; /* PK_STAT_WORDS an entry */
    /* After an error: */
    char *where;   /* the path it is about, the root's included; owned by the walker */
    uint32_t mode; /* the mode of what is no file, directory or link; 0 after another error */
    struct pk_walk_state *state;
} pk_walker;

/* Return a walker of the directory `root`, copied, or NULL without memory. */
pk_walker *pk_walk_new(const char *root);

/* Make the next batch: up to `most` entries.
 * Returns their number, 0 at the end, or -1 with errno (and `where`): a directory cannot be read, an entry
 * vanished, is of a kind that cannot be packed (EINVAL, and `mode`), or there is no memory. After -1, free it. */
int64_t pk_walk_next(pk_walker *walker, size_t most);

/* Free the walker; NULL does nothing. */
void pk_walk_free(pk_walker *walker);

#endif
