"""History, deployments, support bundles and migration: state that lies in a registry alone.

A `Storage` keeps every version of a set of applications below one base, for any number of threads
and processes. Each application has a repository; the tag of a version is its sequence number.

Saving goes: list the numbers > pack on the newest version > send new blobs > claim a number >
write the manifest under it > remember the record. Reading goes through the rooms below.

Files, in reading order:
    storage             the public class; each call finds an application and hands the work on
    results             what calls return
    state/              how state is kept in a registry: repositories, numbers, records
    app_list            which applications there are
    application         one application: numbers, records, versions, and the save
    save                staging of a tree, and its manifest
    load                a version to a directory, by way of the cache
    open_versions       versions that were read last
    deployments         the log of deployments
    condition           which numbers can be loaded
    retention           deletion, withdrawal, retention
    support_bundles     archives under an ID
    kots_archives, migration    what KOTS kept in S3, moved here and back

Invariants: a tag is written after everything that it needs; a number is written once and never
given to two versions; no version is deleted on the word of a tag; a lost cache costs requests only.

May import every room but `cli` and `serve`.
"""
