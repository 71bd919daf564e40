/* Runs a fuzz target over files, and over the files in directories: its corpus, without libFuzzer.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static unsigned replay(const char *path)
{
    DIR *directory = opendir(path);
    if (directory) {
        unsigned count = 0;
        char name[4096];
        for (struct dirent *entry; (entry = readdir(directory));)
            if (entry->d_name[0] != '.'
                && snprintf(name, sizeof name, "%s/%s", path, entry->d_name) > 0)
                count += replay(name);
        closedir(directory);
        return count;
    }
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) {
        perror(path);
        exit(1);
    }
    size_t size = (size_t)ftell(file);
    uint8_t *input = malloc(size ? size : 1);
    rewind(file);
    if (!input || fread(input, 1, size, file) != size) {
        perror(path);
        exit(1);
    }
    fclose(file);
    LLVMFuzzerTestOneInput(input, size);
    free(input);
    return 1;
}

int main(int count, char **paths)
{
    unsigned done = 0;
    for (int at = 1; at < count; at++)
        done += replay(paths[at]);
    printf("%u inputs replayed\n", done);
    return done ? 0 : 1;
}
