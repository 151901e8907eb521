"""Benchmarks, which print ratios and judge nothing; `nox -s bench` runs them."""
