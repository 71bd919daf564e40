"""The versions that were packed before: which to build on, and what of them serves new chunks.

Flow: `bases` chooses the base by its name, `likeness` by its tree. While files are scanned,
`prefixes` proposes older chunks for each new one: the counterpart at the same place
(`counterparts`), or a similar one (`similar`), which the base or the new version holds
(`older_chunks`). Then `compaction` decides which layers of the base have become too dear, and
`merging` which small ones become one.

Files in reading order:
    bases         the base, by name; tags in the order of their versions
    likeness      how alike two trees are, by paths and sizes
    counterparts  the same place in the base's file
    similar       sketches of chunks, and similar chunks by them
    older_chunks  the base's chunks and the new ones, by digest
    predecessors  the base's files that changed archives are opened against
    alike         archives of the base that a new one is like, whatever their names
    further_files other files that hold text which the predecessor lacks
    prefixes      the older chunks that a frame is compressed against
    merging       small layers that become one
    compaction    layers that cost more than they save
    staging       packing on a base that lies in a registry

Invariants: proposals only change sizes, never content. The result depends on the tree, the base and
the parameters alone, not on caches or threads.

This room imports what packing may import; `packing` uses it, and it knows neither scan nor publish.
"""
