"""Trees of files: scan, copy, hash, compare; exact, and never through a symbolic link."""
