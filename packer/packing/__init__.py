"""A directory or file to a version in a local store, on a base wherever that lies.

`pack_tree` is the flow. It walks the tree and asks the stat cache which files look unchanged. A
`Scan` reads the others: `file_chunks` and `small_files` cut them into chunks; known chunks become
references, new ones go to the layer writer, each with the older chunks it is probably like
(`older.prefixes`: by path, or by sketch). `recall` takes over files without reading
them. `merging` decides before the scan whether small layers of the base are given up; `compaction`
decides behind it whether large ones are, so that the scan is repeated.
`numbering` completes the index, `publish` writes index, config and manifest.

In reading order: `job`, `pack_tree`, `scan`, `file_chunks`, `small_files`, `changed_archives` and
`updated_files` (archives that are opened against the base's), `recall`, `stat_cache`,
`tree_record`, `tar_source` (a tar stream as a directory), the room `older` (the base, and older
chunks that serve new ones), `numbering`, `publish`.

Invariants: the result depends on the tree, the base, the parameters and the libraries' versions,
never on threads or caches. A file that changes while it is read fails the pack. Nothing names a
blob before it is durable. Memory stays below 256 MiB for a million files; hence columns, not
objects, and steps that return only what the next one needs.

Knows nothing of `reading` and `transfer`, nor of registries and their credentials.
"""
