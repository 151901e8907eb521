"""A profile is read from TOML, and whatever is wrong with one is said in a sentence."""

import os
from pathlib import Path

import pytest

from ops.errors import UsageError
from ops.profile import (
    DEFAULT_PROFILE,
    Elsewhere,
    Profile,
    Reference,
    load_profile,
    parse_profile,
    profile_names,
)

_WHOLE = """
title = "Our App"
tables = ["documents", "people"]

[source]
database_variable = "APP_DB"
attachments_variable = "APP_MEDIA"
database = "db.sqlite3"
attachments = "media"

[[source.elsewhere]]
variable = "APP_S3"
when = "true"
keeps = "its files in S3"
way_out = "copy the bucket"

[[references]]
table = "documents"
column = "file"
digest = "sha256"

[[references]]
table = "people"
column = "portrait"
"""


def test_every_key_of_a_profile_is_read() -> None:
    assert parse_profile(_WHOLE, name="app", origin="the profile app.toml") == Profile(
        name="app",
        title="Our App",
        tables=("documents", "people"),
        references=(
            Reference(table="documents", column="file", digest="sha256"),
            Reference(table="people", column="portrait", digest=""),
        ),
        database_variable="APP_DB",
        attachments_variable="APP_MEDIA",
        database="db.sqlite3",
        attachments="media",
        elsewhere=(
            Elsewhere(
                variable="APP_S3",
                when="true",
                keeps="its files in S3",
                way_out="copy the bucket",
            ),
        ),
    )


def test_a_profile_may_be_empty() -> None:
    profile = parse_profile("", name="app", origin="the profile app.toml")

    assert profile == Profile(name="app", title="app")
    assert profile.is_none


@pytest.mark.parametrize(
    "text", ['tables = ["t"]', '[[references]]\ntable = "t"\ncolumn = "c"'], ids=["table", "row"]
)
def test_a_profile_that_knows_anything_is_of_an_application(text: str) -> None:
    assert not parse_profile(text, name="app", origin="the profile").is_none


def test_built_in_are_the_application_and_none() -> None:
    assert profile_names() == ("ciso_assistant", "none")
    assert [load_profile(name).name for name in profile_names()] == ["ciso_assistant", "none"]
    assert load_profile("none").is_none
    assert load_profile("none").database_variable == "SQLITE_FILE"


def test_the_default_profile_knows_ciso_assistant() -> None:
    profile = load_profile(DEFAULT_PROFILE)

    assert profile.title == "CISO Assistant"
    assert "core_evidencerevision" in profile.tables
    assert profile.references[0] == Reference(
        table="core_evidencerevision", column="attachment", digest="attachment_hash"
    )
    assert (profile.database_variable, profile.attachments_variable) == (
        "SQLITE_FILE",
        "LOCAL_STORAGE_DIRECTORY",
    )
    assert {(place.variable, place.when) for place in profile.elsewhere} == {
        ("POSTGRES_NAME", "set"),
        ("USE_S3", "true"),
        ("USE_AZURE", "true"),
    }


def test_a_file_of_ones_own_is_called_by_its_stem(tmp_path: Path) -> None:
    path = tmp_path / "our app.toml"
    path.write_text(_WHOLE)

    assert load_profile(str(path)) == parse_profile(_WHOLE, name="our app", origin="")


_ELSEWHERE = '[[source.elsewhere]]\nvariable = "V"\nwhen = "set"\nkeeps = "k"\nway_out = "w"\n'
_REFERENCE = '[[references]]\ntable = "t"\ncolumn = "c"\ndigest = "d"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('titel = "x"', "the profile has no key 'titel'"),
        ("title = 1", "the profile needs 'title', a string"),
        ('tables = "t"', "the profile: 'tables' must be a list of strings"),
        ('tables = ["t", 1]', "the profile: 'tables' must be a list of strings"),
        ("source = 1", "the profile: 'source' must be a table"),
        ('[source]\ndatbase = "x"', "source has no key 'datbase'"),
        ("[source]\ndatabase = 1", "source needs 'database', a string"),
        ("[source]\nattachments = []", "source needs 'attachments', a string"),
        ("[source]\ndatabase_variable = 1", "source needs 'database_variable', a string"),
        ("[source]\nattachments_variable = 1", "source needs 'attachments_variable', a string"),
        ("references = 1", "references must be an array of tables"),
        ("references = [1]", "references must be an array of tables"),
        ('[references]\ntable = "t"', "references must be an array of tables"),
        (_REFERENCE + "colour = 1", "references has no key 'colour'"),
        (_REFERENCE.replace('table = "t"', ""), "references needs 'table', a string"),
        (_REFERENCE.replace('column = "c"', ""), "references needs 'column', a string"),
        (_REFERENCE.replace('"d"', "1"), "references needs 'digest', a string"),
        ("[source]\nelsewhere = 1", "source.elsewhere must be an array of tables"),
        (_ELSEWHERE + "port = 1", "source.elsewhere has no key 'port'"),
        (_ELSEWHERE.replace('variable = "V"', ""), "source.elsewhere needs 'variable', a string"),
        (_ELSEWHERE.replace('when = "set"', ""), "source.elsewhere needs 'when', a string"),
        (_ELSEWHERE.replace('"set"', '"yes"'), "source.elsewhere: 'when' must be one of set, true"),
        (_ELSEWHERE.replace('"set"', "true"), "source.elsewhere needs 'when', a string"),
        (_ELSEWHERE.replace('keeps = "k"', ""), "source.elsewhere needs 'keeps', a string"),
        (_ELSEWHERE.replace('way_out = "w"', ""), "source.elsewhere needs 'way_out', a string"),
    ],
)
def test_a_wrong_key_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_profile(text, name="app", origin="the profile app.toml")

    assert caught.value.message == f"the profile app.toml: {message}"
    assert caught.value.hint == "docs/profiles.md lists every key"


def test_what_is_not_toml_is_refused_with_the_place(tmp_path: Path) -> None:
    path = tmp_path / "app.toml"
    path.write_text('title = "x"\ntables = [1 2]\n')

    with pytest.raises(UsageError) as caught:
        load_profile(str(path))

    assert caught.value.message.startswith(f"the profile {path} is not TOML: ")
    assert "line 2" in caught.value.message


def test_what_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "app.toml"
    path.write_bytes(b'title = "\xff"')

    with pytest.raises(UsageError, match=r"app\.toml is not UTF-8 text"):
        load_profile(str(path))


@pytest.mark.parametrize("name", ["ciso-assistant", "missing.toml", "", ".", "no\nsuch"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_profile(name)

    assert caught.value.message.startswith("no such profile: ")
    assert "\n" not in caught.value.message
    assert "ciso_assistant, none" in caught.value.hint


def test_a_file_that_cannot_be_reached_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    (tmp_path / "file").touch()

    with pytest.raises(UsageError, match=r"cannot read the profile .*loop\.toml: "):
        load_profile(str(tmp_path / "loop.toml"))
    with pytest.raises(UsageError, match="Not a directory"):
        load_profile(str(tmp_path / "file" / "app.toml"))


def test_a_file_beside_a_built_in_name_does_not_replace_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").write_text('title = "a trap"')
    monkeypatch.chdir(tmp_path)

    assert load_profile("none").title == "no application"
    assert load_profile(os.path.join(".", "none")).title == "a trap"
