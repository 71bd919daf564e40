"""Opening: archives in files to content and recipe, and back bit for bit.

A file is read as a stream. Where a deflate stream begins in it (of a gzip member or a zip entry)
and its encoder has a model, its plaintext replaces it, and is a stream of the same kind. So does
the plaintext of a bzip2 stream that libbz2 wrote. Headers of tar archives go to the recipe. The
rest is content, which is cut into chunks like any file. The recipe turns the content back into the
file:

    file > Source > Expander > content chunks + recipe chunks       (packing)
    content + recipe > Rebuilder > file                             (reading)

A file that changed may be opened against its predecessor instead, the older file, whatever encoder
wrote it: deltas against old plaintext, and recipes from old tokens (docs/opened-against.md):

    file + older file > Update > content chunks + recipe chunks     (packing)
    content + recipe + OldStreams > Rebuilder > file                (reading)

In reading order:

- `expansion`: what the index records of an opened file, and the bounds on it.
- `recipe`: the operations of a recipe, written and parsed.
- `choice`: which archives are opened, as the user says.
- `closed`: what stayed closed in a file, and why; said to the user, never stored.
- `lookahead`: a stream with as much look-ahead as its reader wants; the search for signatures.
- `tar_headers`: headers of tar archives, coded as differences to the one before.
- `header_times`: times and offsets in the headers of old archives, made like new ones before a
  delta is made.
- `ahead`, `workers`, `deflate_streams`: deflate streams found, inflated and analysed ahead of
  their use.
- `bzip2_streams`, `finder`: bzip2 streams likewise; both kinds found in a source, in order.
- `recipe_cache`: recipes of streams that were analysed before.
- `expander`, `rebuilder`: the two directions; `deferred`: bytes that are being made; `in_turn`:
  work that waits without a thread.
- `predecessor`: what the index records of older files that recipes refer to, and its bounds.
- `further`: other files beside the predecessor, where that lacks much of a file's text.
- `old_streams`, `inflated_stream`: plaintext and tokens of the deflate streams in them;
  `segment_cache` keeps them; `rebuilt_stream`: the same of a file that was opened, without making
  it; `kept_texts`: its text for the next version; `against`: what recipes take from these.
- `updating`: opens a file against its predecessor; `discovery` finds the streams of both, each a
  `found_stream`, `equal_archives` and `equal_stretches` what both have alike (`tar_members`:
  members by their headers), `locating` the old text that new text is like, `guesses` the old stream
  by its name; `stream_plans` plans how each stream is opened, `segment_recipes` makes recipes of
  segments, `text_pieces` the deltas, `shelf` keeps recipes until all is decided; `pieces` is a file
  of given pieces; `closed_update` tells what an update left closed, `ar_members` what a Debian
  package holds of formats that are never opened; `bzip2_members` opens bzip2 streams in it.
- the room `members`: archives as people look into them; no part of packing or restoring.

Invariants. A recipe is kept only if it has been verified to return the input's bits. No file is an
error: what cannot be opened stays content. The result depends on the file alone, not on threads,
timing or caches. A reader's memory and time are bounded before a stranger's recipe is followed.

The room imports `files`, `engine` and the vocabulary; it knows no index, version or store.
"""
