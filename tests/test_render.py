"""Plans, outcomes and findings as lines of text."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.text import Text

from ops.cli.render import (
    facts,
    finding_line,
    finding_lines,
    outcome_lines,
    plan_lines,
    tally,
    verification_lines,
)
from ops.clone import run_clone
from ops.demo_instance import build_instance
from ops.model import Finding, Instance, Severity
from ops.profile import Profile
from ops.report import Report
from ops.verify import VerifyRequest, verify
from tests.pipeline import CLOCK, plan, quiet, request_for


def finding(kind: str, severity: Severity = Severity.ERROR, where: str = "a.pdf") -> Finding:
    """Make a finding."""
    return Finding(kind=kind, severity=severity, where=where, expected="this", found="that")


def plain(lines: list[Text]) -> str:
    """Return lines as they look without colour."""
    return "\n".join(line.plain for line in lines)


def test_facts_are_aligned() -> None:
    lines = facts([("a", "1"), ("long", "2"), ("", "3")])
    assert [line.plain for line in lines] == ["  a     1", "  long  2", "        3"]
    assert facts([]) == []
    assert facts([("a", "1")], indent=0)[0].plain == "a  1"


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("recorded-digest", "its row records SHA-256 this, the file has that"),
        ("orphan", "no row names this file"),
        ("missing-file", "its row names a file, there is that"),
        ("link-outside", "a symbolic link that leads out of the attachments, to that"),
        ("outside", "its row names a path outside the attachments"),
        ("integrity", "that"),
        ("unchecked", "could not be checked: that"),
        ("missing-table", "the table is missing; this"),
        ("foreign-key", "refers to this that does not exist"),
        ("not-kept", "could not be kept: that"),
        ("unsettled", "that"),
        ("some-other-kind", "expected this, found that"),
    ],
)
def test_findings_read_as_sentences(kind: str, sentence: str) -> None:
    assert finding_line(finding(kind)).plain == f"error {kind}: a.pdf: {sentence}"


def test_digests_are_shortened() -> None:
    odd = replace(finding("contents"), expected="0123456789ab" + "c" * 52, found="f" * 63)
    assert finding_line(odd).plain.endswith(f"expected 0123456789ab…, found {'f' * 63}")


def test_braces_in_what_was_found_are_no_placeholders() -> None:
    odd = replace(finding("missing"), expected="{found}", found="{0} {x}")
    assert finding_line(odd).plain.endswith("expected {found}, found {0} {x}")


def test_the_gravest_come_first_and_the_rest_is_counted() -> None:
    notes = [finding("orphan", Severity.NOTE, f"n{number}") for number in range(23)]
    errors = [finding("missing", Severity.ERROR, f"e{number}") for number in range(20)]
    warnings = [finding("recorded-digest", Severity.WARNING, f"w{number}") for number in range(21)]
    lines = [line.plain for line in finding_lines([*notes, *warnings, *errors])]
    assert [line.split()[0] for line in lines] == (
        ["error"] * 20 + ["warning"] * 20 + ["1"] + ["note"] * 20 + ["3"]
    )
    assert "3 more notes; --json lists them all" in lines
    assert "1 more warning; --json lists them all" in lines
    assert finding_lines([]) == []


def test_tally() -> None:
    assert tally([]) == "no errors, 0 warnings, 0 notes"
    some = [finding("missing"), finding("orphan", Severity.NOTE), finding("x", Severity.WARNING)]
    assert tally(some) == "1 error, 1 warning, 1 note"
    assert tally(some * 2) == "2 errors, 2 warnings, 2 notes"


def test_plan_of_a_first_clone(instance: Instance, destination: Instance) -> None:
    said = plain(plan_lines(plan(request_for(instance, destination))))
    assert f"database     {instance.database} (at rest)" in said
    assert "to copy        database 56.0 KiB" in said
    assert "12 files 234.4 KiB, 290.4 KiB in all" in said
    assert f"{destination.database} (nothing there yet)" in said
    assert f"{destination.attachments} (nothing there yet)" in said
    assert "profile        ciso_assistant (CISO Assistant)" in said
    assert " needed, " in said
    assert "manifest" not in said


def test_plan_of_another_clone(instance: Instance, tmp_path: Path) -> None:
    old = build_instance(tmp_path / "old", evidences=1)
    (instance.attachments / "leads out").symlink_to("/etc")
    manifest = tmp_path / "manifest"
    said = plain(plan_lines(plan(request_for(instance, old, manifest=manifest))))
    assert f"{old.database} (replaces " in said
    assert f"{old.attachments} (replaces 1 file, 19.5 KiB)" in said
    assert f"manifest     {manifest} (new)" in said
    assert "warning link-outside: leads out: " in said
    manifest.write_text("")
    said = plain(plan_lines(plan(request_for(instance, old, manifest=manifest))))
    assert f"{manifest} (replaced)" in said


def test_outcome(instance: Instance, destination: Instance, tmp_path: Path) -> None:
    request = request_for(instance, destination, manifest=tmp_path / "manifest")
    outcome = run_clone(plan(request), clock=CLOCK, progress=quiet)
    said = plain(outcome_lines(outcome))
    assert said.startswith("Cloned the database and 12 files: ")
    assert "as of 20" in said
    assert " UTC in 1 round; read transaction open for " in said
    assert "brought up to date" not in said
    assert f"manifest     {tmp_path / 'manifest'}" in said
    assert said.endswith(
        "To use the clone, set these and restart the application:\n"
        f"  export SQLITE_FILE={destination.database}\n"
        f"  export LOCAL_STORAGE_DIRECTORY={destination.attachments}"
    )


def test_outcome_tells_what_was_brought_up_to_date(
    instance: Instance, destination: Instance
) -> None:
    outcome = run_clone(plan(request_for(instance, destination)), clock=CLOCK, progress=quiet)
    again = replace(outcome, capture=replace(outcome.capture, recopied=1, rounds=2))
    assert "in 2 rounds; 1 entry brought up to date; read transaction" in plain(
        outcome_lines(again)
    )
    again = replace(outcome, capture=replace(outcome.capture, recopied=3))
    assert "; 3 entries brought up to date; " in plain(outcome_lines(again))


def test_no_rate_from_too_short_a_time(instance: Instance, destination: Instance) -> None:
    outcome = run_clone(plan(request_for(instance, destination)), clock=CLOCK, progress=quiet)
    title = plain(outcome_lines(replace(outcome, seconds=0.001))).splitlines()[0]
    assert title == "Cloned the database and 12 files: 290.4 KiB in 1 ms"
    title = plain(outcome_lines(replace(outcome, seconds=2.0))).splitlines()[0]
    assert title == "Cloned the database and 12 files: 290.4 KiB in 2.0 s, 145.2 KiB/s"


def test_no_exports_for_an_application_without_variables(
    instance: Instance, destination: Instance
) -> None:
    outcome = run_clone(plan(request_for(instance, destination)), clock=CLOCK, progress=quiet)
    request = replace(outcome.plan.request, profile=Profile(name="own", title="Own"))
    said = plain(outcome_lines(replace(outcome, plan=replace(outcome.plan, request=request))))
    assert "  export " not in said
    assert "To use the clone" not in said


def test_exports_are_quoted_for_the_shell(instance: Instance, tmp_path: Path) -> None:
    name = os.fsdecode(b"it's \xff")
    copy = Instance(database=tmp_path / name / "db", attachments=tmp_path / "my files")
    outcome = run_clone(plan(request_for(instance, copy)), clock=CLOCK, progress=quiet)
    said = plain(outcome_lines(outcome))
    assert f"export SQLITE_FILE=$'{tmp_path}/it\\x27s\\x20\\xff/db'" in said
    assert f"export LOCAL_STORAGE_DIRECTORY='{tmp_path}/my files'" in said


@pytest.mark.parametrize("against", ["itself", "source", "manifest"])
def test_verification(against: str, instance: Instance, tmp_path: Path) -> None:
    base = request_for(instance, Instance(database=tmp_path / "d", attachments=tmp_path / "a"))
    manifest = tmp_path / "manifest"
    outcome = run_clone(plan(replace(base, manifest=manifest)), clock=CLOCK, progress=quiet)
    request = VerifyRequest(
        instance=outcome.plan.destination.instance,
        profile=base.profile,
        source=instance if against == "source" else None,
        manifest=manifest if against == "manifest" else None,
        quick=against == "source",
    )
    verification = verify(request, progress=quiet)
    report = Report(command="verify", findings=verification.findings)
    said = plain(verification_lines(request, verification, report))
    assert said.splitlines()[0] == "Verified"
    assert {
        "itself": "checked      by itself; 5 tables; 12 files, every byte read",
        "source": f"against {instance.database}; 5 tables; 12 files, sizes and times only",
        "manifest": f"against the manifest {manifest}; 5 tables",
    }[against] in said
    assert "12 files referenced by rows, " in said
    assert "findings     no errors, 0 warnings, 0 notes" in said


def test_verification_that_failed(instance: Instance) -> None:
    (instance.attachments / "policy_7.pdf").unlink()
    profile = request_for(instance, instance).profile
    request = VerifyRequest(instance=instance, profile=profile)
    verification = verify(request, progress=quiet)
    report = Report(command="verify", findings=verification.findings)
    lines = verification_lines(request, verification, report)
    assert lines[0].plain == "Verification failed"
    assert "findings     1 error, 0 warnings, 0 notes" in plain(lines)
    assert lines[-1].plain.startswith("error missing-file: ")
    assert lines[-1].spans[0].style == "bold red"
