"""The demo: make an instance, clone it while a writer is busy, verify the clone."""

from dataclasses import dataclass
from pathlib import Path

from ops.clone import Outcome, Request, plan_clone, run_clone
from ops.demo_instance import build_instance, evidence_ids
from ops.demo_writer import Writing, writer
from ops.model import Clock, Instance, Progress, ReportProgress
from ops.profile import DEFAULT_PROFILE, load_profile
from ops.source import Location
from ops.verify import Verification, VerifyRequest, verify


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOutcome:
    """What the demo did, step by step.

    `before` counts the evidences committed before the clone began, `lost` those of them that
    the clone lacks although nobody deleted them.
    """

    request: VerifyRequest
    clone: Outcome
    verification: Verification
    writing: Writing
    before: int
    lost: int


def run_demo(
    directory: Path, *, evidences: int, rate: int, clock: Clock, progress: ReportProgress
) -> DemoOutcome:
    """Make an instance, clone it while a writer is busy, and verify the clone.

    Args:
        directory: Where everything is made; it exists and is empty.
        evidences: How many the instance begins with.
        rate: Commits a second during the clone.
        clock: The time.
        progress: Called as the work goes on.

    Raises:
        OpsError: The clone failed.
    """
    progress(Progress(step="make an instance"))
    profile = load_profile(DEFAULT_PROFILE)
    source = build_instance(directory / "production", evidences=evidences)
    destination = Instance(
        database=directory / "clone" / "ciso-assistant.sqlite3",
        attachments=directory / "clone" / "attachments",
    )
    with writer(source, rate=rate) as busy:
        before = evidence_ids(source.database)
        plan = plan_clone(
            Request(
                source=Location(instance=source, origin="the demo"),
                destination=destination,
                profile=profile,
            ),
            progress=progress,
        )
        outcome = run_clone(plan, clock=clock, progress=progress)
        after = evidence_ids(source.database)
        writing = busy.stop()
    request = VerifyRequest(instance=destination, profile=profile)
    verification = verify(request, progress=progress)
    return DemoOutcome(
        request=request,
        clone=outcome,
        verification=verification,
        writing=writing,
        before=len(before),
        lost=len((before & after) - evidence_ids(destination.database)),
    )
