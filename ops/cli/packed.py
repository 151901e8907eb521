"""Packing and unpacking, as lines and as documents."""

from dataclasses import asdict
from typing import Any

from rich.text import Text

from ops.archive.opening import most_bytes, most_entries
from ops.cli.format import count_of, format_bytes, format_duration
from ops.cli.render import facts, finding_lines, heading, reference_words, tally
from ops.names import display
from ops.pack import Packed, PackPlan
from ops.report import Report
from ops.unpack import Arrived, Unpacked


def _encryption(plan: PackPlan) -> str:
    count = len(plan.request.recipients)
    return f"to {count_of(count, 'recipient')} (age)" if count else "no: anybody can read it"


def plan_lines(plan: PackPlan) -> list[Text]:
    """Return what would be packed."""
    rows = [
        ("snapshot", display(plan.request.snapshot.path)),
        ("  holds", f"{count_of(plan.files, 'file')}, {format_bytes(plan.bytes)}"),
        ("archive", display(plan.place) + ", replaced" * plan.replaces),
        ("  encrypted", _encryption(plan)),
    ]
    return [heading("Pack"), *facts(rows)]


def packed_lines(packed: Packed) -> list[Text]:
    """Return the report of a packing."""
    plan = packed.plan
    files = f"{count_of(plan.files, 'file')}, {format_bytes(plan.bytes)}"
    percent = f"{100 * packed.size / max(packed.clear_bytes, 1):.0f} %"
    opened = "decrypted, decompressed" if plan.request.recipients else "decompressed"
    rows = [
        ("archive", f"{display(plan.place)} ({format_bytes(packed.size)}, {percent} of {files})"),
        ("SHA-256", packed.sha256),
        ("encrypted", _encryption(plan)),
        ("checked", f"read again, {opened}, and every file compared with the manifest"),
    ]
    size = packed.size
    if packed.clear_bytes > most_bytes(size) or packed.entries > most_entries(size):
        rows.append(("to unpack", f"allow its size: --max-bytes {packed.clear_bytes}"))
    title = f"Packed {plan.request.snapshot.name} in {format_duration(packed.seconds)}"
    return [heading(title, "bold green"), *facts(rows)]


def pack_document(plan: PackPlan) -> dict[str, Any]:
    """Return what `pack --dry-run --json` prints."""
    return Report(command="pack", details={"dry_run": True, **_plan(plan)}).document()


def packed_document(packed: Packed) -> dict[str, Any]:
    """Return what `pack --json` prints."""
    details = {
        "dry_run": False,
        **_plan(packed.plan),
        "archive_bytes": packed.size,
        "sha256": packed.sha256,
        "tar_bytes": packed.clear_bytes,
        "seconds": round(packed.seconds, 6),
    }
    return Report(command="pack", details=details).document()


def _plan(plan: PackPlan) -> dict[str, Any]:
    return {
        "snapshot": plan.request.snapshot.name,
        "archive": display(plan.place),
        "replaces": plan.replaces,
        "recipients": len(plan.request.recipients),
        "files": plan.files,
        "bytes": plan.bytes,
        "room": {**asdict(plan.room), "path": display(plan.room.path)},
    }


def look_lines(arrived: Arrived) -> list[Text]:
    """Return the report on an archive that was only read."""
    rows = [
        *_arrived_rows(arrived),
        ("checked", "every file compared with its own manifest; the database not looked into"),
    ]
    return [heading(f"Read the archive of {arrived.name}", "bold green"), *facts(rows)]


def unpacked_lines(unpacked: Unpacked) -> list[Text]:
    """Return the report of an unpacking."""
    counts = unpacked.audit.counts
    rows = [
        ("snapshot", display(unpacked.path)),
        *_arrived_rows(unpacked.arrived),
        ("checked", f"the bag, the database, {count_of(counts.files, 'file')} read again"),
        ("", reference_words(counts.referenced, counts.digests_right, counts.orphans)),
        ("findings", tally(unpacked.audit.findings)),
    ]
    title = f"Unpacked {unpacked.arrived.name} in {format_duration(unpacked.seconds)}"
    return [
        heading(title, "bold green"),
        *facts(rows),
        *finding_lines(unpacked.audit.findings),
    ]


def _arrived_rows(arrived: Arrived) -> list[tuple[str, str]]:
    declared = arrived.declared
    was = "decrypted (age)" if arrived.encrypted else "not encrypted"
    return [
        ("archive", f"{format_bytes(arrived.size)}, {was}; SHA-256 {arrived.sha256}"),
        ("holds", f"{count_of(declared.files, 'file')}, {format_bytes(declared.bytes)}"),
    ]


def look_document(arrived: Arrived) -> dict[str, Any]:
    """Return what `unpack --dry-run --json` prints."""
    return Report(command="unpack", details={"dry_run": True, **_arrived(arrived)}).document()


def unpacked_document(unpacked: Unpacked) -> dict[str, Any]:
    """Return what `unpack --json` prints."""
    details = {
        "dry_run": False,
        **_arrived(unpacked.arrived),
        "path": display(unpacked.path),
        "checks": asdict(unpacked.audit.counts),
        "seconds": round(unpacked.seconds, 6),
    }
    return Report(command="unpack", findings=unpacked.audit.findings, details=details).document()


def _arrived(arrived: Arrived) -> dict[str, Any]:
    return {
        "snapshot": arrived.name,
        "captured": arrived.declared.summary.captured.isoformat(),
        "encrypted": arrived.encrypted,
        "archive_bytes": arrived.size,
        "sha256": arrived.sha256,
        "files": arrived.declared.files,
        "bytes": arrived.declared.bytes,
    }
