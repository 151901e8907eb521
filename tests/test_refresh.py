"""The refresh of staging, judged from outside: nothing of the source is left, all the rest is."""

import json
import os
import stat
from contextlib import closing
from pathlib import Path

import pytest

from ops.demo_instance import connect
from ops.model import Instance, Progress
from ops.profile import load_profile
from ops.refresh import run_refresh
from ops.refreshing import RefreshRequest, plan_refresh
from ops.sanitise.files import Attachments
from ops.source import Location
from tests.command import NOBODY, run_here, to_flags
from tests.filesystem import footprint
from tests.pipeline import CLOCK, quiet
from tests.planted import (
    CONTENT,
    DELETED,
    PLANTED,
    STRANGER,
    build_planted,
    grep,
    is_password,
    keeps_wal,
    query,
    refresh,
)
from tests.processes import held_open

KEY = bytes(range(32))
SEND_OUT = (
    ("webhooks_webhookendpoint", "is_active", 0),
    ("webhooks_webhookendpoint", "url", "https://staging.invalid/"),
    ("webhooks_webhookendpoint", "secret", ""),
    ("integrations_integrationconfiguration", "is_active", 0),
    ("integrations_integrationconfiguration", "webhook_url", ""),
    ("integrations_integrationconfiguration", "webhook_secret", ""),
)


@pytest.fixture
def planted(tmp_path: Path) -> Instance:
    """Make an instance with everything planted."""
    return build_planted(tmp_path / "planted")


def request_for(
    source: Instance, copy: Instance, attachments: Attachments = Attachments.PLACEHOLDER
) -> RefreshRequest:
    """Ask for a refresh."""
    return RefreshRequest(
        source=Location(instance=source, origin="test"),
        destination=copy,
        profile=load_profile("ciso_assistant"),
        attachments=attachments,
        key=KEY,
        admin_email="admin@staging.invalid",
    )


def test_what_is_planted_is_there_to_be_found(planted: Instance) -> None:
    """The search finds what it is to find, or what it does not find says nothing."""
    assert grep([*PLANTED, CONTENT], planted.database.parent) == {*PLANTED, CONTENT}
    assert grep([STRANGER], planted.attachments) == set()


@pytest.mark.parametrize("attachments", ["placeholder", "keep", "none"])
def test_nothing_planted_is_left(
    attachments: str,
    planted: Instance,
    destination: Instance,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = footprint(planted.database.parent)
    made = refresh(capsys, planted, destination, "--attachments", attachments)
    assert footprint(planted.database.parent) == before
    assert grep(PLANTED, destination.database.parent) == set()
    kept = grep([CONTENT], destination.database.parent)
    assert kept == ({CONTENT} if attachments == "keep" else set())
    shown = json.dumps(made.document) + made.err
    # What a finding tells is where something is, not what.
    assert not [one for one in PLANTED if one.lower() in shown.lower()]


def test_rows_that_are_in_the_wal_alone_are_there_and_sanitised(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    late = "late@corp.example"
    statements = (
        "PRAGMA wal_autocheckpoint = 0",
        f"INSERT INTO core_team VALUES ('late', '{late}')",
    )
    with held_open(planted.database, *statements):
        assert grep([late], planted.database) == set()
        assert grep([late], Path(f"{planted.database}-wal")) == {late}
        made = refresh(capsys, planted, destination)
    ((address,),) = made.query("SELECT team_email FROM core_team WHERE id = 'late'")
    assert address.endswith("@staging.invalid")
    assert grep([late, *PLANTED], destination.database.parent) == set()


def test_the_copy_is_whole(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    made = refresh(capsys, planted, destination)
    assert made.query("PRAGMA integrity_check") == [("ok",)]
    assert made.query("PRAGMA foreign_key_check") == []
    assert keeps_wal(destination.database)
    verified = run_here(capsys, "verify", "--json", *to_flags(destination))
    assert verified.code == 0, verified.err
    document = verified.document
    assert (document["errors"], document["warnings"]) == (0, 0)
    checks = document["checks"]
    assert (checks["referenced"], checks["digests_right"], checks["orphans"]) == (4, 4, 0)


def test_a_source_without_a_write_ahead_log_has_a_copy_without(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(connect(planted.database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    refresh(capsys, planted, destination)
    assert not keeps_wal(destination.database)
    assert sorted(os.listdir(destination.database.parent)) == ["attachments", "db.sqlite3"]


def test_a_person_has_one_pseudonym_everywhere(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    made = refresh(capsys, planted, destination)
    for user in "123":
        ((address,),) = made.query("SELECT email FROM iam_user WHERE id = ?", user)
        for table, column, key in (
            ("account_emailaddress", "email", "user_id"),
            ("auditlog_logentry", "actor_email", "actor_id"),
        ):
            statement = f"SELECT {column} FROM {table} WHERE {key} = ?"
            assert made.query(statement, user) == [(address,)]
    ((alice, first, last),) = made.query(
        "SELECT email, first_name, last_name FROM iam_user WHERE id = '2'"
    )
    assert made.query("SELECT email, first_name, last_name FROM tprm_representative"
                      " WHERE id = '2'") == [(alice, first, last)]  # fmt: skip
    ((text,),) = made.query("SELECT description FROM iam_folder")
    ((dave, his_first, his_last),) = made.query(
        "SELECT email, first_name, last_name FROM tprm_representative WHERE id = '1'"
    )
    for words in (
        alice,
        f"{first} {last}",
        f"{his_last}, {his_first}",
        f"({his_first} {his_last})",
    ):
        assert words in text
    assert len({alice, dave, *(row[0] for row in made.query("SELECT email FROM iam_user"))}) == 5


def test_pseudonyms_follow_from_the_key(
    planted: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    statement = "SELECT id, email, first_name, last_name, phone FROM tprm_representative"
    rows, names = [], []
    for turn, key in enumerate(("one", "one", "other")):
        directory = tmp_path / f"copy {turn}"
        copy = Instance(database=directory / "db", attachments=directory / "attachments")
        made = refresh(capsys, planted, copy, "--key-file", tmp_path / key)
        rows.append(made.query(statement))
        names.append(sorted(os.listdir(copy.attachments)))
    assert rows[0] == rows[1]
    assert names[0] == names[1]
    for one, other in zip(rows[0], rows[2], strict=True):
        assert one[0] == other[0]
        assert all(a != b for a, b in zip(one[1:], other[1:], strict=True) if a is not None)
    assert set(names[0]) & set(names[2]) == {"STAGING.txt"}


def test_without_a_key_file_each_refresh_has_its_own(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    statement = "SELECT email FROM tprm_representative WHERE id = '1'"
    first = refresh(capsys, planted, destination).query(statement)
    assert refresh(capsys, planted, destination).query(statement) != first


def test_what_reaches_out_is_switched_off(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    made = refresh(capsys, planted, destination)
    for table, column, value in SEND_OUT:
        statement = f"SELECT DISTINCT {column} FROM {table}"
        assert made.query(statement) == [(value,)], (table, column)
    settings = {
        name: json.loads(value)
        for name, value in made.query("SELECT name, value FROM global_settings_globalsettings")
    }
    assert settings["sso"]["is_enabled"] is False
    assert settings["general"] == {"notifications_enable_mailing": False, "currency": "EUR"}


def test_ways_to_log_in_are_gone_but_one(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    made = refresh(capsys, planted, destination)
    for table in (
        "knox_authtoken",
        "iam_personalaccesstoken",
        "django_session",
        "mfa_authenticator",
        "socialaccount_socialapp",
        "socialaccount_socialtoken",
    ):
        assert made.query(f"SELECT count(*) FROM {table}") == [(0,)], table
    users = made.query("SELECT id, email, password, is_superuser FROM iam_user")
    usable = [row for row in users if is_password(row[2], made.password)]
    assert [(row[0], row[1], row[3]) for row in usable] == [("1", "admin@staging.invalid", 1)]
    assert {row[2] for row in users if row not in usable} == {"!staging"}
    assert not any(is_password(row[2], "planted-boss") for row in users)


def test_the_audit_log_keeps_who_did_what(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    made = refresh(capsys, planted, destination)
    statement = "SELECT id, actor_id FROM auditlog_logentry ORDER BY id"
    assert made.query(statement) == query(planted.database, statement)
    rows = made.query("SELECT object_repr, changes, remote_addr FROM auditlog_logentry")
    assert set(rows) == {("", None, None)}


# What it looks like on the disk


def test_owner_and_modes_are_those_of_the_source(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.database.chmod(0o640)
    planted.attachments.chmod(0o2750)
    if os.geteuid() == 0:
        os.chown(planted.database, NOBODY, NOBODY)
        os.chown(planted.attachments, NOBODY, NOBODY)
        planted.attachments.chmod(0o2750)
    refresh(capsys, planted, destination)
    for path, original, mode in (
        (destination.database, planted.database, 0o640),
        (destination.attachments, planted.attachments, 0o2750),
        *((path, planted.attachments, 0o640) for path in destination.attachments.iterdir()),
    ):
        status, like = path.stat(), original.stat()
        assert stat.S_IMODE(status.st_mode) == mode, path
        assert (status.st_uid, status.st_gid) == (like.st_uid, like.st_gid), path


@pytest.mark.parametrize("attachments", list(Attachments))
def test_what_is_not_sanitised_yet_is_for_nobody_else(
    attachments: Attachments, planted: Instance, destination: Instance
) -> None:
    """At each word of progress: the spaces are closed to others, and the destination is clean."""
    planted.database.chmod(0o644)
    planted.attachments.chmod(0o755)
    seen: dict[str, set[str]] = {}
    old = os.umask(0)

    def look(now: Progress) -> None:
        home = destination.database.parent
        found = grep(PLANTED, home) if home.exists() else set()
        for space in home.glob(".ciso-ops-*"):
            assert stat.S_IMODE(space.stat().st_mode) == 0o700
        outside = [path for path in home.iterdir() if not path.name.startswith(".ciso-ops-")]
        assert grep(PLANTED, *outside) == set()
        seen.setdefault(now.step, set()).update(found)

    try:
        run_refresh(plan_refresh(request_for(planted, destination, attachments), progress=quiet),
                    clock=CLOCK, progress=look)  # fmt: skip
    finally:
        os.umask(old)
    assert DELETED in seen["sanitise database"] | seen["write database afresh"]
    assert seen["write to disk"] == set()
    assert seen["publish"] == set()
