"""Archives as people look into them: `ls`, `cat` and `diff --inside`.

Flow: `archive` looks at a file's stored pieces, finds out what kind of archive it is, and asks the
reader of that kind for its members, at any depth to 4. A member is listed with its size and
digest, or read. Nothing is compressed anew: the stored plaintext of an opened stream is read where
it lies.

Files in reading order:
    stored_pieces   a file as the pieces that are stored: content, and plaintext of opened streams
    stored_stream   the pieces of a file, as its recipe tells them
    gzip_members    gzip: one member behind another
    bzip2_members   bzip2 likewise
    tar_members     tar: GNU, pax, old GNU, incremental, sparse and hard links
    zip_members     zip: by the central directory, which is found from its end
    spooling        exact bytes of a zip archive out of another one, in any order
    archive         an archive of any kind, gone through once, within bounds
    member_listing  lists members, at any depth
    member_reading  reads one member
    member_texts    reads several small ones in one pass

Invariants: archives are a stranger's. Headers are bounded before they are held, nothing is skipped
by reading it, and no archive raises an error that is not ours. Of two members of a name the last
one wins, as in tar and unzip. A listing that had to stop says so.

No part of packing or restoring uses this room. It imports what opening may import.
"""
