"""A manifest's blobs from store to store."""
