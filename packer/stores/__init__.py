"""Where blobs, manifests and tags live: memory, an OCI layout, an OCI archive, a registry."""
