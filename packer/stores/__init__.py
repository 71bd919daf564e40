"""Where blobs, manifests and tags are kept: memory, an OCI image layout, an archive, a registry.

All stores speak one small protocol (`protocols.Store`): `push` and `fetch` blobs, `put_manifest`
and `get_manifest`, `resolve`. A capability that only some stores have is a protocol of its own,
which callers test with ``isinstance``. So a copy is one function, whatever lies on either side.

Flow of a write: `push` (or `create` and `commit`) each blob, durably; then `put_manifest`, which
checks that every blob is there; the tag moves last. Flow of a read: `get_manifest` or `resolve`,
then `fetch`; a whole blob is verified while it is read, a range is not.

Reading order: `protocols`, `partial`; `verifying`; `manifests` (the blobs that anybody's manifest
names); `subjects` (what refers to what); `memory`, the shortest store; `layout`, the default store,
with `index_json`, `layout_directory`, `layout_use` and `layout_garbage`; `archive`, a layout in a
tar file; `registry`, the HTTP client; then the helpers `graph` (questions of copies), `referrers`
(what refers to a version, at any depth), `cancelling`, `forwarding` and `caching` (stores that wrap
others).

Invariants: a store keeps nothing that differs from the given descriptor; a blob is durable when
`push` returns; a tag never names an incomplete manifest, except where a promise beside the tag
names the place of the rest; nothing assumes a single writer; threads may share every store, and a
forked child may use its parent's.

May import: `files`, `engine` and the vocabulary (`errors`, `oci`, `reference`, `progress`). It
knows nothing of versions, frames or chunks.
"""
