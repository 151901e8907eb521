"""Make a copy harmless: rules applied to a private database and its files."""
