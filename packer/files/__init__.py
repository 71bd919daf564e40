"""The file system: walking, safe paths, durable and temporary files."""
