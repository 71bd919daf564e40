"""Reading: layers to listings, files and trees.

A loaded version has an index that says what is where. Listings and comparisons come from it alone.
Content comes from frames, which `format.frame_reader` reads in ranges, decodes and verifies:

    index > contents, differences                       no data layer is read, but by `details`
    index > frames > entry_content > version_file       one file
    index > write_plan > frames > files > rename        a tree (restore)

In reading order:

- `contents`: entries, the content of one file, details; `differences`: what changed.
- `file_patches`: what changed, to read; `line_diff`: hunks of two texts.
- `entry_content`: the bytes of a file, rebuilt if it was opened; `version_file`: as a file object.
- `verification`: every blob, frame and chunk.
- `parts`: a choice of entries as an index of its own; `tar_output`: a tree as a tar stream.
- `restore`: a tree; it uses `write_plan` (which bytes go where), `restore_work` (threads),
  `seeds` (older copies), `old_copies` (predecessors among them), `target` (an existing
  directory), `staging_directory`.
- `installed_files`: SHA-256 of what was written, for receipts, checked against the version.
- `image_layers`: which entries go into which layer of a plain OCI image.

Invariants. Every byte is verified before it leaves the room. The target is untouched until all of
the version is written, verified and synced; then it appears by rename, or with `update` file by
file, each either old or new. Nothing is written through a link of the target. A frame is decoded
once per restore. Memory does not grow with the size of the version's content.

The room imports `format`, `stores`, `opening`, `files`, `engine` and the vocabulary, and of `trust`
the type of its result. It does not know `packing` and `transfer`, which are beside it.
"""
