"""Profiles: what is known about an application, read from TOML."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ops.errors import UsageError, os_failure
from ops.model import Instance
from ops.names import display

DEFAULT_PROFILE = "ciso_assistant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A column that names files, and the one that holds their SHA-256 (empty for none)."""

    table: str
    column: str
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A variable that says the application keeps its data out of reach.

    `when` is "set" (any value but an empty one counts) or "true" (1, true, yes or on).
    """

    variable: str
    when: str
    keeps: str
    way_out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One application: the tables that prove it, its references, where its data usually is."""

    name: str
    title: str
    tables: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()
    database_variable: str = ""
    attachments_variable: str = ""
    database: str = ""
    attachments: str = ""
    elsewhere: tuple[Elsewhere, ...] = ()

    @property
    def is_none(self) -> bool:
        """Whether it knows no application, so that foreign keys and references do not count."""
        return not self.tables and not self.references

    def environment(self, instance: Instance) -> dict[str, Path]:
        """Return the variables by which the application finds an instance; none where unknown."""
        named = (
            (self.database_variable, instance.database),
            (self.attachments_variable, instance.attachments),
        )
        return {variable: path for variable, path in named if variable}


def profile_names() -> tuple[str, ...]:
    """List the built-in profiles."""
    from importlib import resources

    files = resources.files("ops.profiles").iterdir()
    return tuple(sorted(f.name[: -len(".toml")] for f in files if f.name.endswith(".toml")))


def load_profile(name: str) -> Profile:
    """Read a built-in profile by its name, or a file of the user's own by its path.

    Raises:
        UsageError: There is none of that name, or the file is not a profile.
    """
    if name in profile_names():
        from importlib import resources

        text = resources.files("ops.profiles").joinpath(f"{name}.toml").read_text("utf-8")
        return parse_profile(text, name=name, origin=f"the built-in profile {name}")
    path = Path(name)
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(
            f"no such profile: {display(name)}",
            hint=f"built in are {', '.join(profile_names())}; or name a TOML file",
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the profile {display(name)} is not UTF-8 text") from error
    except OSError as error:
        raise os_failure(UsageError, "read the profile", path, error) from error
    return parse_profile(text, name=path.stem, origin=f"the profile {display(name)}")


def parse_profile(text: str, *, name: str, origin: str) -> Profile:
    """Read a profile from TOML.

    Args:
        text: The TOML document; `docs/profiles.md` describes its keys.
        name: What the profile is called.
        origin: What to call the document in messages.

    Raises:
        UsageError: It is not TOML, or a key is unknown, missing or of the wrong type.
    """
    import tomllib

    try:
        return _build(tomllib.loads(text), name)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{origin} is not TOML: {error}") from error
    except ValueError as error:
        raise UsageError(f"{origin}: {error}", hint="docs/profiles.md lists every key") from error


def _build(document: Mapping[str, Any], name: str) -> Profile:
    _only(document, {"title", "tables", "source", "references"}, "the profile")
    source = document.get("source", {})
    if not isinstance(source, dict):
        raise ValueError("source must be a table")
    places = {"database_variable", "attachments_variable", "database", "attachments"}
    _only(source, places | {"elsewhere"}, "source")
    tables = document.get("tables", [])
    if not isinstance(tables, list) or not all(isinstance(table, str) for table in tables):
        raise ValueError("tables must be a list of names")
    return Profile(
        name=name,
        title=_text(document, "title", "the profile", default=name),
        tables=tuple(tables),
        references=tuple(
            Reference(
                table=_text(row, "table", "references"),
                column=_text(row, "column", "references"),
                digest=_text(row, "digest", "references", default=""),
            )
            for row in _rows(document, "references", {"table", "column", "digest"})
        ),
        elsewhere=tuple(
            Elsewhere(
                variable=_text(row, "variable", "source.elsewhere"),
                when=_choice(row, "when", ("set", "true")),
                keeps=_text(row, "keeps", "source.elsewhere"),
                way_out=_text(row, "way_out", "source.elsewhere"),
            )
            for row in _rows(source, "elsewhere", {"variable", "when", "keeps", "way_out"})
        ),
        **{place: _text(source, place, "source", default="") for place in places},
    )


def _only(table: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise ValueError(f"{where} has no key {unknown[0]!r}")


def _text(table: Mapping[str, Any], key: str, where: str, *, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"{where} needs {key!r}, a string")
    return value


def _choice(table: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    value = _text(table, key, "source.elsewhere")
    if value not in allowed:
        raise ValueError(f"{key!r} must be one of {', '.join(allowed)}")
    return value


def _rows(table: Mapping[str, Any], key: str, known: set[str]) -> list[dict[str, Any]]:
    rows = table.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{key} must be an array of tables")
    for row in rows:
        _only(row, known, key)
    return cast("list[dict[str, Any]]", rows)
