"""Describes the C extension ``packer.engine._native`` to cffi (API mode: the C compiler checks it).

setup.py names `ffi`. Environment: LAYER_PACKER_WERROR=1 makes warnings errors; CC and CFLAGS work
as usual. No -march: the kernels carry their targets themselves and are chosen at run time.
"""

import os
import re

from cffi import FFI

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_NOT_OF_THE_CORE = ("tests", "fuzz")


def _files(ending: str) -> list[str]:
    """Return the C core's files with this ending, sorted, as paths from the repository's root.

    setuptools builds from that root. Every folder of csrc holds a part of the core, except the
    two that test it.
    """
    found = []
    for room in sorted(os.listdir(os.path.join(_ROOT, "csrc"))):
        folder = os.path.join(_ROOT, "csrc", room)
        if os.path.isdir(folder) and room not in _NOT_OF_THE_CORE:
            names = sorted(os.listdir(folder))
            found += [f"csrc/{room}/{name}" for name in names if name.endswith(ending)]
    return found


def _version() -> str:
    with open(os.path.join(_ROOT, "packer", "_version.py"), encoding="utf-8") as file:
        found = re.search(r'^VERSION = "([^"]+)"', file.read(), re.MULTILINE)
    if found is None:
        raise RuntimeError("packer/_version.py names no version")
    return found.group(1)


ffi = FFI()
ffi.cdef(
    """
    #define PK_OK ...
    #define PK_NEED_MORE ...
    #define PK_NO_MEMORY ...
    #define PK_TOO_LONG ...
    #define PK_OUT_OF_RANGE ...
    #define PK_USABLE ...
    #define PK_NOT_BUILT ...
    const char *pk_kernel_name(int id);
    int pk_kernel_state(int id);
    int pk_kernel_default(void);
    int pk_cut_points(const uint8_t *data, size_t length, size_t min, size_t max, int final,
                      int kernel, uint64_t *cuts, size_t capacity, size_t *count);
    uint64_t pk_read_sum(const uint8_t *data, size_t length);
    const char *pk_version(void);
    int pk_sync_filesystem(int fd);
    void pk_start_writeback(int fd);
    int pk_has_local_times(int fd);
    size_t pk_write_files(int directory, const char *names, const uint8_t *data,
                          const uint64_t *bounds, const uint16_t *modes, uint16_t mask,
                          size_t count);
    void pk_read_files(int directory, const char *names, const uint64_t *stats, uint8_t *out,
                       uint8_t *good, size_t count);
    int pk_clone_file(int to, int from);
    int pk_reserve(int fd, uint64_t size);
    void pk_release_large_blocks(void);
    void pk_release_free_memory(void);
    #define PK_STAT_WORDS ...
    typedef struct pk_walker {
        size_t count;
        uint8_t *paths;
        size_t paths_length;
        uint8_t *targets;
        size_t targets_length;
        uint8_t *kinds;
        uint16_t *modes;
        uint64_t *stats;
        char *where;
        uint32_t mode;
        ...;
    } pk_walker;
    pk_walker *pk_walk_new(const char *root);
    int pk_walk_next(pk_walker *walker, size_t most);
    void pk_walk_free(pk_walker *walker);
    size_t pk_find_signature(const uint8_t *data, size_t length);
    size_t pk_find_zstd(const uint8_t *data, size_t length);
    #define PK_TAR_CODED ...
    int pk_tar_is_header(const uint8_t *block);
    int64_t pk_tar_size(const uint8_t *block);
    #define PK_TAR_MORE ...
    #define PK_TAR_FOUND ...
    int pk_tar_next(const uint8_t *data, size_t length, uint64_t left, int64_t least,
                    uint32_t *headers, uint64_t *at, int64_t *size);
    typedef struct pk_header_time {
        uint64_t name;
        uint64_t time;
    } pk_header_time;
    size_t pk_tar_times(const uint8_t *data, size_t length, pk_header_time *out, size_t capacity);
    size_t pk_tar_retime(uint8_t *data, size_t length, const uint64_t *pairs, size_t count);
    size_t pk_zip_times(const uint8_t *data, size_t length, pk_header_time *out,
                        size_t capacity);
    size_t pk_zip_retime(uint8_t *data, size_t length, const uint64_t *pairs, size_t count);
    size_t pk_zip_relink(uint8_t *data, size_t length, int undo);
    size_t pk_tar_encode(const uint8_t *block, const uint8_t *previous, uint8_t *out,
                         int64_t *size);
    int pk_tar_decode(const uint8_t *in, size_t length, const uint8_t *previous, uint8_t *block,
                      size_t *taken);
    typedef struct pk_members {
        uint8_t header[512];
        size_t taken, operations_length, coded_length, piece_count;
        uint64_t kept;
        uint8_t operations[...], coded[...];
        uint32_t pieces[...];
        ...;
    } pk_members;
    void pk_members_take(pk_members *members, const uint8_t *data, size_t length, size_t most,
                         int look);
    #define PK_SUPER_FEATURES ...
    int pk_sketch(const uint8_t *data, size_t length, uint64_t *out);
    #define PK_FAR_WINDOW ...
    #define PK_PAD ...
    #define PK_SEGMENT_PLAIN ...
    #define PK_MAX_SEGMENT_PLAIN ...
    typedef struct pk_segment {
        uint8_t *data;
        size_t window, size, capacity, token_count, token_capacity, block_count, block_capacity;
        size_t input_capacity;
        uint64_t position;
        uint64_t end_bit;
        int last, goes_on, open;
        ...;
    } pk_segment;
    typedef struct pk_carry { ...; } pk_carry;
    pk_segment *pk_segment_new(void);
    void pk_segment_free(pk_segment *segment);
    int pk_segment_inflate(pk_segment *segment, const uint8_t *in, size_t length, unsigned bit,
                           const uint8_t *window, size_t window_length, uint64_t position,
                           size_t target, const pk_carry *carry, int partial);
    int pk_segment_carry(const pk_segment *segment, pk_carry *carry);
    typedef struct pk_codec pk_codec;
    pk_codec *pk_codec_new(void);
    void pk_codec_free(pk_codec *codec);
    int pk_analyse(pk_codec *codec, const pk_segment *segment, int guess, uint8_t *recipe,
                   size_t capacity, size_t *length, uint64_t tokens[2]);
    int pk_rebuild(pk_codec *codec, const uint8_t *data, size_t window, size_t size,
                   uint64_t position, const uint8_t *recipe, size_t recipe_length, unsigned bit,
                   size_t most, uint64_t *end_bit);
    const uint8_t *pk_codec_result(const pk_codec *codec);
    int pk_codec_carry(const pk_codec *codec, pk_carry *carry);
    typedef struct pk_copy { uint32_t at, from, length; } pk_copy;
    typedef struct pk_old pk_old;
    pk_old *pk_old_new(void);
    void pk_old_free(pk_old *old);
    int pk_old_begin(pk_old *old, uint64_t start, uint32_t size);
    int pk_old_add(pk_old *old, const pk_segment *segment);
    uint32_t pk_old_size(const pk_old *old);
    typedef struct pk_tokens pk_tokens;
    pk_tokens *pk_tokens_new(void);
    void pk_tokens_free(pk_tokens *tokens);
    typedef struct pk_tokens_report {
        uint64_t tokens, wrong, aligned;
        uint32_t shifts, headers;
    } pk_tokens_report;
    int pk_tokens_analyse(pk_tokens *tokens, const pk_segment *segment, pk_old *old,
                          uint64_t most_work, uint8_t *recipe, size_t capacity,
                          size_t *length, pk_tokens_report *report);
    int pk_tokens_span(const uint8_t *recipe, size_t length, uint64_t *start, uint32_t *size);
    int pk_tokens_decode(pk_tokens *tokens, pk_segment *segment, const pk_old *old,
                         const uint8_t *recipe, size_t length);
    int pk_tokens_write(pk_tokens *tokens, const pk_segment *segment, unsigned bit,
                        size_t most, uint64_t *bits);
    const uint8_t *pk_tokens_result(const pk_tokens *tokens);
    int pk_segment_fill(pk_segment *segment, const uint8_t *window, size_t window_size,
                        const uint8_t *plain, size_t size);
    #define PK_ZSTD_SEGMENT ...
    #define PK_ZSTD_MOST_PLAIN ...
    #define PK_ZSTD_MOST_INPUT ...
    #define PK_ZSTD_WINDOW ...
    #define PK_ZSTD_EXPLICIT ...
    #define PK_ZSTD_FROM_OLD ...
    #define PK_ZSTD_OLD_PLAIN ...
    #define PK_ZSTD_MOST_BEFORE ...
    typedef struct pk_zstd_segment {
        uint8_t *plain;
        size_t size, coded, sequence_count, block_count;
        int frame_end, last;
        ...;
    } pk_zstd_segment;
    pk_zstd_segment *pk_zstd_segment_new(void);
    void pk_zstd_segment_free(pk_zstd_segment *segment);
    typedef struct pk_zstd_parser pk_zstd_parser;
    pk_zstd_parser *pk_zstd_parser_new(size_t most_window);
    void pk_zstd_parser_free(pk_zstd_parser *parser);
    int pk_zstd_parser_next(pk_zstd_parser *parser, pk_zstd_segment *segment, const uint8_t *in,
                            size_t length, int final);
    typedef struct pk_zstd_stored {
        uint32_t plain, input, length;
    } pk_zstd_stored;
    size_t pk_zstd_raw_blocks(const pk_zstd_segment *segment, uint32_t least, pk_zstd_stored *out);
    size_t pk_zstd_most_coded(size_t plain);
    typedef struct pk_zstd_codec pk_zstd_codec;
    pk_zstd_codec *pk_zstd_codec_new(void);
    void pk_zstd_codec_free(pk_zstd_codec *codec);
    typedef struct pk_zstd_old pk_zstd_old;
    pk_zstd_old *pk_zstd_old_new(void);
    void pk_zstd_old_free(pk_zstd_old *old);
    int pk_zstd_old_begin(pk_zstd_old *old, uint64_t start, uint32_t size);
    typedef struct pk_zstd_old_match {
        uint32_t at, length, offset;
        uint8_t value, written;
        ...;
    } pk_zstd_old_match;
    size_t pk_zstd_matches(const pk_zstd_segment *segment, pk_zstd_old_match *out);
    int pk_zstd_old_add(pk_zstd_old *old, const uint8_t *plain, size_t size,
                        const pk_zstd_old_match *matches, size_t count, uint64_t position);
    int pk_zstd_analyse(pk_zstd_codec *codec, pk_zstd_segment *segment, pk_zstd_old *old,
                        const uint8_t *window, size_t before, size_t most, uint64_t *wrong);
    int pk_zstd_span(const uint8_t *recipe, size_t length, uint64_t *start, uint32_t *size);
    int pk_zstd_fill(pk_zstd_segment *segment, const uint8_t *plain, size_t size);
    int pk_zstd_decode(pk_zstd_codec *codec, pk_zstd_segment *segment, const pk_zstd_old *old,
                       const uint8_t *recipe, size_t length);
    int pk_zstd_encode(pk_zstd_codec *codec, const pk_zstd_segment *segment, size_t most);
    const uint8_t *pk_zstd_result(const pk_zstd_codec *codec, size_t *length);
    #define PK_TOO_FRESH ...
    #define PK_COVERED_LOG ...
    size_t pk_delta_find_fresh(const uint8_t *data, size_t prefix, size_t size, size_t most_fresh,
                               uint32_t *table, unsigned table_log, uint8_t *covered,
                               pk_copy *copies, size_t capacity);
    typedef struct pk_map pk_map;
    pk_map *pk_map_new(size_t key_bytes);
    void pk_map_free(pk_map *map);
    void pk_map_lend(pk_map *map, const uint8_t *keys, uint32_t count);
    int pk_map_put_lent(pk_map *map, uint32_t first, uint32_t count);
    int pk_map_put(pk_map *map, const uint8_t *keys, size_t stride, size_t count, uint32_t first,
                   uint32_t each);
    void pk_map_get(const pk_map *map, const uint8_t *keys, size_t stride, size_t count,
                    int64_t *out);
    #define PK_PIECE_KEY ...
    void pk_piece_keys(const uint8_t *data, const uint64_t *ends, size_t count, uint8_t *keys);
    void pk_piece_starts(const uint64_t *ends, size_t count, uint64_t position, uint64_t *starts);
    #define PK_NO_STREAM ...
    typedef struct pk_piece_votes {
        uint64_t *starts;
        uint32_t *streams;
        uint64_t *positions;
        uint8_t *missing;
    } pk_piece_votes;
    #define PK_NO_PIECE ...
    typedef struct pk_piece_course {
        size_t next, run, other_next, other_run;
    } pk_piece_course;
    typedef struct pk_piece_places {
        const pk_map *known;
        const uint32_t *streams;
        const uint64_t *positions;
        const uint32_t *hashes;
        size_t count;
    } pk_piece_places;
    size_t pk_piece_look_up(const pk_piece_places *old, pk_piece_course *course,
                            const uint8_t *keys, const uint64_t *starts, size_t count,
                            const pk_piece_votes *out);
    #define PK_SELECT_HEADS ...
    typedef struct pk_select_table {
        uint8_t *wanted;
        uint32_t *heads, *places, *chains;
        size_t capacity;
    } pk_select_table;
    size_t pk_select(const uint8_t *older, size_t older_length, const uint8_t *rest,
                     size_t rest_length, unsigned sample_log, unsigned depth,
                     unsigned block_log, const pk_select_table *table, uint8_t *kept);
    size_t pk_select_gather(const uint8_t *older, size_t length, unsigned block_log,
                            const uint8_t *kept, uint8_t *out);
    size_t pk_select_estimate(const uint8_t *older, size_t older_length, const uint8_t *rest,
                              size_t rest_length, unsigned sample_log,
                              const pk_select_table *table);
    size_t pk_select_encode(const uint8_t *kept, size_t count, uint8_t *out);
    int pk_select_decode(const uint8_t *in, size_t length, uint8_t *kept, size_t count);
    size_t pk_delta_copied(const pk_copy *copies, size_t count, size_t end);
    size_t pk_delta_rest(const uint8_t *data, size_t prefix, size_t size, const pk_copy *copies,
                         size_t count, uint8_t *out);
    int pk_delta_apply(const uint8_t *older, size_t prefix, size_t size, const pk_copy *copies,
                       size_t count, const uint8_t *rest, size_t rest_length, uint8_t *text);
    int pk_delta_check(const uint8_t *older, size_t prefix, size_t size, const pk_copy *copies,
                       size_t count, const uint8_t *rest, size_t rest_length,
                       const uint8_t *text);
    size_t pk_delta_encode(const pk_copy *copies, size_t count, size_t prefix, uint8_t *classes,
                           uint8_t *extra);
    int pk_delta_decode(const uint8_t *classes, size_t count, const uint8_t *extra,
                        size_t extra_length, size_t prefix, size_t size, pk_copy *copies);
    """
)
_flags = ["-O3", "-std=c11", "-fvisibility=hidden", "-Wall", "-Wextra"]
if os.environ.get("LAYER_PACKER_WERROR") == "1":
    _flags.append("-Werror")
ffi.set_source(
    "packer.engine._native",
    """
    #include "archives/signature.h"
    #include "archives/tar_header.h"
    #include "archives/tar_members.h"
    #include "archives/tar_times.h"
    #include "archives/zip_headers.h"
    #include "chunker/chunker.h"
    #include "common/version.h"
    #include "deflate/inflate.h"
    #include "deflate/recipe.h"
    #include "deflate/tokens.h"
    #include "delta/copies.h"
    #include "delta/prefix_blocks.h"
    #include "files/syscalls.h"
    #include "files/walk.h"
    #include "lookup/map.h"
    #include "lookup/pieces.h"
    #include "lookup/sketch.h"
    #include "zstd/frames.h"
    #include "zstd/recipe.h"
    """,
    sources=_files(".c"),
    depends=_files(".h"),
    include_dirs=["csrc"],
    define_macros=[("PK_VERSION", f'"{_version()}"')],
    extra_compile_args=_flags,
)

if __name__ == "__main__":
    os.chdir(_ROOT)
    ffi.compile(verbose=True)
