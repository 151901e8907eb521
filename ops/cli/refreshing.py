"""The refresh of staging, as lines and as documents."""

from dataclasses import asdict
from typing import Any

from rich.text import Text

from ops.cli.format import count_of, format_bytes, format_duration
from ops.cli.render import (
    facts,
    finding_lines,
    heading,
    reference_words,
    tally,
    usage_lines,
)
from ops.names import display
from ops.profile import Profile
from ops.refresh import RefreshOutcome
from ops.refreshing import RefreshPlan, Review
from ops.report import Report
from ops.rules import Action, Rule
from ops.sanitise.apply import Applied
from ops.sanitise.files import Attachments

_FATE = {
    Attachments.PLACEHOLDER: "placeholders of the same type",
    Attachments.KEEP: "KEPT as they are: they were not sanitised (--attachments keep)",
    Attachments.NONE: "none; the rows name no file any more",
}


def rule_words(rule: Rule) -> str:
    """Return what a rule does in a few words, for example "pseudonym e-mail"."""
    detail = ""
    if rule.kind is not None:
        detail = f" {rule.kind}"
    elif rule.action is Action.SET:
        detail = f" {rule.value!r}"
    elif rule.action is Action.JSON_KEYS:
        detail = " " + ", ".join((*rule.keys, *(f"{key}={value!r}" for key, value in rule.members)))
    where = ", ".join(f"{name} = {value!r}" for name, value in rule.where)
    return f"{rule.action}{detail}" + (f" where {where}" if where else "")


def _rule_rows(touched: tuple[Applied, ...]) -> list[Text]:
    acting = [one for one in touched if one.bound.rule.action is not Action.KEEP]
    counts = [f"{one.rows:,}" for one in acting]
    width = max(map(len, counts), default=0)
    names = max((len(one.bound.rule.name) for one in acting), default=0)
    return [
        Text.assemble(
            "  ",
            (count.rjust(width), "bold" if one.rows else "dim"),
            "  ",
            display(one.bound.rule.name).ljust(names),
            "  ",
            (display(rule_words(one.bound.rule)), "dim"),
        )
        for one, count in zip(acting, counts, strict=True)
    ]


def review_lines(review: Review, profile: Profile) -> list[Text]:
    """Return the list of rules with the rows that each would touch."""
    kept = sum(one.bound.rule.action is Action.KEEP for one in review.touched)
    rules = len(profile.sanitising.rules)
    rows = [
        ("reviewed", f"{count_of(kept, 'more rule')} for columns that stay as they are"),
        ("absent", f"{count_of(len(review.absent), 'rule')} for columns that this version lacks"),
        ("findings", tally(review.findings)),
    ]
    return [
        heading(f"{count_of(rules, 'rule')} of {profile.title}, with the rows that each touches"),
        *_rule_rows(review.touched),
        *facts(rows),
        *finding_lines(review.findings),
    ]


def plan_lines(plan: RefreshPlan, *, rules: bool) -> list[Text]:
    """Return the summary that comes before the question."""
    request, standing = plan.request, plan.destination
    if request.snapshot is not None:
        rows = [("snapshot", display(request.snapshot.path))]
    elif plan.source is not None and request.source is not None:
        rows = [
            ("source", request.source.origin),
            ("  database", f"{display(plan.source.instance.database)} ({plan.source.way})"),
            ("  attachments", display(plan.source.instance.attachments)),
        ]
    else:
        rows = []
    rows += [
        ("destination", "STAGING"),
        ("  database", display(standing.instance.database)),
        ("  attachments", display(standing.instance.attachments)),
        ("attachments", _FATE[request.attachments]),
        ("administrator", display(request.admin_email)),
    ]
    if standing.database_bytes is not None or standing.size is not None:
        rows.append(("replaces", "what stands there now"))
    rows += [("left over", f"{display(place)}: by a killed run") for place in plan.left]
    findings = (*plan.findings, *plan.review.findings)
    listed = [heading("Rules"), *_rule_rows(plan.review.touched)] if rules else []
    return [heading("Staging refresh"), *facts(rows), *listed, *finding_lines(findings)]


def outcome_lines(outcome: RefreshOutcome) -> list[Text]:
    """Return the report of a refresh; the password is told here, once."""
    plan, done = outcome.plan, outcome.sanitised
    destination = plan.destination.instance
    touched = sum(one.rows for one in done.applied)
    swept = sum(one.rows for one in done.swept)
    sought = count_of(len(done.originals.found), "address or secret", "addresses and secrets")
    rows = [
        ("database", f"{display(destination.database)} ({format_bytes(outcome.database_bytes)})"),
        ("attachments", f"{display(destination.attachments)} ({_files_words(outcome)})"),
        ("sanitised", f"{count_of(touched, 'value')} by rule, {swept:,} more in free text"),
        ("searched", f"for {sought} of the source: none is left"),
        (
            "checked",
            f"integrity, foreign keys, {count_of(outcome.counts.files, 'file')} read again",
        ),
        (
            "",
            reference_words(
                outcome.counts.referenced, outcome.counts.digests_right, outcome.counts.orphans
            ),
        ),
        ("findings", tally(outcome.findings)),
    ]
    if outcome.password:
        rows += [
            ("log in as", display(plan.request.admin_email)),
            ("password", f"{outcome.password}  (told only here)"),
        ]
    return [
        heading(f"STAGING refreshed in {format_duration(outcome.seconds)}", "bold green"),
        *facts(rows),
        *finding_lines(outcome.findings),
        *usage_lines(
            "To use it, set these and restart the application:", plan.request.profile, destination
        ),
    ]


def _files_words(outcome: RefreshOutcome) -> str:
    words = {
        Attachments.PLACEHOLDER: count_of(outcome.files, "placeholder"),
        Attachments.KEEP: f"{count_of(outcome.files, 'file')} kept",
        Attachments.NONE: "no files",
    }[outcome.plan.request.attachments]
    if outcome.left_out:
        words += f", {outcome.left_out:,} that no row names left out"
    return words


def review_document(review: Review, profile: Profile) -> dict[str, Any]:
    """Return what `staging-rules --json` prints."""
    details = {"profile": profile.name, **_review(review)}
    return Report(command="staging-rules", findings=review.findings, details=details).document()


def plan_document(plan: RefreshPlan) -> dict[str, Any]:
    """Return what `staging-refresh --dry-run --json` prints."""
    details = {"dry_run": True, **_plan(plan), **_review(plan.review)}
    findings = (*plan.findings, *plan.review.findings)
    return Report(command="staging-refresh", findings=findings, details=details).document()


def outcome_document(outcome: RefreshOutcome) -> dict[str, Any]:
    """Return what `staging-refresh --json` prints; the only place with the password."""
    done = outcome.sanitised
    details = {
        "dry_run": False,
        **_plan(outcome.plan),
        "rules": [_rule(one) for one in done.applied],
        "swept": [
            {"column": display(f"{one.table}.{one.column}"), "rows": one.rows} for one in done.swept
        ],
        "rows_mended": done.mended,
        "searched_for": len(done.originals.found),
        "files": outcome.files,
        "files_left_out": outcome.left_out,
        "database_bytes": outcome.database_bytes,
        "checks": asdict(outcome.counts),
        "administrator": {
            "email": outcome.plan.request.admin_email,
            "password": outcome.password or None,
        },
        "seconds": round(outcome.seconds, 6),
    }
    return Report(command="staging-refresh", findings=outcome.findings, details=details).document()


def _plan(plan: RefreshPlan) -> dict[str, Any]:
    request, instance = plan.request, plan.destination.instance
    return {
        "staging": True,
        "profile": request.profile.name,
        "source": None
        if plan.source is None
        else {
            "database": display(plan.source.instance.database),
            "attachments": display(plan.source.instance.attachments),
        },
        "snapshot": None if request.snapshot is None else request.snapshot.name,
        "destination": {
            "database": display(instance.database),
            "attachments": display(instance.attachments),
        },
        "attachments": str(request.attachments),
        "room": [{**asdict(room), "path": display(room.path)} for room in plan.rooms],
    }


def _review(review: Review) -> dict[str, Any]:
    return {
        "rules": [_rule(one) for one in review.touched],
        "absent": sorted({display(rule.name) for rule in review.absent}),
    }


def _rule(one: Applied) -> dict[str, Any]:
    rule = one.bound.rule
    return {
        "column": display(rule.name),
        "action": str(rule.action),
        "kind": None if rule.kind is None else str(rule.kind),
        "where": dict(rule.where),
        "inherited": one.bound.inherited,
        "rows": one.rows,
    }
