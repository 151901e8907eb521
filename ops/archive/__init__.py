"""One file for the road: a snapshot as a tar stream, compressed with zstd, encrypted with age."""
