"""A job as a property list for launchd (macOS)."""

import plistlib
from pathlib import Path
from typing import Any

from ops.schedule.job import Job


def property_list(job: Job, logs: Path) -> str:
    """Return the property list.

    Args:
        job: What is to be started.
        logs: The directory where its output goes.
    """
    log = str(logs / f"{job.unit}.log")
    document: dict[str, Any] = {
        "Label": job.unit,
        "ProgramArguments": list(job.arguments),
        "WorkingDirectory": str(job.directory),
        "StartCalendarInterval": job.when.intervals,
        "StandardOutPath": log,
        "StandardErrorPath": log,
        "ProcessType": "Background",
        "LowPriorityIO": True,
        "Umask": 0o077,
    }
    if job.variables:
        document["EnvironmentVariables"] = dict(job.variables)
    if job.system:
        document["UserName"] = job.user
    return plistlib.dumps(document, sort_keys=False).decode()
