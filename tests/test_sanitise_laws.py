"""Laws: nothing planted survives, and nothing else changes, whatever the schema."""

import html
import json
import sqlite3
import unicodedata
import urllib.parse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import event, given

from tests.any_databases import RULES, Column, Planted, PlantedTable, build, quoted
from tests.planting import planted
from tests.sanitising import complaints, dump, make_harmless, profile, rows

_DEPTH = 4


@given(planted())
def test_nothing_planted_survives_and_nothing_else_changes(world: Planted) -> None:
    with TemporaryDirectory() as directory:
        source = Path(directory) / "source"
        build(source, world)
        secrets = _secrets(source, world)
        before, joins = _contents(source, world), _joins(source, world)

        made = make_harmless(source, profile(*world.rules()), wal=world.wal)

        event(f"{len(secrets)} planted")
        assert made.left == ()
        assert complaints(made.path) == []
        after = _contents(made.path, world)
        expected = _survivors(before, world)
        for table in world.tables:
            _require_same(table, before, after, expected, secrets | set(world.names))
        kept = _joins(made.path, world)
        assert kept == {
            (child, column, one, other)
            for child, column, one, other in joins
            if one in expected[child] and other in expected[_parent_of(world, child, column)]
        }
        _require_clean(made.path, secrets)


def _secrets(path: Path, world: Planted) -> frozenset[str]:
    """Read what must not survive, before anything is done: by SQL of its own."""
    found: set[str] = set()
    for table in world.tables:
        roles = [column.role for column in table.columns]
        for column in table.columns:
            name = quoted(column.name)
            values = rows(path, f"SELECT DISTINCT {name} FROM {quoted(table.name)}")
            if column.role == "document":
                found |= {json.loads(value)["key"]["deep"][0] for (value,) in values}
            elif column.role in RULES and column.role not in {"first", "last"}:
                found |= {value for (value,) in values}
        if roles.count("first") == roles.count("last") == 1:
            first, last = (
                quoted(table.columns[roles.index(role)].name) for role in ("first", "last")
            )
            found |= {
                f"{one} {other}"
                for one, other in rows(path, f"SELECT {first}, {last} FROM {quoted(table.name)}")
            }
    return frozenset(found | set(world.addresses))


def _contents(path: Path, world: Planted) -> dict[str, dict[int, tuple[Any, ...]]]:
    """Read all rows by their ids."""
    return {
        table.name: {
            row[0]: row[1:]
            for row in rows(
                path,
                "SELECT "
                + ", ".join(("id", *(quoted(column.name) for column in table.columns)))
                + f" FROM {quoted(table.name)}",
            )
        }
        for table in world.tables
    }


def _references(world: Planted) -> Iterator[tuple[PlantedTable, int, Column]]:
    for table in world.tables:
        for at, column in enumerate(table.columns):
            if column.parent:
                yield table, at, column


def _parent_of(world: Planted, child: str, column: str) -> str:
    return next(
        one.parent
        for table, _, one in _references(world)
        if (table.name, one.name) == (child, column)
    )


def _joins(path: Path, world: Planted) -> set[tuple[str, str, int, int]]:
    """Tell which row refers to which."""
    found: set[tuple[str, str, int, int]] = set()
    for table, _, column in _references(world):
        joined = rows(
            path,
            f"SELECT child.id, parent.id FROM {quoted(table.name)} AS child"
            f" JOIN {quoted(column.parent)} AS parent"
            f" ON parent.{quoted(column.parent_column)} = child.{quoted(column.name)}",
        )
        found |= {(table.name, column.name, *pair) for pair in joined}
    return found


def _survivors(
    before: dict[str, dict[int, tuple[Any, ...]]], world: Planted
) -> dict[str, dict[int, set[str]]]:
    """Say which rows are to stay, each with the columns that lose what they referred to."""
    stay: dict[str, dict[int, set[str]]] = {
        table.name: {}
        if any(column.role == "gone" for column in table.columns)
        else {number: set() for number in before[table.name]}
        for table in world.tables
    }
    changed = True
    while changed:
        changed = False
        for table, at, column in _references(world):
            targets = _targets(before, stay, world, column)
            for number in list(stay[table.name]):
                value = before[table.name][number][at]
                lost = column.name in stay[table.name][number]
                if value is None or lost or _folded(value, column, world) in targets:
                    continue
                changed = True
                if column.not_null or (table.keyed and at == 0):
                    del stay[table.name][number]
                else:
                    stay[table.name][number].add(column.name)
    return stay


def _targets(
    before: dict[str, dict[int, tuple[Any, ...]]],
    stay: dict[str, dict[int, set[str]]],
    world: Planted,
    column: Column,
) -> set[Any]:
    parent = next(table for table in world.tables if table.name == column.parent)
    if column.parent_column == "id":
        return set(stay[parent.name])
    names = [one.name for one in parent.columns]
    at = names.index(column.parent_column)
    return {_folded(before[parent.name][number][at], column, world) for number in stay[parent.name]}


def _folded(value: Any, column: Column, world: Planted) -> Any:
    """Return a value as the parent's column compares it."""
    for table in world.tables:
        for one in table.columns:
            if (table.name, one.name) == (column.parent, column.parent_column) and one.nocase:
                return value.lower()
    return value


def _require_same(
    table: PlantedTable,
    before: dict[str, dict[int, tuple[Any, ...]]],
    after: dict[str, dict[int, tuple[Any, ...]]],
    expected: dict[str, dict[int, set[str]]],
    secrets: frozenset[str],
) -> None:
    """See that the rows are there that should be, and what is innocent in them unchanged."""
    assert set(after[table.name]) == set(expected[table.name])
    for number, new in after[table.name].items():
        old = before[table.name][number]
        for at, column in enumerate(table.columns):
            if column.name in expected[table.name][number]:
                assert new[at] is None
            elif column.role not in RULES and not _holds(old[at], secrets):
                assert new[at] == old[at]
                assert type(new[at]) is type(old[at])


def _holds(value: Any, secrets: frozenset[str]) -> bool:
    """Tell whether a value holds a secret, by reading it in every way there is."""
    if not isinstance(value, (str, bytes)):
        return False
    text = value if isinstance(value, str) else value.decode("utf-8", "replace")
    return any(_plain(secret) in meaning for meaning in _meanings(text) for secret in secrets)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _meanings(text: str, depth: int = _DEPTH) -> Iterator[str]:
    """Yield what a text may mean: itself, and what is in it as JSON, a URL or HTML."""
    yield _plain(text)
    if not depth:
        return
    try:
        parts = list(_strings(json.loads(text)))
    except ValueError:
        parts = []
    parts += [urllib.parse.unquote(text), urllib.parse.unquote_plus(text), html.unescape(text)]
    for part in parts:
        if part != text:
            yield from _meanings(part, depth - 1)


def _strings(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, list):
        for one in document:
            yield from _strings(one)
    elif isinstance(document, dict):
        for name, one in document.items():
            yield name
            yield from _strings(one)


def _require_clean(path: Path, secrets: frozenset[str]) -> None:
    """See that no secret is in any value, in the dump, or in the bytes of the file."""
    with closing(sqlite3.connect(path)) as connection:
        for (name,) in connection.execute(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
        ).fetchall():
            for row in connection.execute(f"SELECT * FROM {quoted(name)}"):
                for value in row:
                    assert not _holds(value, secrets), name
    told = _plain(dump(path))
    raw = path.read_bytes().lower()
    for secret in secrets:
        assert _plain(secret) not in told
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            for form in (secret, json.dumps(secret)[1:-1], urllib.parse.quote(secret, safe="")):
                assert form.encode(encoding).lower() not in raw
