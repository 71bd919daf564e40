#define _GNU_SOURCE /* O_DIRECTORY, st_mtim and d_name everywhere */
#define _DARWIN_C_SOURCE
#include "files/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __APPLE__
#define st_mtim st_mtimespec
#define st_ctim st_ctimespec
#endif

typedef struct item {
    size_t name; /* offset in `names`; a link's target follows the name's NUL */
    uint32_t length, target_length;
    uint16_t mode;
    uint8_t kind, below; /* below: stands for what is in the directory; its name ends in a slash */
    uint64_t stat[PK_STAT_WORDS];
} item;

typedef struct level {
    size_t path_length; /* of the directory in `path`, with the slash at its end */
    char *names;
    size_t names_length, names_capacity;
    item *items;
    const item **order;
    size_t count, capacity, next;
} level;

typedef struct pk_walk_state {
    char *path; /* of the directory being walked, root included */
    size_t path_capacity, root_length;
    level *levels;
    size_t depth, depth_capacity;
    size_t rows_capacity, paths_capacity, targets_capacity;
} pk_walk_state;

/* Make room for `need` elements of `size` bytes; 0 without memory. */
static int reserve(void *where, size_t *capacity, size_t need, size_t size)
{
    void **memory = where;
    if (need <= *capacity)
        return 1;
    size_t more = *capacity + *capacity / 2 + 64;
    if (more < need)
        more = need;
    if (more > SIZE_MAX / 2 / size)
        return 0;
    void *grown = realloc(*memory, more * size);
    if (grown == NULL)
        return 0;
    *memory = grown;
    *capacity = more;
    return 1;
}

static int out_of_memory(void)
{
    errno = ENOMEM;
    return -1;
}

/* Let `where` be the path of an error: the directory's, and `name` in it. */
static void blame(pk_walker *walker, size_t path_length, const char *name)
{
    int kept = errno;
    size_t length = strlen(name);
    free(walker->where);
    walker->where = malloc(path_length + length + 1);
    if (walker->where != NULL) {
        memcpy(walker->where, walker->state->path, path_length);
        memcpy(walker->where + path_length, name, length + 1);
        if (length == 0 && path_length > 1) /* a directory itself: without the slash */
            walker->where[path_length - 1] = 0;
    }
    errno = kept;
}

static int compare(const char *names, const item *one, const item *other)
{
    size_t least = one->length < other->length ? one->length : other->length;
    int sign = memcmp(names + one->name, names + other->name, least);
    return sign ? sign : (one->length > other->length) - (one->length < other->length);
}

/* Merge sort of `order`, which needs no global as qsort would for `names`, nor quadratic time
 * ever. */
static void sort(const char *names, const item **order, const item **spare, size_t count)
{
    if (count < 2)
        return;
    size_t half = count / 2, left = 0, right = half, at = 0;
    sort(names, order, spare, half);
    sort(names, order + half, spare, count - half);
    if (compare(names, order[half - 1], order[half]) <= 0)
        return;
    memcpy(spare, order, half * sizeof *order);
    while (left < half && right < count)
        order[at++] =
            compare(names, spare[left], order[right]) <= 0 ? spare[left++] : order[right++];
    memcpy(order + at, spare + left, (half - left) * sizeof *order);
}

static uint64_t nanoseconds(struct timespec time)
{
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void pk_stat_words(const struct stat *info, uint64_t out[PK_STAT_WORDS])
{
    out[0] = (uint64_t)info->st_dev;
    out[1] = (uint64_t)info->st_ino;
    out[2] = (uint64_t)info->st_size;
    out[3] = nanoseconds(info->st_mtim);
    out[4] = nanoseconds(info->st_ctim);
}

/* Append a name, and the NUL behind it, to the listing; return the new item or NULL without
 * memory. */
static item *append(level *now, const char *name, size_t length, int slash)
{
    if (!reserve(&now->names, &now->names_capacity, now->names_length + length + 2, 1)
        || !reserve(&now->items, &now->capacity, now->count + 1, sizeof *now->items))
        return NULL;
    item *made = &now->items[now->count++];
    memset(made, 0, sizeof *made);
    made->name = now->names_length;
    made->length = (uint32_t)(length + (size_t)slash);
    made->below = (uint8_t)slash;
    memcpy(now->names + now->names_length, name, length);
    if (slash)
        now->names[now->names_length + length] = '/';
    now->names[now->names_length + made->length] = 0;
    now->names_length += made->length + 1;
    return made;
}

/* Read where a link leads to, behind its name in the listing. */
static int read_target(level *now, item *link, int directory, const char *name)
{
    size_t room = 256;
    for (;; room *= 2) {
        if (!reserve(&now->names, &now->names_capacity, now->names_length + room, 1))
            return out_of_memory();
        ssize_t length = readlinkat(directory, name, now->names + now->names_length, room);
        if (length < 0)
            return -1;
        if ((size_t)length < room) {
            link->target_length = (uint32_t)length;
            now->names[now->names_length + (size_t)length] = 0;
            now->names_length += (size_t)length + 1;
            return 0;
        }
    }
}

static int add_entry(pk_walker *walker, level *now, int directory, const char *name)
{
    struct stat info;
    size_t length = strlen(name);
    if (fstatat(directory, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    item *made = append(now, name, length, 0);
    if (made == NULL)
        return out_of_memory();
    made->mode = info.st_mode & 0777;
    if (S_ISREG(info.st_mode)) {
        made->kind = PK_FILE;
        pk_stat_words(&info, made->stat);
        return 0;
    }
    if (S_ISDIR(info.st_mode)) {
        made->kind = PK_DIRECTORY;
        return append(now, name, length, 1) == NULL ? out_of_memory() : 0;
    }
    if (S_ISLNK(info.st_mode)) {
        made->kind = PK_SYMLINK;
        made->mode = 0777;
        return read_target(now, made, directory, name);
    }
    walker->mode = info.st_mode;
    errno = EINVAL;
    return -1;
}

static int list(pk_walker *walker, level *now, DIR *directory)
{
    for (;;) {
        errno = 0;
        const struct dirent *found = readdir(directory);
        if (found == NULL)
            break;
        const char *name = found->d_name;
        if (name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0)))
            continue;
        if (add_entry(walker, now, dirfd(directory), name) != 0) {
            blame(walker, now->path_length, name);
            return -1;
        }
    }
    if (errno != 0) {
        blame(walker, now->path_length, "");
        return -1;
    }
    if (now->count == 0)
        return 0;
    const item **spare = malloc((now->count / 2 + 1) * sizeof *spare);
    now->order = malloc(now->count * sizeof *now->order);
    if (spare == NULL || now->order == NULL) {
        free(spare);
        return out_of_memory();
    }
    for (size_t at = 0; at < now->count; at++)
        now->order[at] = &now->items[at];
    sort(now->names, now->order, spare, now->count);
    free(spare);
    return 0;
}

/* Read the directory whose path, with a slash at its end, takes the first bytes of `path`. */
static int push(pk_walker *walker, size_t path_length)
{
    pk_walk_state *state = walker->state;
    if (!reserve(&state->levels, &state->depth_capacity, state->depth + 1, sizeof *state->levels))
        return out_of_memory();
    level *now = &state->levels[state->depth];
    memset(now, 0, sizeof *now);
    now->path_length = path_length;
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    if (state->depth++ > 0)
        flags |= O_NOFOLLOW; /* it was a directory a moment ago, not a link */
    /* O_NOFOLLOW means the last component: no slash behind it. The root may be "/", or a link. */
    size_t end = path_length > 1 ? path_length - 1 : path_length;
    char kept = state->path[end];
    state->path[end] = 0;
    int fd = open(state->path, flags);
    state->path[end] = kept;
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL) {
        blame(walker, path_length, "");
        if (fd >= 0)
            close(fd);
        return -1;
    }
    int result = list(walker, now, directory);
    int error = errno;
    closedir(directory);
    errno = error;
    return result;
}

static void pop(pk_walk_state *state)
{
    level *now = &state->levels[--state->depth];
    free(now->names);
    free(now->items);
    free(now->order);
}

static int emit(pk_walker *walker, const level *now, const item *entry, size_t row)
{
    pk_walk_state *state = walker->state;
    size_t before = now->path_length - state->root_length;
    if (!reserve(&walker->paths, &state->paths_capacity,
                 walker->paths_length + before + entry->length + 1, 1))
        return out_of_memory();
    uint8_t *out = walker->paths + walker->paths_length;
    memcpy(out, state->path + state->root_length, before);
    memcpy(out + before, now->names + entry->name, entry->length + 1);
    walker->paths_length += before + entry->length + 1;
    if (entry->kind == PK_SYMLINK) {
        size_t length = entry->target_length + (size_t)1;
        if (!reserve(&walker->targets, &state->targets_capacity, walker->targets_length + length,
                     1))
            return out_of_memory();
        memcpy(walker->targets + walker->targets_length,
               now->names + entry->name + entry->length + 1, length);
        walker->targets_length += length;
    }
    walker->kinds[row] = entry->kind;
    walker->modes[row] = entry->mode;
    memcpy(walker->stats + row * PK_STAT_WORDS, entry->stat, sizeof entry->stat);
    return 0;
}

static int enter(pk_walker *walker, const level *now, const item *below)
{
    pk_walk_state *state = walker->state;
    size_t length = now->path_length + below->length;
    if (!reserve(&state->path, &state->path_capacity, length + 1, 1))
        return out_of_memory();
    memcpy(state->path + now->path_length, now->names + below->name, below->length + 1);
    return push(walker, length);
}

static int make_rows(pk_walker *walker, size_t most)
{
    size_t kinds = 0, modes = 0, stats = 0;
    free(walker->kinds);
    free(walker->modes);
    free(walker->stats);
    walker->kinds = NULL;
    walker->modes = NULL;
    walker->stats = NULL;
    walker->state->rows_capacity = 0;
    if (!reserve(&walker->kinds, &kinds, most, 1)
        || !reserve(&walker->modes, &modes, most, sizeof *walker->modes)
        || !reserve(&walker->stats, &stats, most, PK_STAT_WORDS * sizeof *walker->stats))
        return out_of_memory();
    walker->state->rows_capacity = most;
    return 0;
}

pk_walker *pk_walk_new(const char *root)
{
    pk_walker *walker = calloc(1, sizeof *walker);
    pk_walk_state *state = calloc(1, sizeof *state);
    size_t length = strlen(root);
    if (walker == NULL || state == NULL
        || !reserve(&state->path, &state->path_capacity, length + 2, 1)) {
        free(walker);
        free(state);
        return NULL;
    }
    walker->state = state;
    memcpy(state->path, root, length + 1);
    if (length == 0 || root[length - 1] != '/') {
        memcpy(state->path + length, "/", 2);
        length++;
    }
    state->root_length = length;
    return walker;
}

pk_status pk_walk_next(pk_walker *walker, size_t most)
{
    pk_walk_state *state = walker->state;
    walker->count = walker->paths_length = walker->targets_length = 0;
    walker->mode = 0;
    if (state->rows_capacity < most && make_rows(walker, most) != 0)
        return PK_SYSTEM;
    if (state->levels == NULL && push(walker, state->root_length) != 0)
        return PK_SYSTEM;
    while (walker->count < most && state->depth > 0) {
        level *now = &state->levels[state->depth - 1];
        if (now->next == now->count) {
            pop(state);
            continue;
        }
        const item *entry = now->order[now->next++];
        if (entry->below) {
            if (enter(walker, now, entry) != 0)
                return PK_SYSTEM;
        } else {
            if (emit(walker, now, entry, walker->count) != 0)
                return PK_SYSTEM;
            walker->count++;
        }
    }
    return PK_OK;
}

void pk_walk_free(pk_walker *walker)
{
    if (walker == NULL)
        return;
    while (walker->state->depth > 0)
        pop(walker->state);
    free(walker->state->levels);
    free(walker->state->path);
    free(walker->state);
    free(walker->paths);
    free(walker->targets);
    free(walker->kinds);
    free(walker->modes);
    free(walker->stats);
    free(walker->where);
    free(walker);
}
