"""The file system: walking trees, safe paths, durable and temporary files.

Packing walks a directory (`tree`), whose names and states it gets as columns, and reads small files
in batches (`syscalls`). Stores publish blobs as durable files (`durable`). Reading checks the paths
of a stranger's version (`tree`, `name_folding`) before it creates anything.

In reading order:

- `syscalls`: calls that Python lacks, and batches of calls, through the C core.
- `name_column`: a million paths in one buffer.
- `tree`: walks a directory; checks the paths of a version.
- `patterns`: paths in the syntax of gitignore; `rules`: a walk that leaves out what they match.
- `tar_format`: headers of tar archives, strict to read and of one form to write.
- `name_folding`: file systems that ignore case or the form of Unicode.
- `durable`: files that appear whole or not at all; locks; sweeping after dead processes.
- `temporary`: unnamed files and private directories for data too large for memory.
- `room`: memory that threads share, and wait for.
- `spool`: bytes written once and read anywhere, in memory or in such a file.
- `cache_file`: small files that are sound or absent.
- `closing`: the base of what is closed at the end of a ``with`` block, in other rooms too.

Invariants. Paths are bytes: any name survives. Nothing is written through a symbolic link of a
version or target. A durable file appears by write, fsync, rename, fsync of its directory. Locks are
`flock`: the kernel releases them with the process, so what a dead process left can be told.

The room imports `engine` and the vocabulary (`oci`, `errors`); it knows no version and no store.
"""
