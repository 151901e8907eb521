"""Profiles: what is known about an application, read from TOML."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.errors import UsageError, os_failure
from ops.fields import (
    read_choice,
    read_rows,
    read_table,
    read_text,
    read_texts,
    require_known,
)
from ops.model import Instance
from ops.names import display
from ops.rules import Sanitising, parse_sanitising

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
    """One application: the tables that prove it, its references, where its data usually is.

    `sanitising` tells how a copy for staging is made harmless.
    """

    name: str
    title: str
    tables: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()
    database_variable: str = ""
    attachments_variable: str = ""
    database: str = ""
    attachments: str = ""
    elsewhere: tuple[Elsewhere, ...] = ()
    sanitising: Sanitising = field(default_factory=Sanitising)

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
    require_known(document, {"title", "tables", "source", "references", "sanitise"}, "the profile")
    source = read_table(document, "source", "the profile")
    places = ("database_variable", "attachments_variable", "database", "attachments")
    require_known(source, {*places, "elsewhere"}, "source")
    return Profile(
        name=name,
        title=read_text(document, "title", "the profile", default=name),
        tables=read_texts(document, "tables", "the profile"),
        references=tuple(
            Reference(
                table=read_text(row, "table", "references"),
                column=read_text(row, "column", "references"),
                digest=read_text(row, "digest", "references", default=""),
            )
            for row in read_rows(document, "references", {"table", "column", "digest"})
        ),
        elsewhere=tuple(
            Elsewhere(
                variable=read_text(row, "variable", "source.elsewhere"),
                when=read_choice(row, "when", "source.elsewhere", ("set", "true")),
                keeps=read_text(row, "keeps", "source.elsewhere"),
                way_out=read_text(row, "way_out", "source.elsewhere"),
            )
            for row in read_rows(
                source, "elsewhere", {"variable", "when", "keeps", "way_out"}, "source"
            )
        ),
        sanitising=parse_sanitising(read_table(document, "sanitise", "the profile")),
        **{place: read_text(source, place, "source", default="") for place in places},
    )
