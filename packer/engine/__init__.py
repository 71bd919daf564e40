"""Per-byte work: the C boundary, chunking, compression, deltas, deflate."""
