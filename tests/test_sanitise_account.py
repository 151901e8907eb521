"""One account remains usable, the copy says what it is, and the key stays private."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from ops.errors import UsageError
from ops.sanitise.account import hash_password, new_password
from ops.sanitise.key import new_key, read_key
from ops.sanitise.label import marker_text
from tests.sanitising import (
    ADMIN,
    MADE,
    PASSWORD,
    Made,
    make_database,
    make_harmless,
    one,
    profile,
)

_RULES = (
    {"column": "u.email", "action": "pseudonym", "kind": "e-mail"},
    {"column": "u.password", "action": "set", "value": "!staging", "secret": True},
    {"column": "other.email", "action": "pseudonym", "kind": "e-mail"},
)
_ADMIN: dict[str, Any] = {
    "table": "u",
    "email": "email",
    "password": "password",
    "first": "su",
    "order": "joined",
    "values": {"active": True, "su": True, "absent": 1},
}
_SCRIPT = (
    "CREATE TABLE u (id integer PRIMARY KEY, email text UNIQUE, password text, su, joined, active);"
    "INSERT INTO u VALUES (1, 'plain@x.de', 'h1', 0, '2020', 0),"
    "(2, 'late@x.de', 'h2', 1, '2022', 1), (3, 'Boss@x.de', 'h3', 1, '2021', 0),"
    "(4, 'old@x.de', 'h4', 0, '2019', 1);"
    "CREATE TABLE other (email text); INSERT INTO other VALUES ('boss@X.de'), ('plain@x.de')"
)


def _made(path: Path, script: str = _SCRIPT, *, email: str = ADMIN, **more: Any) -> Made:
    database = make_database(path / "a", script)
    made = make_harmless(database, profile(*_RULES, **{"admin": _ADMIN, **more}), email=email)
    assert made.left == ()
    return made


def _accepts(encoded: str, password: str) -> bool:
    """Ask Django itself, as the application does when somebody logs in."""
    from django.contrib.auth.hashers import check_password  # type: ignore[import-untyped]

    return bool(check_password(password, encoded))


def test_the_first_administrator_is_chosen_and_can_log_in(tmp_path: Path) -> None:
    made = _made(tmp_path)

    assert made.sanitised.account is not None
    assert made.sanitised.account.key == (3,)
    ((number, encoded, su, active),) = made.rows(
        f"SELECT id, password, su, active FROM u WHERE email = '{ADMIN}'"
    )
    assert (number, su, active) == (3, 1, 1)
    assert _accepts(encoded, PASSWORD)
    assert not _accepts(encoded, PASSWORD + "x")
    assert made.rows("SELECT DISTINCT password FROM u WHERE id <> 3") == [("!staging",)]
    assert made.rows("SELECT active FROM u WHERE id <> 3 ORDER BY id") == [(0,), (1,), (1,)]


def test_the_administrators_address_is_his_everywhere(tmp_path: Path) -> None:
    made = _made(tmp_path)

    assert made.one("SELECT email FROM other WHERE rowid = 1") == ADMIN
    assert made.one("SELECT count(*) FROM u JOIN other USING (email)") == 2


@pytest.mark.parametrize("email", ["old@x.de", "OLD@X.DE"])
def test_who_has_the_address_already_is_chosen(tmp_path: Path, email: str) -> None:
    made = _made(tmp_path, email=email)

    assert made.rows(f"SELECT id, su, active FROM u WHERE email = '{email}'") == [(4, 1, 1)]
    assert _accepts(made.one("SELECT password FROM u WHERE id = 4"), PASSWORD)
    assert made.one("SELECT count(*) FROM u WHERE email LIKE 'u-%'") == 3


def test_two_spellings_of_the_chosen_address_do_not_clash(tmp_path: Path) -> None:
    script = f"{_SCRIPT}; INSERT INTO u VALUES (5, 'boss@x.de', 'h5', 0, '2018', 1)"

    made = _made(tmp_path, script)

    assert made.one(f"SELECT id FROM u WHERE email = '{ADMIN}'") == 3
    assert made.one("SELECT email FROM u WHERE id = 5").startswith("u-")


@pytest.mark.parametrize(
    ("columns", "values"),
    [("email, password", "'a@x.de', 'h1'"), ("email, password, su", "'a@x.de', 'h1', 0")],
)
def test_a_version_may_lack_the_flag_and_the_order(
    tmp_path: Path, columns: str, values: str
) -> None:
    made = _made(tmp_path, f"CREATE TABLE u ({columns}); INSERT INTO u VALUES ({values})")

    assert made.one("SELECT email FROM u") == ADMIN
    assert _accepts(made.one("SELECT password FROM u"), PASSWORD)


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE u (email text, password text)",
        "CREATE TABLE u (email text); INSERT INTO u VALUES ('a@x.de')",
        "CREATE TABLE u (password text); INSERT INTO u VALUES ('h1')",
        "CREATE TABLE other (email text)",
    ],
)
def test_nobody_to_choose_is_told(tmp_path: Path, script: str) -> None:
    made = _made(tmp_path, script)

    assert made.sanitised.account is None
    assert [found.where for found in made.sanitised.findings if found.kind == "no-account"] == [
        "table u"
    ]


def test_an_account_without_an_address_can_be_chosen(tmp_path: Path) -> None:
    made = _made(
        tmp_path, "CREATE TABLE u (email text, password text); INSERT INTO u VALUES (NULL, 'h1')"
    )

    assert made.one("SELECT email FROM u") == ADMIN


def test_passwords_are_new_each_time() -> None:
    passwords = {new_password() for _ in range(50)}

    assert len(passwords) == 50
    assert all(len(password) >= 20 for password in passwords)
    first, second = (hash_password(PASSWORD) for _ in range(2))
    assert first != second
    assert first.startswith("argon2$argon2id$")


_LABEL = {"table": "folder", "column": "name", "prefix": "STAGING ", "where": {"kind": "GL"}}
_FOLDERS = (
    "CREATE TABLE folder (name text, kind text); INSERT INTO folder VALUES"
    "('Global', 'GL'), ('Team', 'DO'), ('STAGING old', 'GL'), (NULL, 'GL')"
)


def test_a_label_is_written_and_twice_is_not_twice(tmp_path: Path) -> None:
    made = _made(tmp_path, _FOLDERS, label=_LABEL)
    expected = [("STAGING Global",), ("Team",), ("STAGING old",), (None,)]

    assert made.rows("SELECT name FROM folder") == expected
    assert made.rows("SELECT * FROM ciso_ops_staging") == [(MADE.isoformat(), "ciso-ops 0")]
    again = make_harmless(
        made.path.rename(tmp_path / "b"), profile(*_RULES, admin=_ADMIN, label=_LABEL)
    )
    assert again.rows("SELECT name FROM folder") == expected
    assert one(again.path, "SELECT count(*) FROM ciso_ops_staging") == 1


@pytest.mark.parametrize("label", [{**_LABEL, "table": "absent"}, {**_LABEL, "column": "absent"}])
def test_a_label_for_what_a_version_lacks_is_left_out(
    tmp_path: Path, label: dict[str, Any]
) -> None:
    made = _made(tmp_path, _FOLDERS, label=label)

    assert made.one("SELECT name FROM folder LIMIT 1") == "Global"
    assert made.one("SELECT count(*) FROM ciso_ops_staging") == 1


def test_the_marker_says_what_lies_there() -> None:
    text = marker_text(MADE).decode()

    assert text.startswith("STAGING: this is not production.\n")
    assert "2030-01-02 03:04 UTC" in text


def test_a_key_is_made_private_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        key = read_key(path)
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(key) == 32
    assert read_key(path) == key
    assert new_key() != key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o660])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    read_key(path)
    path.chmod(mode)

    with pytest.raises(UsageError, match="the key is open to others") as caught:
        read_key(path)
    assert caught.value.hint.startswith("chmod 600 ")


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"no key", b"ab" * 31, b"\xff" * 64, b"0x" + b"ab" * 32, b"g" * 64]
)
def test_what_is_no_key_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(text)
    path.chmod(0o600)

    with pytest.raises(UsageError, match="this is no key"):
        read_key(path)
    assert path.read_bytes() == text


@pytest.mark.parametrize("text", [b"ab" * 32, b"AB" * 32 + b"\n", b" " + b"ab" * 40 + b"\r\n"])
def test_hexadecimal_digits_are_a_key(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(text)
    path.chmod(0o400)

    assert read_key(path) == bytes.fromhex(text.decode())


def test_a_key_elsewhere_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "dangling").symlink_to(tmp_path / "never")

    for name, message in (
        ("absent/key", "read the key"),
        (".", "this is no key"),
        ("pipe", "this is no key"),
        ("dangling", "read the key"),
    ):
        with pytest.raises(UsageError, match=message):
            read_key(tmp_path / name)
    assert not (tmp_path / "never").exists()
