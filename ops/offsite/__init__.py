"""Snapshots off-site: pushed into a repository of restic's, and pulled back."""
