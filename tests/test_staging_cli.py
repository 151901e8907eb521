"""The command that refreshes staging: its flags, its documents, and what it refuses in them."""

import json
import os
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ops.demo_instance import connect
from ops.model import Instance
from tests.command import from_flags, run, run_here, run_on_terminal, to_flags
from tests.filesystem import footprint
from tests.planted import (
    ALICE,
    BOSS,
    DAVE,
    PLANTED,
    build_planted,
    grep,
    is_password,
    query,
    refresh,
)

OWN = "me@developers.example"


@pytest.fixture
def planted(tmp_path: Path) -> Instance:
    """Make an instance with everything planted."""
    return build_planted(tmp_path / "planted")


def content(copy: Instance) -> dict[bytes, tuple[object, ...]]:
    """Read all that is at a destination and beside it, but for the times of the place itself."""
    return {path: what for path, what in footprint(copy.database.parent).items()
            if os.fsdecode(path) != str(copy.database.parent)}  # fmt: skip


def flags(source: Instance, copy: Instance) -> tuple[str | Path, ...]:
    """Name the command, a source and a destination."""
    return ("staging-refresh", *from_flags(source), *to_flags(copy))


# The administrator


@pytest.mark.parametrize(
    ("email", "user"), [(OWN, "1"), (ALICE, "2"), (ALICE.upper(), "2"), (BOSS, "1"), (DAVE, "1")]
)
def test_the_administrator_has_the_address_that_was_asked_for(
    email: str,
    user: str,
    planted: Instance,
    destination: Instance,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who has the address already is the one; others of that address get a pseudonym."""
    made = refresh(capsys, planted, destination, "--admin-email", email)
    assert made.document["administrator"]["email"] == email
    ((id_, encoded, superuser, active),) = made.query(
        "SELECT id, password, is_superuser, is_active FROM iam_user WHERE email = ?", email
    )
    assert (id_, superuser, active) == (user, 1, 1)
    assert is_password(encoded, made.password)
    assert made.query("SELECT email FROM account_emailaddress WHERE user_id = ?", user) == [
        (email,)
    ]
    others = {one for one in PLANTED if one.lower() != email.lower()}
    assert grep(others, destination.database.parent) == set()
    assert made.query("SELECT count(*) FROM iam_user") == [(4,)]


@pytest.mark.parametrize(
    "email", ["nobody", "two@a.example b@c.example", "a@b", " spaced@corp.example", "x@", "a@b.c\n"]
)
def test_what_is_no_address_is_refused(
    email: str, planted: Instance, destination: Instance, tmp_path: Path
) -> None:
    before = footprint(tmp_path)
    ran = run(*flags(planted, destination), "--force", "--admin-email", email)
    assert ran.code == 2
    assert ran.error_line.startswith("error: --admin-email is no e-mail address: ")
    assert footprint(tmp_path) == before


# The key


def test_the_key_is_made_once_and_for_its_owner(
    planted: Instance, destination: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    refresh(capsys, planted, destination, "--key-file", key)
    text = key.read_text()
    assert len(bytes.fromhex(text)) == 32
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    refresh(capsys, planted, destination, "--key-file", key)
    assert key.read_text() == text
    assert text.strip() not in json.dumps(query(destination.database, "SELECT * FROM iam_user"))
    assert grep([text.strip()], destination.database.parent) == set()


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        ("ab" * 32, 0o644, "the key is open to others"),
        ("ab" * 31, 0o600, "this is no key"),
        ("no digits", 0o600, "this is no key"),
        ("", 0o600, "this is no key"),
    ],
)
def test_a_key_that_is_none_or_open_is_refused(
    content: str, mode: int, said: str, planted: Instance, destination: Instance
) -> None:
    key = planted.database.parents[2] / "key"
    key.write_text(content)
    key.chmod(mode)
    ran = run(*flags(planted, destination), "--force", "--key-file", key)
    assert (ran.code, said in ran.error_line) == (2, True), ran.err
    assert str(key) in ran.error_line
    assert ran.hint_line
    assert not destination.database.parent.exists()


@pytest.mark.parametrize("what", ["a directory", "nowhere"])
def test_a_key_that_cannot_be_had_is_told(
    what: str, planted: Instance, destination: Instance, tmp_path: Path
) -> None:
    key = tmp_path if what == "a directory" else tmp_path / "no" / "key"
    ran = run(*flags(planted, destination), "--force", "--key-file", key)
    assert (ran.code, str(key) in ran.error_line) == (2, True), ran.err
    assert not destination.database.parent.exists()


# Columns without a rule


def test_strict_publishes_nothing_while_a_column_has_no_rule(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    refresh(capsys, planted, destination)
    before = content(destination)
    ran = run_here(capsys, *flags(planted, destination), "--force", "--strict")
    assert ran.code == 5
    assert "no rule for iam_folder.description" in ran.error_line
    assert "nothing was published" in ran.err
    assert content(destination) == before
    with closing(connect(planted.database)) as connection:
        connection.execute("ALTER TABLE core_team ADD COLUMN api_key text DEFAULT 'planted'")
    dry = run_here(capsys, *flags(planted, destination), "--dry-run", "--strict", "--json")
    assert (dry.code, "no rule for core_team.api_key" in dry.error_line) == (5, True), dry.err
    assert content(destination) == before


def test_strict_goes_ahead_once_there_is_a_rule(
    planted: Instance, destination: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ops import profiles

    built_in = Path(profiles.__path__[0]) / "ciso_assistant.toml"
    mine = tmp_path / "mine.toml"
    mine.write_text(
        built_in.read_text().replace(
            "rules = [\n",
            'rules = [\n  { column = "iam_folder.description", action = "blank" },\n',
        )
    )
    made = refresh(capsys, planted, destination, "--strict", "--profile", mine)
    assert made.findings("no-rule") == {}
    assert made.query("SELECT description FROM iam_folder") == [("",)]


# Words


def test_a_dry_run_writes_nothing_and_counts(
    planted: Instance, destination: Instance, tmp_path: Path
) -> None:
    before = footprint(tmp_path)
    key = tmp_path / "key"
    ran = run(*flags(planted, destination), "--dry-run", "--json", "--key-file", key)
    assert ran.code == 0, ran.err
    assert footprint(tmp_path) == before
    document = ran.document
    assert document["command"] == "staging-refresh"
    assert document["dry_run"] is True
    rows = {one["column"]: one["rows"] for one in document["rules"]}
    assert rows["iam_user.email"] == 4
    assert rows["knox_authtoken.digest"] == 1
    assert rows["webhooks_webhookendpoint.is_active"] == 1
    assert "administrator" not in document
    assert "core_customdoc.x" not in document["absent"]
    assert "allauth_idp_oidc_client.*" in document["absent"]
    text = run(*flags(planted, destination), "--dry-run")
    assert text.code == 0, text.err
    assert [line.split() for line in text.out.splitlines() if " iam_user.email " in line] == [
        ["4", "iam_user.email", "pseudonym", "e-mail"]
    ]
    assert not [one for one in PLANTED if one.lower() in (ran.out + text.out).lower()]
    assert footprint(tmp_path) == before


def test_the_document_has_the_password_once(planted: Instance, destination: Instance) -> None:
    ran = run(*flags(planted, destination), "--force", "--json")
    assert ran.code == 0, ran.err
    document = ran.document
    password = document["administrator"]["password"]
    assert len(password) >= 20
    assert ran.out.count(password) == 1
    assert password not in ran.err
    assert document["staging"] is True
    assert document["dry_run"] is False
    assert document["files"] == 4
    assert document["checks"]["digests_right"] == 4
    assert document["searched_for"] > 20
    assert {one["column"]: one["rows"] for one in document["swept"]}["iam_folder.description"] == 1
    assert document["destination"]["database"] == str(destination.database)
    assert grep([password], destination.database.parent) == set()


def test_the_report_has_the_password_once_and_says_staging(
    planted: Instance, destination: Instance
) -> None:
    ran = run(*flags(planted, destination), "--force")
    assert ran.code == 0, ran.err
    lines = [line.split() for line in ran.out.splitlines()]
    ((password,),) = [[words[1]] for words in lines if words[:1] == ["password"]]
    assert ran.out.count(password) == 1
    assert password not in ran.err
    assert lines[0][:2] == ["STAGING", "refreshed"]
    assert ["log", "in", "as", "admin@staging.invalid"] in lines
    ((encoded,),) = query(
        destination.database, "SELECT password FROM iam_user WHERE email = 'admin@staging.invalid'"
    )
    assert is_password(encoded, password)


def test_nobody_to_ask_is_told_at_once(
    planted: Instance, destination: Instance, tmp_path: Path
) -> None:
    before = footprint(tmp_path)
    ran = run(*flags(planted, destination), "--key-file", tmp_path / "key")
    assert (ran.code, "nobody can answer" in ran.error_line) == (2, True), ran.err
    assert footprint(tmp_path) == before


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2)])
def test_the_question_comes_before_anything_is_written(
    answer: str, code: int, planted: Instance, destination: Instance, tmp_path: Path
) -> None:
    before = footprint(tmp_path)
    said, screen = run_on_terminal(*flags(planted, destination), answer=answer)
    assert said == code, screen
    assert screen.index("STAGING") < screen.index("Go ahead? [y/N]")
    assert (footprint(tmp_path) == before) is (code == 2)
    assert destination.database.exists() is (code == 0)


def test_the_rules_are_listed_for_review(planted: Instance, tmp_path: Path) -> None:
    with closing(connect(planted.database)) as connection:
        connection.execute("ALTER TABLE core_team ADD COLUMN api_key text DEFAULT 'planted'")
    before = footprint(tmp_path)
    ran = run("staging-rules", "--json", *from_flags(planted))
    assert ran.code == 0, ran.err
    document = ran.document
    assert {one["column"]: one["rows"] for one in document["rules"]}["iam_user.email"] == 4
    found = {one["where"] for one in document["findings"] if one["kind"] == "no-rule"}
    assert found == {"core_team.api_key"}
    strict = run("staging-rules", "--json", "--strict", *from_flags(planted))
    assert (strict.code, strict.document["rules"]) == (5, document["rules"])
    text = run("staging-rules", *from_flags(planted))
    assert (text.code, " iam_user.email " in text.out) == (0, True)
    said = (ran.out + strict.out + text.out).lower()
    assert not [one for one in PLANTED if one.lower() in said]
    assert footprint(tmp_path) == before


@pytest.mark.parametrize("missing", ["django", "argon2", "ahocorasick_rs"])
def test_a_missing_library_is_named_and_nothing_is_written(
    missing: str, planted: Instance, destination: Instance
) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; from ops.cli import program; program.run()"
    )
    ran = run(*flags(planted, destination), "--force", command=(sys.executable, "-c", code))
    assert (ran.code, "not installed here" in ran.error_line) == (2, True), ran.err
    assert "[staging]" in ran.hint_line
    assert not destination.database.parent.exists()
