"""A tree to layers."""
