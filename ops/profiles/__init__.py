"""What is known about applications, as data: one TOML file each."""
