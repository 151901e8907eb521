"""Clone, verify and keep safe an instance: one SQLite database and its attachments."""

__version__ = "0.1.0"
