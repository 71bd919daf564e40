"""Describes the C extension ``packer.engine._native`` to cffi (API mode: the C compiler checks it).

setup.py names `ffi`. Environment: LAYER_PACKER_WERROR=1 makes warnings errors; CC and CFLAGS work
as usual. No -march: the kernels carry their targets themselves and are chosen at run time.
"""

import os
import re

from cffi import FFI

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SOURCES = [
    "pk_analyse.c",
    "pk_bench.c",
    "pk_chunker.c",
    "pk_codec.c",
    "pk_codes.c",
    "pk_delta.c",
    "pk_dispatch.c",
    "pk_fs.c",
    "pk_inflate.c",
    "pk_map.c",
    "pk_match.c",
    "pk_members.c",
    "pk_rebuild.c",
    "pk_scan_avx2.c",
    "pk_scan_avx512.c",
    "pk_scan_neon.c",
    "pk_scan_portable.c",
    "pk_select.c",
    "pk_signature.c",
    "pk_sketch.c",
    "pk_speed.c",
    "pk_tape.c",
    "pk_tar.c",
    "pk_walk.c",
]
_HEADERS = [
    "pk_bytes.h",
    "pk_chunker.h",
    "pk_chunker_impl.h",
    "pk_codec.h",
    "pk_codes.h",
    "pk_deflate.h",
    "pk_delta.h",
    "pk_fs.h",
    "pk_inflate.h",
    "pk_map.h",
    "pk_match.h",
    "pk_members.h",
    "pk_scan_vector.h",
    "pk_select.h",
    "pk_signature.h",
    "pk_sketch.h",
    "pk_speed.h",
    "pk_tape.h",
    "pk_tar.h",
    "pk_walk.h",
]


def _version() -> str:
    with open(os.path.join(_ROOT, "packer", "_version.py"), encoding="utf-8") as file:
        found = re.search(r'^VERSION = "([^"]+)"', file.read(), re.MULTILINE)
    if found is None:
        raise RuntimeError("packer/_version.py names no version")
    return found.group(1)


ffi = FFI()
ffi.cdef(
    """
    const char *pk_kernel_name(int id);
    int pk_kernel_state(int id);
    int pk_kernel_default(void);
    int64_t pk_cut_points(const uint8_t *data, size_t length, size_t min, size_t max, int final,
                          int kernel, uint64_t *cuts, size_t capacity);
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
    typedef struct pk_walker {
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
    int64_t pk_walk_next(pk_walker *walker, size_t most);
    void pk_walk_free(pk_walker *walker);
    size_t pk_find_signature(const uint8_t *data, size_t length);
    #define PK_TAR_CODED ...
    #define PK_TAR_LONG ...
    #define PK_TAR_RANGE ...
    int pk_tar_is_header(const uint8_t *block);
    int64_t pk_tar_size(const uint8_t *block);
    size_t pk_tar_encode(const uint8_t *block, const uint8_t *previous, uint8_t *out,
                         int64_t *size);
    ptrdiff_t pk_tar_decode(const uint8_t *in, size_t length, const uint8_t *previous,
                            uint8_t *block);
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
    int pk_sketch(const uint8_t *data, size_t length, uint64_t out[6]);
    typedef struct pk_segment {
        uint8_t *data;
        size_t window, size;
        uint64_t end_bit;
        int last;
        ...;
    } pk_segment;
    pk_segment *pk_segment_new(void);
    void pk_segment_free(pk_segment *segment);
    int pk_segment_inflate(pk_segment *segment, const uint8_t *in, size_t length, unsigned bit,
                           const uint8_t *window, size_t window_length, uint64_t position,
                           size_t target);
    typedef struct pk_codec pk_codec;
    pk_codec *pk_codec_new(void);
    void pk_codec_free(pk_codec *codec);
    int64_t pk_analyse(pk_codec *codec, const pk_segment *segment, int guess, uint8_t *recipe,
                       size_t capacity, uint64_t tokens[2]);
    int64_t pk_rebuild(pk_codec *codec, const uint8_t *data, size_t window, size_t size,
                       uint64_t position, const uint8_t *recipe, size_t recipe_length, unsigned bit,
                       size_t most);
    const uint8_t *pk_codec_result(const pk_codec *codec);
    typedef struct pk_copy { uint32_t at, from, length; } pk_copy;
    size_t pk_delta_find(const uint8_t *data, size_t prefix, size_t size, uint32_t *table,
                         unsigned table_log, pk_copy *copies, size_t capacity);
    typedef struct pk_map pk_map;
    pk_map *pk_map_new(size_t key_bytes);
    void pk_map_free(pk_map *map);
    void pk_map_lend(pk_map *map, const uint8_t *keys, uint32_t count);
    int pk_map_put_lent(pk_map *map, uint32_t first, uint32_t count);
    int pk_map_put(pk_map *map, const uint8_t *keys, size_t stride, size_t count, uint32_t first,
                   uint32_t each);
    void pk_map_get(const pk_map *map, const uint8_t *keys, size_t stride, size_t count,
                    int64_t *out);
    #define PK_SELECT_HEADS ...
    typedef struct pk_select_table {
        uint32_t *heads, *places, *chains;
        size_t capacity;
    } pk_select_table;
    size_t pk_select(const uint8_t *older, size_t older_length, const uint8_t *rest,
                     size_t rest_length, unsigned sample_log, unsigned depth,
                     unsigned block_log, const pk_select_table *table, uint8_t *kept);
    size_t pk_select_gather(const uint8_t *older, size_t length, unsigned block_log,
                            const uint8_t *kept, uint8_t *out);
    size_t pk_select_encode(const uint8_t *kept, size_t count, uint8_t *out);
    int pk_select_decode(const uint8_t *in, size_t length, uint8_t *kept, size_t count);
    size_t pk_delta_copied(const pk_copy *copies, size_t count, size_t end);
    size_t pk_delta_rest(const uint8_t *data, size_t prefix, size_t size, const pk_copy *copies,
                         size_t count, uint8_t *out);
    int pk_delta_apply(const uint8_t *older, size_t prefix, size_t size, const pk_copy *copies,
                       size_t count, const uint8_t *rest, size_t rest_length, uint8_t *text);
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
    #include "pk_chunker.h"
    #include "pk_deflate.h"
    #include "pk_delta.h"
    #include "pk_fs.h"
    #include "pk_inflate.h"
    #include "pk_map.h"
    #include "pk_members.h"
    #include "pk_select.h"
    #include "pk_signature.h"
    #include "pk_sketch.h"
    #include "pk_tar.h"
    #include "pk_walk.h"
    """,
    # Relative to the root of the repository, which is where setuptools builds from.
    sources=[f"csrc/{name}" for name in _SOURCES],
    depends=[f"csrc/{name}" for name in _HEADERS],
    include_dirs=["csrc"],
    define_macros=[("PK_VERSION", f'"{_version()}"')],
    extra_compile_args=_flags,
)

if __name__ == "__main__":
    os.chdir(_ROOT)
    ffi.compile(verbose=True)
