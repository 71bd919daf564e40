"""The engine: per-byte work, most of it in C, on buffers in memory.

Whoever packs hands it plaintext and gets cut points (`chunking`), compressed frames (`zstd`,
`delta`), recipes of deflate streams (`deflate`) and maps from digests to ordinals (`ordinals`).
Whoever reads hands it frames and recipes and gets the plaintext back.

In reading order:

- `native`: the boundary to the compiled module; only wrappers of C functions import it.
- `chunking`: where files are cut, and the choice of a kernel.
- `zstd`: frames, alone or against a prefix, and bounded decompression.
- `delta`: frames against much older text: copies, then zstd for the rest.
- `deflate`: streams to plaintext and recipe, and back bit for bit.
- `bzip2`: blocks of streams to plaintext, and back bit for bit, by libbz2.
- `ordinals`: a map of millions of keys in little memory; `pieces`: what texts have in common.
- `memory`: settings of the process; `workspaces`: working memory of C functions, by thread.

Invariants. Results are functions of the arguments: no kernel, thread or buffer size changes a byte.
C code does no I/O and keeps no global state; memory belongs to the caller, or to objects that free
it. Calls on much data release the GIL. Bytes from a stranger are bounded before memory is allocated
for them, and fail with FormatError, NotDeflate or RecipeError only.

The engine imports `errors` and nothing else of the package: it knows no file, store or format.
"""
