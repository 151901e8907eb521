"""Short cuts through the pipeline for tests."""

import time
from datetime import UTC, datetime
from pathlib import Path

from ops.clone import Outcome, Plan, Request, plan_clone, run_clone
from ops.model import Clock, Instance, Progress
from ops.profile import load_profile
from ops.source import Location
from ops.verify import Verification, VerifyRequest, verify

CLOCK = Clock(now=lambda: datetime.now(UTC), seconds=time.monotonic)


def quiet(_progress: Progress) -> None:
    """Take progress and say nothing."""


def request_for(
    source: Instance,
    destination: Instance,
    *,
    profile: str = "ciso_assistant",
    manifest: Path | None = None,
    jobs: int = 0,
    from_disk: bool = False,
) -> Request:
    """Ask for a clone."""
    return Request(
        source=Location(instance=source, origin="test"),
        destination=destination,
        profile=load_profile(profile),
        manifest=manifest,
        jobs=jobs,
        from_disk=from_disk,
        lock_timeout_seconds=5,
    )


def plan(request: Request) -> Plan:
    """Plan a clone."""
    return plan_clone(request, progress=quiet)


def clone(
    source: Instance,
    destination: Instance,
    *,
    profile: str = "ciso_assistant",
    manifest: Path | None = None,
    jobs: int = 0,
    from_disk: bool = False,
) -> Outcome:
    """Plan a clone and run it."""
    request = request_for(
        source,
        destination,
        profile=profile,
        manifest=manifest,
        jobs=jobs,
        from_disk=from_disk,
    )
    return run_clone(plan(request), clock=CLOCK, progress=quiet)


def check(
    instance: Instance,
    *,
    source: Instance | None = None,
    manifest: Path | None = None,
    quick: bool = False,
    profile: str = "ciso_assistant",
    jobs: int = 0,
    from_disk: bool = False,
) -> Verification:
    """Verify an instance."""
    request = VerifyRequest(
        instance=instance,
        profile=load_profile(profile),
        source=source,
        manifest=manifest,
        quick=quick,
        jobs=jobs,
        from_disk=from_disk,
        lock_timeout_seconds=5,
    )
    return verify(request, progress=quiet)
