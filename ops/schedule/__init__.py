"""Schedules: the same job written down for each program that can start it."""
