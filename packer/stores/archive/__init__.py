"""OCI archives: an image layout in a tar file, or in parts of one."""
