"""Opening: archives in files to content and recipe, and back bit for bit.

A file is read as a stream. Where a deflate stream begins in it (of a gzip member or a zip entry)
and its encoder has a model, its plaintext replaces it, and is a stream of the same kind. So does
the plaintext of a bzip2 stream that libbz2 wrote. Headers of tar archives go to the recipe. The
rest is content, which is cut into chunks like any file. The recipe turns the content back into the
file:

    file > Source > Expander > content chunks + recipe chunks       (packing)
    content + recipe > Rebuilder > file                             (reading)

In reading order:

- `expansion`: what the index records of an opened file, and the bounds on it.
- `recipe`: the operations of a recipe, written and parsed.
- `closed`: what stayed closed in a file, and why; said to the user, never stored.
- `lookahead`: a stream with as much look-ahead as its reader wants; the search for signatures.
- `tar_headers`: headers of tar archives, coded as differences to the one before.
- `workers`, `deflate_streams`: deflate streams found, inflated and analysed ahead of their use.
- `bzip2_streams`, `finder`: bzip2 streams likewise; both kinds found in a source, in order.
- `recipe_cache`: recipes of streams that were analysed before.
- `expander`, `rebuilder`: the two directions.
- `member_listing`: the files in archives, for people who ask; no part of packing or restoring. It
  reads `stored_pieces`, an archive as it is stored, by `tar_members`, `zip_members`,
  `gzip_members` and `bzip2_members`.

Invariants. A recipe is kept only if it has been verified to return the input's bits. No file is an
error: what cannot be opened stays content. The result depends on the file alone, not on threads,
timing or caches. A reader's memory and time are bounded before a stranger's recipe is followed.

The room imports `files`, `engine` and the vocabulary; it knows no index, version or store.
"""
