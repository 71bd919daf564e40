"""The public calls: they turn arguments and the environment into explicit parameters.

Flow: a call finds the places that its arguments name (`locations`), opens the stores there, and
hands them to packing, reading or transfer. The result is a frozen dataclass.

Files in reading order:
    locations    the local store, registries, layouts, and versions in them
    base_search  the best base of a store or a repository
    bases        the version that packing builds on, wherever it lies
    packs        pack
    push_source  the version that a push means
    ranges       the newest version of a repository in a range
    remote_versions  the versions of a repository
    fetching     a version from elsewhere into the local store
    transfers    push, copy
    pulls        pull
    tree_writer  what pull, unpack and the storage's load do to write a version
    exports      export_image: a plain OCI image
    readings     unpack, unpack_tar, ls, cat, diff, patches, inspect, verify, inventory
    listing      versions
    forgetting   forget, and what pull forgets
    keeping      tag, gc, usage
    integrity    verify of all versions, and of archives with their bases; repair
    air_gap      inventories of the far side, and archives that leave blobs out
    estimates    estimate
    trust        sign, signatures to check before a version is written, receipts
    referrers, signers  what refers to a version, and who claims to have signed it
    filesystem   versions as a file system for fsspec

Invariants: `packer.__all__` lists the public names, and `packer/__init__.py` says which module
defines each. A call keeps nothing for the next one: `push(ref)` finds its version by name. Calls
are safe from several threads. Only `locations`, `packs` and `trust` read the environment.

This room may import everything below it: packing, reading, transfer, format, stores, files. It
loads a room within the function that needs it, where a cheap call would otherwise load it for
nothing (tests/unit/cli/test_cli_process.py says which). It knows neither storage nor the command.
"""
