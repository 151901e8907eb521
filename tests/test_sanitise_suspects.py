"""Columns that look as if they needed a rule are told, by name and by content."""

from pathlib import Path
from typing import Any

import pytest

from tests.sanitising import make_database, make_harmless, profile

_NAMED = "a name like that of a secret or of personal data"


def _suspects(
    path: Path, script: str, *rules: dict[str, Any], encoding: str = "UTF-8"
) -> dict[str, str]:
    database = make_database(path / "a", script, before=f"PRAGMA encoding = '{encoding}'")
    return make_harmless(database, profile(*rules)).suspects()


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "PASSWORD_HASH",
        "smtp_passwd",
        "passphrase",
        "client_secret",
        "api_token",
        "TokenHash",
        "apikey",
        "api_key",
        "private_key",
        "key",
        "signing_key",
        "aws_credentials",
        "otp",
        "otp_seed",
        "totp_enabled_for",
        "e_mail",
        "contact_email",
        "phone",
        "mobile_number",
        "telephone",
        "fax",
        "first_name",
        "lastname",
        "full_name",
        "surname",
        "given_name",
        "family_name",
        "birthday",
        "ssn",
        "iban",
        "passport_no",
        "ip",
        "last_ip",
        "ip_address",
        "remote_addr",
        "street",
        "postal_code",
        "zipcode",
        "signature",
        "cookie",
        "session_data",
        "webhook_url",
    ],
)
def test_a_name_is_suspect(tmp_path: Path, name: str) -> None:
    script = f"CREATE TABLE t (n integer, {name} varchar(50)); INSERT INTO t VALUES (1, 'x')"

    assert _suspects(tmp_path, script) == {f"t.{name}": _NAMED}


@pytest.mark.parametrize(
    "name",
    [
        "name",
        "keyboard",
        "keys_held",
        "monkey",
        "description",
        "zip",
        "shipping",
        "ipsum",
        "tooltip",
    ],
)
def test_other_names_are_not(tmp_path: Path, name: str) -> None:
    script = f"CREATE TABLE t (n integer, {name} text); INSERT INTO t VALUES (1, 'x')"

    assert _suspects(tmp_path, script) == {}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "a private key"),
        ("x -----BEGIN RSA PRIVATE KEY-----", "a private key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "a private key"),
        ("pbkdf2_sha256$600000$salt$hash", "a password hash"),
        ("argon2$argon2id$v=19$m=1$x$y", "a password hash"),
        ("bcrypt_sha256$$2b$12$abc", "a password hash"),
        ("scrypt$16384$x", "a password hash"),
        ("$2y$10$abcdefghijk", "a password hash"),
        (
            "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN",
            "a JSON web token",
        ),
        ("ghp_0123456789abcdefghij", "an access token"),
        ("gho_0123456789abcdefghij", "an access token"),
        ("github_pat_0123456789abcdefghij", "an access token"),
        ("glpat-0123456789abcdef", "an access token"),
        ("xoxb-0123456789", "an access token"),
        ("sk_live_0123456789", "an access token"),
        ("sk_test_0123456789", "an access token"),
        ("AKIA0123456789ABCDEF", "an access token"),
        ("AIza" + "0" * 30, "an access token"),
        ("whsec_0123456789", "an access token"),
        ("ATATT0123456789abcdef", "an access token"),
        ("npm_" + "0" * 30, "an access token"),
        ("postgres://user:pw@db/x", "a URL with a password"),
    ],
)
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_a_content_is_suspect(tmp_path: Path, value: str, found: str, encoding: str) -> None:
    script = (
        "CREATE TABLE t (n integer, v text, other text);"
        f"INSERT INTO t VALUES (1, 'innocent', 'x'), (2, 'see {value}', 'y')"
    )

    assert _suspects(tmp_path, script, encoding=encoding) == {"t.v": f"what looks like {found}"}


@pytest.mark.parametrize(
    "member", ["password", "clientSecret", "api_key", "APIKEY", "x-token", "credentials"]
)
def test_a_member_of_a_document_is_suspect(tmp_path: Path, member: str) -> None:
    script = (
        f"""CREATE TABLE t (v text); INSERT INTO t VALUES ('{{"a": [{{"{member}" : "x"}}]}}')"""
    )

    assert _suspects(tmp_path, script) == {
        "t.v": "a JSON document with a member named like a secret"
    }


@pytest.mark.parametrize(
    "value",
    [
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----",
        "argon2 is a hash",
        "eyJ is how they begin",
        "ghp_short",
        "AKIA",
        "https://x.de/a:b",
        "https://x.de/@user",
        '{"password": ""}',
        '{"password": null}',
        '{"label": "password"}',
        "",
    ],
)
def test_other_contents_are_not(tmp_path: Path, value: str) -> None:
    assert _suspects(tmp_path, f"CREATE TABLE t (v text); INSERT INTO t VALUES ('{value}')") == {}


def test_what_is_empty_is_no_suspect(tmp_path: Path) -> None:
    script = (
        "CREATE TABLE t (password text); INSERT INTO t VALUES (''), (NULL), ('{}'), ('[]');"
        "CREATE TABLE u (secret text)"
    )

    assert _suspects(tmp_path, script) == {}


@pytest.mark.parametrize("declared", ["integer", "blob", "bool", "datetime", "real"])
def test_what_holds_no_text_is_no_suspect(tmp_path: Path, declared: str) -> None:
    script = f"CREATE TABLE t (has_password {declared}); INSERT INTO t VALUES (1)"

    assert _suspects(tmp_path, script) == {}


@pytest.mark.parametrize("declared", ["varchar(10)", "char(32)", "text", "json", "clob", ""])
def test_what_holds_text_is(tmp_path: Path, declared: str) -> None:
    script = f"CREATE TABLE t (password {declared}); INSERT INTO t VALUES ('x')"

    assert _suspects(tmp_path, script) == {"t.password": _NAMED}


def test_a_token_that_is_a_primary_key_is_suspect_by_name(tmp_path: Path) -> None:
    script = (
        "CREATE TABLE t (key varchar(40) PRIMARY KEY, n); INSERT INTO t VALUES ('a1', 1);"
        "CREATE TABLE u (id text PRIMARY KEY, n);"
        "INSERT INTO u VALUES ('ghp_0123456789abcdefghij', 1);"
        "CREATE TABLE v (n, token_key text REFERENCES t (key)); INSERT INTO v VALUES (1, 'a1')"
    )

    assert _suspects(tmp_path, script) == {"t.key": _NAMED}


@pytest.mark.parametrize(
    "rule",
    [
        {"column": "t.password", "action": "blank"},
        {"column": "t.password", "action": "keep"},
        {"column": "t.*", "action": "keep"},
        {"column": "t.*", "action": "delete-rows"},
        {"column": "t.other", "action": "delete-rows"},
    ],
)
def test_a_rule_clears_a_column(tmp_path: Path, rule: dict[str, Any]) -> None:
    script = "CREATE TABLE t (password text, other text); INSERT INTO t VALUES ('x', 'y')"

    assert _suspects(tmp_path, script, rule) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ghp_0123456789abcdefghij", {"t.v": "what looks like an access token"}),
        ("innocent", {}),
        ("eve@y.org", {"t.v": "e-mail addresses in 1 rows, replaced"}),
    ],
)
def test_a_rule_for_some_rows_clears_those(
    tmp_path: Path, value: str, expected: dict[str, str]
) -> None:
    script = (
        "CREATE TABLE t (k text, v text);"
        f"INSERT INTO t VALUES ('smtp', 'ghp_0123456789abcdefghij'), ('other', '{value}')"
    )
    rule = {"column": "t.v", "action": "blank", "where": {"k": "smtp"}}

    assert _suspects(tmp_path, script, rule) == expected


def test_findings_never_quote_a_value(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "a",
        "CREATE TABLE t (password text, v text);"
        "INSERT INTO t VALUES ('hunter2-4711', 'postgres://user:s3same@db/x, eve@y.org')",
    )

    findings = make_harmless(database, profile()).sanitised.findings

    assert len(findings) == 2
    for secret in ("hunter2", "s3same", "eve@y.org"):
        assert secret not in repr(findings)
