"""Being watched: what tells a monitor of a run, and never changes how the run ends."""
