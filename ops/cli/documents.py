"""Plans and outcomes as JSON documents; `docs/json.md` describes them."""

from dataclasses import asdict
from typing import Any

from ops.clone import Outcome, Plan
from ops.model import Instance
from ops.names import display
from ops.report import Report
from ops.verify import Verification, VerifyRequest


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return what `clone --dry-run --json` prints."""
    return Report(
        command="clone", findings=plan.source.findings, details={"dry_run": True, **_plan(plan)}
    ).document()


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """Return what `clone --json` prints."""
    captured, plan = outcome.capture, outcome.plan
    destination = plan.destination.instance
    details = {
        "dry_run": False,
        **_plan(plan),
        "copied": {**asdict(outcome.totals), "bytes": outcome.totals.bytes},
        "captured": {
            "instant": captured.instant.isoformat(),
            **captured.figures(),
        },
        "checks": asdict(outcome.counts),
        "seconds": round(outcome.seconds, 6),
        "environment": {
            variable: display(path)
            for variable, path in plan.request.profile.environment(destination).items()
        },
    }
    return Report(command="clone", findings=outcome.findings, details=details).document()


def _plan(plan: Plan) -> dict[str, Any]:
    manifest = plan.request.manifest
    standing = plan.destination
    return {
        "profile": plan.request.profile.name,
        "source": {**_instance(plan.source.instance), "origin": plan.request.source.origin},
        "destination": {
            **_instance(standing.instance),
            "manifest": None if manifest is None else display(manifest),
        },
        "replaces": {
            "database_bytes": standing.database_bytes,
            "files": None if standing.size is None else standing.size.files,
            "attachments_bytes": None if standing.size is None else standing.size.bytes,
        },
        "planned": {**asdict(plan.totals), "bytes": plan.totals.bytes},
        "room": [{**asdict(room), "path": display(room.path)} for room in plan.rooms],
    }


def _instance(instance: Instance) -> dict[str, Any]:
    return {
        "database": display(instance.database),
        "attachments": display(instance.attachments),
    }


def verification_report(request: VerifyRequest, verification: Verification) -> Report:
    """Return the report whose document `verify --json` prints."""
    details = {
        "profile": request.profile.name,
        "instance": _instance(request.instance),
        "source": None if request.source is None else _instance(request.source),
        "manifest": None if request.manifest is None else display(request.manifest),
        "quick": request.quick,
        "way": verification.way,
        "checks": asdict(verification.counts),
    }
    return Report(command="verify", findings=verification.findings, details=details)
