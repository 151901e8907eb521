"""Names of the files that go with a sanitised database, and the rows that name them."""

import hashlib
import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ops.profile import Reference
from ops.references import normal_path
from ops.sanitise.placeholders import make_placeholder
from ops.sanitise.schema import Table
from ops.sqlite.content import quote
from ops.staging import MARKER

_SUFFIX = re.compile(rb"\.[A-Za-z0-9]{1,10}\Z")


class Attachments(StrEnum):
    """What becomes of the attachments."""

    PLACEHOLDER = "placeholder"
    KEEP = "keep"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file by its path in the source and in the copy, in bytes, below the attachments."""

    old: bytes
    new: bytes


class FileNames:
    """Chooses the names of files in the copy.

    Args:
        attachments: What becomes of them.
        mark: Makes letters that stand for a path.
        telling: Tells whether a name tells who somebody is.
    """

    def __init__(
        self,
        attachments: Attachments,
        mark: Callable[[bytes], str],
        telling: Callable[[bytes], bool],
    ) -> None:
        self.attachments = attachments
        self._mark = mark
        self._telling = telling

    def place(self, path: bytes) -> Place | None:
        """Return where a row's file goes; None where it goes nowhere."""
        old = normal_path(path)
        if self.attachments is Attachments.NONE:
            return None
        if old is None:
            if self.attachments is Attachments.KEEP:
                return None  # it leads out of the attachments: the capture has refused it
            old = b"outside/" + path.rsplit(b"/", 1)[-1]
        *directories, name = old.split(b"/")
        new = [self._neutral(one) if self._telling(one) else one for one in directories]
        if self.attachments is Attachments.PLACEHOLDER:
            new.append(self._neutral(name, old))
        elif self._telling(name):
            new.append(self._neutral(name))
        else:
            new.append(name)
        if new[0].lower() == MARKER.lower():  # the copy has its own, also as a directory's name
            new[0] = self._neutral(new[0])
        return Place(old=old, new=b"/".join(new))

    def _neutral(self, name: bytes, path: bytes = b"") -> bytes:
        """Return a name that only tells the type of a file."""
        suffix = _SUFFIX.search(name)
        ending = b"" if suffix is None or self._telling(suffix[0]) else suffix[0]
        return b"STAGING-" + self._mark(path or name).encode() + ending


def placeholder_for(name: bytes) -> bytes:
    """Return the content of the placeholder of that path."""
    base = name.rsplit(b"/", 1)[-1]
    return make_placeholder(base, f"STAGING placeholder {base.decode('utf-8', 'replace')}")


def name_files(
    connection: sqlite3.Connection,
    tables: Mapping[str, Table],
    references: tuple[Reference, ...],
    names: FileNames,
) -> tuple[Place, ...]:
    """Write the new names into the rows that name files, and the digests of placeholders.

    Raises:
        sqlite3.Error: A table cannot be read or changed.
    """
    places: dict[bytes, Place] = {}
    for reference in references:
        table = tables.get(reference.table)
        if table is not None and table.column(reference.column) is not None:
            _name_column(connection, table, reference, names, places)
    return tuple(places.values())


def _name_column(
    connection: sqlite3.Connection,
    table: Table,
    reference: Reference,
    names: FileNames,
    places: dict[bytes, Place],
) -> None:
    name, keys = quote(reference.column), ", ".join(table.row_key)
    digest = table.column(reference.digest) if reference.digest else None
    recorded = "NULL" if digest is None else quote(digest.name)
    rows = connection.execute(
        f"SELECT CAST({name} AS TEXT), {recorded}, {keys} FROM {table.sql}"  # noqa: S608 - quoted
        f" WHERE {name} IS NOT NULL AND {name} <> ''"
    ).fetchall()
    for value, old_digest, *key in rows:
        path = value.encode("utf-8", "surrogateescape")
        place = names.place(path)
        if place is not None:
            places[place.old] = place
        changes: dict[str, Any] = {}
        if place is None:
            changes[reference.column] = _nothing(table, reference.column)
        elif place.new != path:
            changes[reference.column] = place.new.decode("utf-8", "surrogateescape")
        if digest is not None and old_digest and names.attachments is not Attachments.KEEP:
            changes[digest.name] = (
                _nothing(table, digest.name)
                if place is None
                else hashlib.sha256(placeholder_for(place.new)).hexdigest()
            )
        if changes:
            assigned = ", ".join(f"{quote(column)} = ?" for column in changes)
            connection.execute(
                f"UPDATE {table.sql} SET {assigned} WHERE {table.row_condition}",  # noqa: S608 - quoted
                (*changes.values(), *key),
            )


def _nothing(table: Table, column: str) -> str | None:
    found = table.column(column)
    return "" if found is None or found.not_null else None
