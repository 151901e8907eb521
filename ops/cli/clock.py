"""The real clock, for the use cases that are handed one."""

import time
from datetime import UTC, datetime

from ops.model import Clock

CLOCK = Clock(now=lambda: datetime.now(UTC), seconds=time.monotonic)
