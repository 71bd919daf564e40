"""Who signed a version, and proof of what was installed.

Flow: `checking` lists what refers to a version and reads each signature as a claim (`claims`): of
cosign (`simple_signing`), a Sigstore bundle (`bundle`), or notation (`notation`). A `policy` says
whose claims are needed. `signing` signs as cosign does. A `receipt` states what was installed, as
an in-toto statement, in a DSSE envelope (`dsse`) if it is signed.

Files in reading order:
    keys            ECDSA and Ed25519 keys in PEM
    claims          bounds, signers, and what all formats have in common
    simple_signing  cosign's format with a key
    dsse            envelopes, and in-toto statements
    bundle          Sigstore bundles, made with a key or an identity
    notation        JWS envelopes with X.509 certificates
    policy          which repository needs whose signatures
    checking        the signatures of a version against a policy
    signing         signs a version
    receipt         a statement of what was installed
    installed       compares a directory with a receipt

Invariants: nothing that a store says is believed before a signature over it is checked with a key
that the user gave. Nothing here asks a network but the store. Sizes and counts are bounded before
anything is read. The libraries of the extras ``verify`` and ``sigstore`` are loaded when a key, a
certificate or an identity is used, and at no other time.

This room may import stores, files and the vocabulary. It knows neither packing nor reading: what
is signed is a manifest of any tool, and a receipt's files are given to it.
"""
