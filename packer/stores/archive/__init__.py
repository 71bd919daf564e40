"""OCI archives: an image layout in a tar file, or in parts of one with a list of checksums.

An archive carries versions across an air gap. It is read in place by its headers, never extracted,
and written as a whole: the layout of a tar file follows from the digests and sizes of its blobs, so
blobs are written to their final offsets in any order, and an interrupted write in parts continues
where it stopped.

Flow of a write: `ArchiveStore.assemble` plans the file (`tar.TarPlan`), `writer.Assembly` writes
blobs into it, `commit` renames it into place. Flow of a read: `parts.open_archive`,
`tar.read_members`, then members by range.

Reading order: `tar` (headers and layout), `parts` (files, members, list of checksums), `writer`,
`store`.

Invariants: an archive appears under its name only when it is complete; a part gets its line in the
list only when all blobs in it are verified; equal content gives equal bytes; a stranger's archive
costs bounded memory, and no name in it is ever used as a path.
"""
