"""The stored form of a version, and how to read its parts.

A version is a manifest, a config, index layers and data layers. A data layer is a sequence of
frames, a frame a few chunks compressed together, alone or against a prefix of older chunks. The
index is one table: the tree, and the directory of layers, frames and chunks. docs/format.md is the
specification; an independent decoder in tests/conformance is held against it.

Reading: `version.load_version` checks manifest and config. `Version.index` fetches the
`index_layers`, applies the patches, decodes (`index_codec`) and checks (`index_checks`) the table.
A `FrameReader` then returns chunks, fetched by `BlobRanges`, each verified.
Writing: `LayerWriter` turns new chunks into frames and layers; `encode_index` and `index_layers`
write the table.

In reading order: `index`, `frames`, `index_codec`, `index_checks`, `index_layers`, `version`;
`frame_reader`, `cost`, `frame_cache`, `blob_ranges`, `reading_ahead`, `tree_digest`, `damage`,
`text_match`, `predecessor_texts`, `rebuilding` (files that were opened, and their predecessors);
`layer_writer`; `usage`, `archive_heads`, `closed_files`.

Invariants: an index is checked before anything uses it, a chunk before anyone sees it (but for the
first ten bytes of a file that may be an archive, which give it a name in a listing). Whatever
follows from other columns is not stored. A prefix lies before the frame that needs it.

Imports `stores` for reading blobs, and the rooms below. It knows nothing of source trees, targets,
registries or the choice of a base.
"""
