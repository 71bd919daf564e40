"""What is stored: the index, frames, layers, versions."""
