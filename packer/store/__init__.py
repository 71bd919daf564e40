"""Where blobs, manifests and tags live: memory, an OCI image layout directory, a registry."""
