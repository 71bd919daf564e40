/* A directory tree in byte order of the path, as columns: everything that packing asks of it.
 *
 * A walker holds the listings of the directories between the root and its position, and nothing
 * else.
 * Names are sorted one directory at a time: an entry under its name, its contents under the name
 * and a slash. Together that is the order of whole paths.
 *
 * A walker is used by one thread at a time; different walkers are independent. */
#ifndef PK_FILES_WALK_H
#define PK_FILES_WALK_H

#include <stddef.h>
#include <stdint.h>

#include <sys/stat.h>

#include "common/status.h"

/* Kinds of entries; packer/files/tree.py uses the same numbers. */
enum { PK_DIRECTORY = 0, PK_FILE = 1, PK_SYMLINK = 2 };

/* Numbers by which a file is known: device, inode, size in bytes, mtime and ctime in ns. */
enum { PK_STAT_WORDS = 5, PK_STAT_SIZE = 2 /* index of the size */ };

/* Write the numbers by which a file is known.
 *
 * info: filled by stat(2). out: room for PK_STAT_WORDS numbers. Any number of threads. */
void pk_stat_words(const struct stat *info, uint64_t out[PK_STAT_WORDS]);

/* The caller reads these fields, the walker owns the memory; all is valid until the next call. */
typedef struct pk_walker {
    /* The entries of the last batch, row by row. */
    size_t count;
    uint8_t *paths; /* relative to the root, a NUL behind each */
    size_t paths_length;
    uint8_t *targets; /* of the symbolic links among them, a NUL behind each */
    size_t targets_length;
    uint8_t *kinds;
    uint16_t *modes; /* permission bits; 0777 of links */
    uint64_t *stats; /* PK_STAT_WORDS an entry; zeros except of files */
    /* After an error. */
    char *where;   /* the entry's path, root included; NULL if there was no memory for it */
    uint32_t mode; /* st_mode of an entry of another kind; 0 after other errors */
    struct pk_walk_state *state;
} pk_walker;

/* Return a walker of the directory `root`, or NULL without memory. The path is copied and not
 * opened yet. Free it with pk_walk_free. */
pk_walker *pk_walk_new(const char *root);

/* Make the next batch.
 *
 * walker: not after an error.
 * most: greatest number of entries, 1 or more; each takes about 50 bytes and its path.
 * Returns PK_OK with walker->count entries, 0 at the end; or PK_SYSTEM with errno, `where` and
 * `mode`: a directory cannot be read, an entry vanished, is of a kind that cannot be packed
 * (EINVAL, and `mode` is not 0), or there is no memory (ENOMEM). After an error the walker can
 * only be freed. */
pk_status pk_walk_next(pk_walker *walker, size_t most);

/* Free the walker and the memory it owns; NULL does nothing. */
void pk_walk_free(pk_walker *walker);

#endif
