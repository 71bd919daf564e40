"""The state of a storage, with a registry's tags and manifests as the only place to keep it.

Flow: an application's ID gives the name of its repository (`encoded_names`), which `repositories`
opens. What is saved gets a number that no other writer got (`sequence_numbers`) and a record in its
manifest's annotations; `history` gathers records, so that a list costs few requests. What changes
over time (deployments, gathered records) is a `series`: generations, each under a tag of its own.

Files in reading order:
    encoded_names     IDs as names of repositories and tags
    repositories      where the repositories of a storage lie
    repository        one repository: versions, notes and marks in it
    sequence_numbers  numbers under several writers
    series            values that change, on registries whose tags do not
    history           the records of saved versions and bundles

Invariants: no tag is written twice, and no number is given twice. Nothing assumes one writer, a
clock, or a compare-and-swap; docs/storage.md has the protocol and its proof. Whatever is broken
fails alone.

This room may import everything below storage, and `results`. It knows no deployments, retention or
saving.
"""
