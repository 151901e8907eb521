"""SQLite databases: open without harm, validate, pin, back up, compare page by page."""
