"""Break runs for real, at every call; `nox -s faults` runs these."""

import os

FULL = os.environ.get("OPS_FAULTS") == "full"
"""Whether to try everything, or what fits into three minutes."""
