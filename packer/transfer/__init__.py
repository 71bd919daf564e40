"""A manifest's blobs, from store to store: what push, pull, export and import have in common.

Flow: `copy` reads the manifest at its source, `decide` asks the destination and makes a plan, a
`BlobMover` moves the missing blobs, several at a time, and the manifest and its tag follow last.
`estimate_copy` makes the same plan and counts it.

Files in reading order:
    promises    versions elsewhere that hold blobs left out here
    mounts      repositories of a registry from which blobs can be mounted
    copy_plan   decides which blobs to move; asks, and moves nothing
    referrers_plan, copy_referrers   the same for signatures and SBOMs of the version
    blob_mover  moves blobs: threads, counters, progress, retries of single blobs
    copy_graph  carries a plan out
    blob_sender the blobs of a version that is staged; the caller writes its manifest
    copy_cost   counts a plan
    overlay     reads a version whose blobs lie partly in a registry

Invariants: layers are written before the config, the config before the manifest, the manifest
before its tag. So no tag ever names something incomplete, and a second copy goes on where the first
ended. An estimate and a copy follow the same plan. A manifest is copied byte for byte.

This room may import stores and the vocabulary. It knows neither packing nor reading: a copy moves
manifests of any tool.
"""
