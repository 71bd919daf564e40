"""Layers to listings, files and trees."""
