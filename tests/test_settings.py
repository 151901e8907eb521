"""What the operator asked for, read once and typed."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.errors import UsageError
from ops.hooks import Hooks, read_hooks
from ops.settings import DEFAULTS, absolute_path, read_settings, reads_disk, required_path


def test_defaults() -> None:
    settings = read_settings(dict(DEFAULTS), environment={})
    assert settings.profile.value == "ciso_assistant"
    assert settings.profile.origin == "default"
    assert settings.lock_timeout_seconds == 30.0
    assert settings.manage == ()
    assert settings.jobs == 0
    given = (settings.source_db, settings.source_attachments, settings.instance_root)
    assert (*given, settings.configured_db, settings.configured_attachments) == ("",) * 5


def test_nothing_configured_is_as_good_as_the_defaults() -> None:
    assert read_settings({}, environment={}) == read_settings(dict(DEFAULTS), environment={})


def test_the_profile_of_the_flag_wins() -> None:
    config = {"profile": "from-file"}
    chosen = read_settings(config, environment={}).profile
    assert (chosen.value, chosen.origin) == ("from-file", "configuration")
    chosen = read_settings(config, profile="from-flag", environment={}).profile
    assert (chosen.value, chosen.origin) == ("from-flag", "--profile")


def test_flags_and_configuration_stay_apart() -> None:
    settings = read_settings(
        {"source_db": "a", "source_attachments": "b", "instance_root": "c"},
        source_db="d",
        source_attachments="e",
        environment={},
    )
    assert (settings.configured_db, settings.configured_attachments) == ("a", "b")
    assert (settings.source_db, settings.source_attachments) == ("d", "e")
    assert settings.instance_root == "c"


def test_reads_the_environment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLITE_FILE", "/a")
    settings = read_settings({})
    monkeypatch.setenv("SQLITE_FILE", "/b")
    assert settings.environment["SQLITE_FILE"] == "/a"
    assert read_settings({}, environment={"A": "1"}).environment == {"A": "1"}


@pytest.mark.parametrize("key", ["source_db", "source_attachments", "profile", "instance_root"])
@pytest.mark.parametrize("value", [1, True, ["a"], {"a": 1}, 1.5])
def test_text_must_be_text(key: str, value: object) -> None:
    with pytest.raises(UsageError) as caught:
        read_settings({key: value}, environment={})
    assert caught.value.message == f"ops.{key} must be a string, not {value!r}"


@pytest.mark.parametrize("key", DEFAULTS)
def test_an_empty_key_of_a_file_counts_as_not_given(key: str) -> None:
    if key.endswith("_timeout"):
        read: Any = read_hooks if key.startswith("hook_") else read_settings
        with pytest.raises(UsageError, match="must be a number of seconds, not None"):
            read({key: None}, environment={})
    else:
        assert read_settings({key: None}, environment={}) == read_settings({}, environment={})
        assert read_hooks({key: None}, {}) == Hooks()


def test_unknown_keys_are_named() -> None:
    with pytest.raises(UsageError) as caught:
        read_settings({"zebra": "", "sorce_db": ""}, environment={})
    assert caught.value.message == "the configuration has no key ops.sorce_db"
    assert caught.value.hint == f"known are {', '.join(DEFAULTS)}"


@pytest.mark.parametrize(
    ("value", "arguments"),
    [
        ("", ()),
        ("python manage.py", ("python", "manage.py")),
        ("'/my app/python' /srv/manage.py", ("/my app/python", "/srv/manage.py")),
        (["/my app/python", "manage.py"], ("/my app/python", "manage.py")),
        (("a", "b"), ("a", "b")),
        ([], ()),
    ],
)
def test_manage(value: Any, arguments: tuple[str, ...]) -> None:
    assert read_settings({"manage": value}, environment={}).manage == arguments


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (5, "ops.manage must be a list of strings, not 5"),
        (["a", 1], "ops.manage must be a list of strings, not ['a', 1]"),
        ("python 'manage.py", "ops.manage is not a command: No closing quotation: python 'man"),
    ],
)
def test_manage_that_is_no_command(value: Any, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_settings({"manage": value}, environment={})
    assert caught.value.message.startswith(says)


@pytest.mark.parametrize(
    ("value", "seconds"), [("0", 0.0), ("0.2", 0.2), (5, 5.0), ("3600", 3600.0), (1.5, 1.5)]
)
def test_lock_timeout(value: Any, seconds: float) -> None:
    settings = read_settings({"lock_timeout": value}, environment={})
    assert settings.lock_timeout_seconds == seconds


@given(st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.lists(st.text())))
@example("nan")
@example("inf")
@example("-0.1")
@example("3600.1")
@example(10**400)
def test_lock_timeout_is_in_range_or_refused(value: object) -> None:
    said = ""
    seconds = 0.0
    try:
        seconds = read_settings({"lock_timeout": value}, environment={}).lock_timeout_seconds
    except UsageError as error:
        said = error.message
    assert 0 <= seconds <= 3600
    assert said == "" or said.startswith("ops.lock_timeout must ")


@pytest.mark.parametrize("count", ["1", "2", " 7 ", "256", 1, 256, "007"])
def test_jobs_of_the_configuration(count: Any) -> None:
    assert read_settings({"jobs": count}, environment={}).jobs == int(count)


@pytest.mark.parametrize("configured", ["", None, "9", 9, "many"])
@pytest.mark.parametrize("flag", ["1", "256"])
def test_jobs_of_the_flag_win(configured: object, flag: str) -> None:
    """A wrong value of the configuration does not matter where a flag is given."""
    assert read_settings({"jobs": configured}, jobs=flag, environment={}).jobs == int(flag)


OUT_OF_RANGE = ("0", "-1", "257", str(10**30))
NO_NUMBERS = ("two", "1.5", "1e2", "0x10", "½", "1 2", "auto", "\n", "+", "nan")


@pytest.mark.parametrize("value", OUT_OF_RANGE)
def test_jobs_out_of_range(value: str) -> None:
    for config, flag, origin in (({"jobs": value}, "", "ops.jobs"), ({}, value, "--jobs")):
        with pytest.raises(UsageError) as caught:
            read_settings(config, jobs=flag, environment={})
        assert caught.value.message == f"{origin} must lie between 1 and 256"


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_jobs_that_are_no_number(value: str) -> None:
    for config, flag, origin in (({"jobs": value}, "", "ops.jobs"), ({}, value, "--jobs")):
        with pytest.raises(UsageError) as caught:
            read_settings(config, jobs=flag, environment={})
        assert caught.value.message == f"{origin} must be a number of processes, not {value!r}"


@given(
    st.one_of(
        st.text(),
        st.floats(),
        st.integers(),
        st.booleans(),
        st.none(),
        st.lists(st.text()),
        st.dictionaries(st.text(), st.text()),
    )
)
@example([])
@example({})
@example("\ud800")
@example(10**400)
@example("1_0")
@example("\u0663")  # an Arabic three, which Python takes
def test_jobs_are_in_range_or_refused(value: object) -> None:
    said = ""
    jobs = 0
    try:
        jobs = read_settings({"jobs": value}, environment={}).jobs
    except UsageError as error:
        said = error.message
    assert (0 if value in ("", None) else 1) <= jobs <= 256 or said.startswith("ops.jobs must ")


@pytest.mark.parametrize(("value", "from_disk"), [("", False), ("memory", False), ("disk", True)])
def test_check(value: str, *, from_disk: bool) -> None:
    assert reads_disk(value) is from_disk


@pytest.mark.parametrize("value", ["Disk", "disc", " ", "memory ", "true", "0"])
def test_check_of_nothing_known(value: str) -> None:
    with pytest.raises(UsageError) as caught:
        reads_disk(value)
    assert caught.value.message == f"--check must be memory or disk, not {value}"


def test_paths_become_absolute_and_links_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("elsewhere")
    assert required_path("link/db", "--dest-db") == tmp_path / "link" / "db"
    assert absolute_path("/a/../b", "x") == Path("/a/../b")
    assert absolute_path("~/db", "x") == tmp_path / "home" / "db"


def test_paths_that_are_none() -> None:
    with pytest.raises(UsageError) as caught:
        required_path("", "--dest-db")
    assert caught.value.message == "--dest-db is required"
    assert caught.value.hint == "name a path: --dest-db PATH"
    with pytest.raises(UsageError, match=r"^--dest-db holds a NUL character$"):
        required_path("a\0b", "--dest-db")
    with pytest.raises(UsageError, match=r"^ops\.source_db: .*: ~nobody-of-this-name$"):
        absolute_path("~nobody-of-this-name", "ops.source_db")
