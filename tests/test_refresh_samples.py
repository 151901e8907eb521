"""The refresh of staging on instances that the real application wrote."""

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ops.model import Instance
from tests.command import run_here, to_flags
from tests.conftest import extract_sample
from tests.filesystem import footprint
from tests.planted import Refreshed, grep, holding, is_password, opened, query, refresh

ADDRESS = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}")
PUBLISHED = ("core_loadedlibrary", "core_storedlibrary", "core_framework", "core_requirementnode",
             "core_referencecontrol", "core_threat")  # fmt: skip
"""Tables of texts that are the same in every instance; their addresses are of publishers."""

GONE = (
    "django_session",
    "knox_authtoken",
    "iam_personalaccesstoken",
    "mfa_authenticator",
    "account_emailconfirmation",
    "socialaccount_socialaccount",
    "socialaccount_socialapp",
    "socialaccount_socialtoken",
)
SECRETS = (
    ("account_emailconfirmation", "key"),
    ("core_evidencerevision", "link"),
    ("django_session", "session_data"),
    ("django_session", "session_key"),
    ("iam_user", "password"),
    ("integrations_integrationconfiguration", "webhook_secret"),
    ("knox_authtoken", "digest"),
    ("knox_authtoken", "token_key"),
    ("socialaccount_socialaccount", "uid"),
    ("socialaccount_socialapp", "secret"),
    ("socialaccount_socialtoken", "token"),
    ("socialaccount_socialtoken", "token_secret"),
    ("tprm_representative", "phone"),
    ("webhooks_webhookendpoint", "secret"),
    ("webhooks_webhookendpoint", "url"),
)
DOCUMENTS = (
    ("mfa_authenticator", "data", "1", ("secret",)),
    ("integrations_integrationconfiguration", "credentials", "1", ("email", "api_token")),
    ("global_settings_globalsettings", "value", "name = 'sso'", ("client_id", "secret")),
)
ACTIVE = """
UPDATE webhooks_webhookendpoint SET is_active = 1;
UPDATE integrations_integrationconfiguration SET is_active = 1;
UPDATE global_settings_globalsettings SET value = json_set(value, '$.is_enabled', json('true'))
    WHERE name = 'sso';
UPDATE global_settings_globalsettings
    SET value = json_set(value, '$.notifications_enable_mailing', json('true'))
    WHERE name = 'general';
"""


@pytest.fixture(scope="module", params=["sample", "sample-live"])
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """Extract an instance; no test changes it."""
    directory = extract_sample(request.param, tmp_path_factory.mktemp("samples"))
    return Instance(
        database=directory / "ciso-assistant.sqlite3", attachments=directory / "attachments"
    )


@pytest.fixture(scope="module")
def plain(sample: Instance, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy its database with what is in the WAL, to ask it without touching the sample."""
    copy = tmp_path_factory.mktemp("plain") / "db"
    raw = tmp_path_factory.mktemp("raw") / "db"
    for suffix in ("", "-wal"):
        if Path(f"{sample.database}{suffix}").exists():
            Path(f"{raw}{suffix}").write_bytes(Path(f"{sample.database}{suffix}").read_bytes())
    with closing(sqlite3.connect(raw)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    return copy


def tables_of(database: Path) -> list[str]:
    """List the tables of the application."""
    rows = query(database, "SELECT name FROM sqlite_schema WHERE type = 'table'")
    return [name for (name,) in rows if not name.startswith(("sqlite_", "ciso_ops_"))]


def originals(database: Path) -> set[str]:
    """Collect what may not be in a copy, without the rules of the profile."""
    found = set(addresses(database))
    for table, column in SECRETS:
        values = {value for (value,) in query(database, f"SELECT {column} FROM {table}") if value}
        assert values, (table, column)
        found |= values
    for table, column, condition, members in DOCUMENTS:
        ((text,),) = query(database, f"SELECT {column} FROM {table} WHERE {condition}")
        document = json.loads(text)
        found |= {document[member] for member in members}
        found |= {document.get("settings", {}).get("advanced", {}).get("private_key", "")}
    return found - {""}


def names(database: Path) -> set[str]:
    """Collect the names of people outside in every order; SQLite writes columns side by side."""
    rows = query(database, "SELECT first_name, last_name FROM tprm_representative")
    return {
        join.join(parts)
        for first, last in rows
        for parts in ((first, last), (last, first))
        for join in ("", " ", ", ")
    }


def addresses(database: Path) -> Iterator[str]:
    """Yield the e-mail addresses of all values but those that others publish."""
    with opened(database) as connection:
        for table in set(tables_of(database)) - set(PUBLISHED):
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    if isinstance(value, str):
                        yield from ADDRESS.findall(value.replace("\\u0040", "@"))


def joins(database: Path) -> dict[tuple[str, str, str], int]:
    """Count, for every foreign key of one column, the rows that find their parent."""
    counts: dict[tuple[str, str, str], int] = {}
    with opened(database) as connection:
        for table in tables_of(database):
            keys = connection.execute("SELECT * FROM pragma_foreign_key_list(?)", (table,))
            for _, _, parent, column, target, *_ in keys.fetchall():
                statement = (
                    f'SELECT count(*) FROM "{table}" AS child JOIN "{parent}" AS parent'
                    f' ON child."{column}" = parent."{target}"'
                )
                ((counts[table, column, parent],),) = connection.execute(statement)
    return counts


def rows_of(database: Path) -> dict[str, int]:
    """Count the rows of each table."""
    with opened(database) as connection:
        return {
            table: connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]
            for table in tables_of(database)
        }


@pytest.mark.parametrize("attachments", ["placeholder", "keep"])
def test_a_refresh_of_a_real_instance(
    attachments: str,
    sample: Instance,
    plain: Path,
    destination: Instance,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = originals(plain)
    home = sample.database.parent
    before = footprint(home, ctime=False)
    # grep shows the longest where several begin.
    longest = {one for one in wanted if not any(one != more and one in more for more in wanted)}
    assert grep(wanted, home) >= longest
    assert len(longest) > 100
    people = names(plain)
    assert len(grep(people, home)) > 20
    made = refresh(capsys, sample, destination, "--attachments", attachments)
    assert footprint(home, ctime=False) == before
    assert grep(wanted | people, destination.database) == set()
    telling = holding(wanted | people, destination.attachments)
    assert telling == set(made.findings("original-left"))
    if attachments != "keep":
        assert grep(wanted | people, destination.attachments) == set()
    assert made.document["errors"] == 0
    require_whole(made, plain, capsys, attachments)
    require_people(made, plain)
    users = made.query("SELECT email, password FROM iam_user")
    usable = [email for email, password in users if is_password(password, made.password)]
    assert usable == ["admin@staging.invalid"]


def require_whole(
    made: Refreshed, plain: Path, capsys: pytest.CaptureFixture[str], attachments: str
) -> None:
    """See that all is there but what was to go, and that it holds together."""
    assert made.query("PRAGMA integrity_check") == [("ok",)]
    assert made.query("PRAGMA foreign_key_check") == []
    before, after = rows_of(plain), rows_of(made.copy.database)
    assert {table for table in before if before[table] != after[table]} == {
        table for table in GONE if before[table]
    }
    assert before["auditlog_logentry"] > 300
    whole, left = joins(plain), joins(made.copy.database)
    assert sum(whole.values()) > 1000
    assert {key: count for key, count in whole.items() if key[0] not in GONE} == {
        key: count for key, count in left.items() if key[0] not in GONE
    }
    verified = run_here(capsys, "verify", "--json", *to_flags(made.copy))
    assert verified.code == 0, verified.err
    checks = verified.document["checks"]
    assert checks["referenced"] > 50
    ((recorded,),) = made.query(
        "SELECT count(DISTINCT attachment) FROM core_evidencerevision WHERE attachment_hash <> ''"
    )
    assert recorded == checks["referenced"]
    wrong = verified.document["warnings"]
    # The application itself records wrong digests; where files are kept, so are those.
    assert (checks["digests_right"], wrong) == ((recorded, 0) if attachments == "placeholder"
                                                else (recorded - 5, 5))  # fmt: skip
    names = {name for (name,) in made.query(
        "SELECT attachment FROM core_evidencerevision WHERE attachment <> ''")}  # fmt: skip
    assert set(os.listdir(made.copy.attachments)) == {*names, "STAGING.txt"}


def require_people(made: Refreshed, plain: Path) -> None:
    """See that a person is the same one in all tables."""
    for table, column, key in (
        ("account_emailaddress", "email", "user_id"),
        ("auditlog_logentry", "actor_email", "actor_id"),
    ):
        statement = (
            f"SELECT user.email, other.{column} FROM iam_user AS user JOIN {table} AS other"
            f" ON other.{key} = user.id WHERE other.{column} IS NOT NULL"
        )
        rows = made.query(statement)
        assert len(rows) == len(query(plain, statement)) > 0
        assert all(one == other for one, other in rows)
    both = "SELECT count(DISTINCT first_name), count(DISTINCT last_name), count(DISTINCT email)"
    for table in ("tprm_representative", "iam_user"):
        statement = f"{both} FROM {table}"
        assert made.query(statement) == query(plain, statement)


def test_what_reaches_out_of_a_real_instance_is_switched_off(
    sample: Instance,
    plain: Path,
    tmp_path: Path,
    destination: Instance,
    capsys: pytest.CaptureFixture[str],
) -> None:
    active = Instance(database=tmp_path / "db", attachments=sample.attachments)
    active.database.write_bytes(plain.read_bytes())
    with closing(sqlite3.connect(active.database)) as connection:
        connection.executescript(ACTIVE)
    made = refresh(capsys, active, destination)
    for table in ("webhooks_webhookendpoint", "integrations_integrationconfiguration"):
        assert made.query(f"SELECT is_active FROM {table}") == [(0,)]
    statement = "SELECT value FROM global_settings_globalsettings WHERE name = ?"
    sso, general = (json.loads(made.query(statement, name)[0][0]) for name in ("sso", "general"))
    assert sso["is_enabled"] is False
    assert sso["settings"]["advanced"]["private_key"] == ""
    assert general["notifications_enable_mailing"] is False
    before = json.loads(query(plain, statement, "general")[0][0])
    assert {**before, "notifications_enable_mailing": False} == general
