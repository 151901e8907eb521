"""Instances with planted secrets, and a search for them that is independent of `ops`."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ops.demo_instance import build_instance, connect
from ops.model import Instance
from tests.command import from_flags, run_here, to_flags

BOSS, ALICE, BOB = "boss@corp.example", "Alice.Planted@corp.example", "bob@corp.example"
DAVE = "dave.outside@partner.example"
"""The addresses of the administrator, of two users, and of somebody without an account."""

ADDRESSES = (BOSS, ALICE, BOB, DAVE, "admin@example.org", "bot@corp.example", "team@corp.example")
STRANGER = "stranger@nowhere.example"
"""An address that stands in free text alone."""

DELETED = "gone-for-good@corp.example"
"""An address of rows that were deleted: it is in free pages alone."""

NAMES = ("Alice Plantedová", "Dave Outsider", "Outsider, Dave")
PHONES = ("+49 89 1234567",)
SECRETS = (
    "argon2$argon2id$v=19$m=102400,t=2,p=8$cGxhbnRlZHNhbHQ$cGxhbnRlZC1ib3Nz",
    "argon2$argon2id$v=19$m=102400,t=2,p=8$cGxhbnRlZHNhbHQ$cGxhbnRlZC1hbGljZQ",
    "d1ge57" * 20,
    "t0k3nkey1234567",
    "s3ss10nkey1s3ss10nkey1s3ss10nkey",
    "eJxVjEsOwiAQQO_S2hAY_rp07xkIw8xI1UBS2pXx7rZJF7p9v7dIeVtr2gYv",
    "JBSWY3DPEHPK3PXQ",
    "app-secret-planted",
    "access-token-planted",
    "oidc-client-secret-planted",
    "oidc-client-id-planted",
    "jira-api-token-planted",
    "hook-secret-of-integration",
    "https://jira.corp.example/hook",
    "whsec_planted_0123456789",
    "https://siem.corp.example/hook?x=1",
    "192.168.77.123",
)
PLANTED = (*ADDRESSES, STRANGER, DELETED, *NAMES, *PHONES, *SECRETS)
"""All that may not be in a copy."""

CONTENT = "the content of production"
"""What the attachments hold."""

TELLING = "contract of Bob@Corp.example.pdf"
"""The name of an attachment that tells who somebody is."""

_SCHEMA = """
ALTER TABLE iam_user ADD COLUMN password varchar(128) NOT NULL DEFAULT '';
ALTER TABLE iam_user ADD COLUMN first_name varchar(150) NOT NULL DEFAULT '';
ALTER TABLE iam_user ADD COLUMN last_name varchar(150) NOT NULL DEFAULT '';
ALTER TABLE iam_user ADD COLUMN is_superuser bool NOT NULL DEFAULT 0;
ALTER TABLE iam_user ADD COLUMN date_joined datetime NOT NULL DEFAULT '2026-01-01';
ALTER TABLE iam_folder ADD COLUMN content_type varchar(2) NOT NULL DEFAULT 'GL';
ALTER TABLE iam_folder ADD COLUMN description text NULL;
ALTER TABLE core_evidencerevision ADD COLUMN observation text NULL;
ALTER TABLE core_evidencerevision ADD COLUMN link varchar(1024) NULL;
CREATE TABLE account_emailaddress (
    id integer NOT NULL PRIMARY KEY AUTOINCREMENT, email varchar(254) NOT NULL UNIQUE,
    user_id char(32) NOT NULL REFERENCES iam_user (id)
);
CREATE TABLE auditlog_logentry (
    id integer NOT NULL PRIMARY KEY AUTOINCREMENT, object_repr text NOT NULL, changes text NULL,
    actor_id char(32) NULL REFERENCES iam_user (id), actor_email varchar(254) NULL,
    remote_addr char(39) NULL
);
CREATE TABLE tprm_representative (
    id char(32) NOT NULL PRIMARY KEY, email varchar(254) NOT NULL UNIQUE,
    first_name varchar(255) NULL, last_name varchar(255) NULL, phone varchar(255) NULL,
    user_id char(32) NULL REFERENCES iam_user (id)
);
CREATE TABLE core_team (id char(32) NOT NULL PRIMARY KEY, team_email varchar(254) NULL);
CREATE TABLE knox_authtoken (
    digest varchar(128) NOT NULL PRIMARY KEY, token_key varchar(25) NOT NULL,
    user_id char(32) NOT NULL REFERENCES iam_user (id)
);
CREATE TABLE iam_personalaccesstoken (
    id char(32) NOT NULL PRIMARY KEY, name varchar(255) NOT NULL,
    auth_token_id varchar(128) NOT NULL UNIQUE REFERENCES knox_authtoken (digest)
);
CREATE TABLE django_session (
    session_key varchar(40) NOT NULL PRIMARY KEY, session_data text NOT NULL
);
CREATE TABLE mfa_authenticator (
    id integer NOT NULL PRIMARY KEY, data text NOT NULL,
    user_id char(32) NOT NULL REFERENCES iam_user (id)
);
CREATE TABLE socialaccount_socialapp (
    id integer NOT NULL PRIMARY KEY, client_id varchar(191) NOT NULL, secret varchar(191) NOT NULL
);
CREATE TABLE socialaccount_socialtoken (
    id integer NOT NULL PRIMARY KEY, token text NOT NULL,
    app_id integer NULL REFERENCES socialaccount_socialapp (id)
);
CREATE TABLE global_settings_globalsettings (
    id char(32) NOT NULL PRIMARY KEY, name varchar(30) NOT NULL, value text NOT NULL
);
CREATE TABLE integrations_integrationconfiguration (
    id char(32) NOT NULL PRIMARY KEY, credentials text NOT NULL,
    webhook_secret varchar(255) NOT NULL, webhook_url varchar(200) NOT NULL,
    is_active bool NOT NULL
);
CREATE TABLE webhooks_webhookendpoint (
    id char(32) NOT NULL PRIMARY KEY, url varchar(1024) NOT NULL, secret varchar(255) NOT NULL,
    is_active bool NOT NULL
);
"""


def plant(instance: Instance) -> None:
    """Give an instance of the demonstration people, secrets, and what reaches out of it."""
    with closing(connect(instance.database)) as connection:
        connection.executescript(_SCHEMA)
        connection.execute("BEGIN IMMEDIATE")
        _people(connection)
        _secrets(connection)
        _insert_file(connection, instance.attachments, TELLING, CONTENT.encode())
        connection.execute(
            "UPDATE core_evidencerevision SET observation = ?, link = ?",
            (f"asked {BOB}", SECRETS[15]),
        )
        connection.execute(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers"
            " WHERE n < 99) INSERT INTO core_team SELECT 'gone ' || n, ? FROM numbers",
            (f"{DELETED} " * 40,),
        )
        connection.execute("COMMIT")
        connection.execute("PRAGMA secure_delete = OFF").fetchall()
        connection.execute("DELETE FROM core_team WHERE id LIKE 'gone %'")  # the pages stay, free


def _people(connection: sqlite3.Connection) -> None:
    users = (
        ("1", BOSS, SECRETS[0], "Bernadette", "Bossard", 1),
        ("2", ALICE, SECRETS[1], "Alice", "Plantedová", 0),
        ("3", BOB, "!never-usable", "", "", 0),
    )
    for id_, email, password, first, last, superuser in users:
        connection.execute(
            "INSERT INTO iam_user (id, email, is_active, password, first_name, last_name,"
            " is_superuser) VALUES (?, ?, 1, ?, ?, ?, ?)",
            (id_, email, password, first, last, superuser),
        )
        connection.execute(
            "INSERT INTO account_emailaddress (email, user_id) VALUES (?, ?)", (email, id_)
        )
        connection.execute(
            "INSERT INTO auditlog_logentry (object_repr, changes, actor_id, actor_email,"
            " remote_addr) VALUES (?, ?, ?, ?, ?)",
            (email, json.dumps({"email": ["", email]}), id_, email, SECRETS[16]),
        )
    connection.execute(
        "INSERT INTO tprm_representative VALUES ('1', ?, 'Dave', 'Outsider', ?, NULL)",
        (DAVE, PHONES[0]),
    )
    connection.execute(
        "INSERT INTO tprm_representative VALUES ('2', ?, 'Alice', 'Plantedová', NULL, '2')",
        (ALICE,),
    )
    connection.execute("INSERT INTO core_team VALUES ('1', 'team@corp.example')")
    connection.execute(
        "UPDATE iam_folder SET description = ?",
        (f"{ALICE.upper()}, {NAMES[2]} ({NAMES[1]}), {STRANGER}; {NAMES[0]}: {SECRETS[6]}",),
    )


def _secrets(connection: sqlite3.Connection) -> None:
    sso = {
        "is_enabled": True,
        "client_id": SECRETS[10],
        "secret": SECRETS[9],
        "settings": {"server_url": "https://idp.corp.example"},
    }
    jira = {"email": ADDRESSES[5], "api_token": SECRETS[11]}
    rows: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("knox_authtoken VALUES (?, ?, '2')", SECRETS[2:4]),
        ("iam_personalaccesstoken VALUES ('1', 'ci', ?)", SECRETS[2:3]),
        ("django_session VALUES (?, ?)", SECRETS[4:6]),
        ("mfa_authenticator VALUES (1, ?, '2')", (json.dumps({"secret": SECRETS[6]}),)),
        ("socialaccount_socialapp VALUES (1, 'cid', ?)", SECRETS[7:8]),
        ("socialaccount_socialtoken VALUES (1, ?, 1)", SECRETS[8:9]),
        ("global_settings_globalsettings VALUES ('1', 'sso', ?)", (json.dumps(sso),)),
        (
            "global_settings_globalsettings VALUES ('2', 'general', ?)",
            (json.dumps({"notifications_enable_mailing": True, "currency": "EUR"}),),
        ),
        (
            "integrations_integrationconfiguration VALUES ('1', ?, ?, ?, 1)",
            (json.dumps(jira), *SECRETS[12:14]),
        ),
        ("webhooks_webhookendpoint VALUES ('1', ?, ?, 1)", (SECRETS[15], SECRETS[14])),
    )
    for statement, values in rows:
        connection.execute(f"INSERT INTO {statement}", values)


def add_file(instance: Instance, name: str, content: bytes) -> None:
    """Add an attachment with the rows that name it and its digest."""
    with closing(connect(instance.database)) as connection:
        _insert_file(connection, instance.attachments, name, content)


def _insert_file(
    connection: sqlite3.Connection, attachments: Path, name: str, content: bytes
) -> None:
    path = attachments / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    evidence, revision = uuid.uuid4().hex, uuid.uuid4().hex
    ((folder,),) = connection.execute("SELECT id FROM iam_folder").fetchall()
    connection.execute(
        "INSERT INTO core_evidence VALUES (?, '2026-01-01', 'added', ?)", (evidence, folder)
    )
    connection.execute(
        "INSERT INTO core_evidencerevision (id, created_at, version, attachment, attachment_hash,"
        " evidence_id) VALUES (?, '2026-01-01', 1, ?, ?, ?)",
        (revision, name, hashlib.sha256(content).hexdigest(), evidence),
    )


def build_planted(directory: Path, *, evidences: int = 3) -> Instance:
    """Make an instance with everything planted."""
    instance = build_instance(directory, evidences=evidences)
    plant(instance)
    return instance


def grep(needles: Iterable[str], *places: Path) -> set[str]:
    """Find needles in the bytes of files and in the names of all that lies below some places."""
    wanted = [needle for needle in needles if needle]
    names = "\n".join(
        os.path.join(parent, name)
        for place in places
        for parent, directories, files in os.walk(place)
        for name in (*directories, *files)
    )
    found = _run_grep(("-o", "-h"), wanted, places).decode("utf-8", "replace")
    shown = f"{found}{names}".lower()
    return {needle for needle in wanted if needle.lower() in shown}


def holding(needles: Iterable[str], place: Path) -> set[str]:
    """Name the files below a place that have a needle in their bytes."""
    found = _run_grep(("-l", "-Z"), list(needles), (place,))
    return {os.path.relpath(os.fsdecode(path), place) for path in found.split(b"\0") if path}


def _run_grep(flags: Iterable[str], needles: Iterable[str], places: Iterable[Path]) -> bytes:
    there = [place for place in places if os.path.lexists(place)]
    program = shutil.which("grep")
    if program is None:
        pytest.skip("takes grep")
    if not there:
        return b""
    done = subprocess.run(
        [program, "-a", "-F", "-i", "-r", *flags, "-f", "-", "--", *there],
        input="".join(f"{needle}\n" for needle in needles).encode(),
        check=False,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    errors = done.stderr.splitlines()
    gone = all(line.endswith(b"No such file or directory") for line in errors)
    assert done.returncode in {0, 1} or gone, done.stderr  # a run may be removing them
    return done.stdout


@contextmanager
def opened(database: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that nobody writes to."""
    address = f"file:{database}?mode=ro&immutable=1"
    with closing(sqlite3.connect(address, uri=True)) as connection:
        yield connection


def query(database: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask a database that nobody writes to."""
    with opened(database) as connection:
        return connection.execute(statement, values).fetchall()


def keeps_wal(database: Path) -> bool:
    """Tell by the header whether a database is one with a write-ahead log."""
    with database.open("rb") as file:
        return file.read(20)[18:] == b"\2\2"


@dataclass(frozen=True, kw_only=True)
class Refreshed:
    """A copy, and what the command said of it."""

    copy: Instance
    document: dict[str, Any]
    err: str

    @property
    def password(self) -> str:
        """The administrator's."""
        return str(self.document["administrator"]["password"])

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the copy."""
        return query(self.copy.database, statement, *values)

    def findings(self, kind: str) -> dict[str, str]:
        """Return where there are findings of a kind, and what was found."""
        return {
            one["where"]: one["found"] for one in self.document["findings"] if one["kind"] == kind
        }


def refresh(
    capture: pytest.CaptureFixture[str], source: Instance, copy: Instance, *flags: str | Path
) -> Refreshed:
    """Refresh a copy from an instance with the installed command."""
    places = (*from_flags(source), *to_flags(copy))
    ran = run_here(capture, "staging-refresh", "--force", "--json", *places, *flags)
    assert ran.code == 0, ran.err
    return Refreshed(copy=copy, document=ran.document, err=ran.err)


def is_password(encoded: str, password: str) -> bool:
    """Ask Django whether a password is that of a row."""
    from django.conf import settings  # type: ignore[import-untyped]
    from django.contrib.auth.hashers import check_password  # type: ignore[import-untyped]

    if not settings.configured:
        settings.configure()
    return bool(check_password(password, encoded))
