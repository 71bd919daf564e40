/* The walker against a tree it made: order, batches of any size, links, files read, errors; under
 * the sanitizers. */
#define _GNU_SOURCE
#include "check.h"
#include "files/syscalls.h"
#include "files/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

static void make(const char *name, char kind)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    if (kind == 'd') {
        CHECK(mkdir(path, 0750) == 0);
    } else if (kind == 'l') {
        char target[301];
        memset(target, 't', 300);
        target[300] = 0;
        CHECK(symlink(target, path) == 0);
    } else if (kind == 'p') {
        CHECK(mkfifo(path, 0600) == 0);
    } else {
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0640);
        CHECK(fd >= 0 && write(fd, "12345", 5) == 5 && close(fd) == 0);
    }
}

/* In byte order of the path: '-' and '.' come before '/', '0' after it. */
static const struct {
    const char *name;
    char kind;
} wanted[] = {
    {"a", 'd'},    {"a-b", 'f'}, {"a.b", 'd'}, {"a.b/x", 'f'}, {"a/b", 'd'},  {"a/b/c", 'l'},
    {"a/b0", 'f'}, {"a0", 'f'},  {"b", 'l'},   {"empty", 'd'}, {"\xff", 'f'},
};
enum { COUNT = sizeof wanted / sizeof *wanted };

static void test_batches(size_t most)
{
    pk_walker *walker = pk_walk_new(root);
    CHECK(walker);
    size_t at = 0;
    for (;;) {
        CHECK(pk_walk_next(walker, most) == PK_OK && walker->count <= most);
        if (walker->count == 0)
            break;
        const char *path = (const char *)walker->paths, *target = (const char *)walker->targets;
        for (size_t row = 0; row < walker->count; row++, at++) {
            CHECK(at < COUNT && strcmp(path, wanted[at].name) == 0);
            path += strlen(path) + 1;
            const uint64_t *stats = walker->stats + row * PK_STAT_WORDS;
            if (wanted[at].kind == 'd') {
                CHECK(walker->kinds[row] == PK_DIRECTORY && walker->modes[row] == 0750
                      && stats[1] == 0);
            } else if (wanted[at].kind == 'l') {
                CHECK(walker->kinds[row] == PK_SYMLINK && walker->modes[row] == 0777
                      && stats[1] == 0);
                CHECK(strlen(target) == 300 && target[299] == 't');
                target += 301;
            } else {
                CHECK(walker->kinds[row] == PK_FILE && walker->modes[row] == 0640);
                CHECK(stats[1] != 0 && stats[2] == 5 && stats[4] != 0);
            }
        }
        CHECK((size_t)(path - (const char *)walker->paths) == walker->paths_length);
        CHECK(walker->targets_length == 0
              || (size_t)(target - (const char *)walker->targets) == walker->targets_length);
    }
    CHECK(at == COUNT && pk_walk_next(walker, most) == PK_OK && walker->count == 0);
    pk_walk_free(walker);
}

/* All entries as if they were files: those that are none, and one that is not the same any more,
 * are not read. */
static void test_reading(void)
{
    pk_walker *walker = pk_walk_new(root);
    CHECK(walker && pk_walk_next(walker, 2 * COUNT) == PK_OK && walker->count == COUNT);
    int directory = open(root, O_RDONLY);
    CHECK(directory >= 0);
    uint8_t *out = malloc(5 * COUNT), read[COUNT];
    CHECK(out);
    for (size_t other = 0; other < PK_STAT_WORDS; other++) {
        size_t files = 0;
        for (size_t at = 0; at < COUNT; at++) /* places of links and directories, too */
            walker->stats[at * PK_STAT_WORDS + PK_STAT_SIZE] = 5;
        walker->stats[1 * PK_STAT_WORDS + other] -= 1; /* "a-b" */
        memset(out, 0, 5 * COUNT);
        pk_read_files(directory, (const char *)walker->paths, walker->stats, out, read, COUNT);
        const uint8_t *place = out;
        for (size_t at = 0; at < COUNT; at++) {
            CHECK(read[at] == (wanted[at].kind == 'f' && at != 1));
            CHECK(!read[at] || memcmp(place, "12345", 5) == 0);
            files += read[at];
            place += walker->stats[at * PK_STAT_WORDS + PK_STAT_SIZE];
        }
        CHECK(files == 4);
        walker->stats[1 * PK_STAT_WORDS + other] += 1;
    }
    CHECK(close(directory) == 0);
    pk_read_files(directory, (const char *)walker->paths, walker->stats, out, read, COUNT);
    CHECK(memchr(read, 1, COUNT) == NULL);
    free(out);
    pk_walk_free(walker);
}

static void test_errors(void)
{
    char path[512];
    snprintf(path, sizeof path, "%s/missing", root);
    pk_walker *walker = pk_walk_new(path);
    CHECK(walker && pk_walk_next(walker, 8) == PK_SYSTEM && errno == ENOENT
          && strcmp(walker->where, path) == 0);
    pk_walk_free(walker);
    make("a/b/fifo", 'p');
    walker = pk_walk_new(root);
    snprintf(path, sizeof path, "%s/a/b/fifo", root);
    pk_status status;
    while ((status = pk_walk_next(walker, 2)) == PK_OK)
        CHECK(walker->count > 0);
    CHECK(status == PK_SYSTEM && S_ISFIFO(walker->mode) && strcmp(walker->where, path) == 0);
    pk_walk_free(walker);
    pk_walk_free(NULL);
    CHECK(pk_has_local_times(-1) == 0);
}

int main(void)
{
    snprintf(root, sizeof root, "/tmp/pk-walk-XXXXXX");
    umask(0);
    CHECK(mkdtemp(root));
    for (size_t at = COUNT; at-- > 0;) /* backwards, but parents before what is in them */
        if (wanted[at].kind == 'd' && !strchr(wanted[at].name, '/'))
            make(wanted[at].name, 'd');
    make("a/b", 'd');
    for (size_t at = COUNT; at-- > 0;)
        if (wanted[at].kind != 'd')
            make(wanted[at].name, wanted[at].kind);
    for (size_t most = 1; most < COUNT + 2; most++)
        test_batches(most);
    test_reading();
    test_errors();
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", root);
    CHECK(system(command) == 0);
    printf("ok: walk\n");
    return 0;
}
