"""Hypothesis strategies for databases in which secrets and people are planted."""

import json
from dataclasses import dataclass
from typing import Any, TypeAlias

from hypothesis import strategies as st

from tests.any_databases import RULES, WRITINGS, Column, Planted, PlantedTable

_WORD = st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=8)
_ODD_WORD = st.one_of(
    _WORD, st.sampled_from(["o'brien", "jürgen", "müller", "łucja", "anne-marie"])
)
_HEX = st.text("0123456789abcdefABCDEF", min_size=10, max_size=30)
_NAMES = st.one_of(
    _WORD, st.sampled_from(['q"uote', "sp ace", "it's", "naïve", "order", "rowid", "a.b", "[c]"])
)
_TABLES = _NAMES.filter(lambda name: "." not in name)  # a rule has the table before the dot
_INNOCENT = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=30),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30),
    st.sampled_from(["logo@2x.png", "5 @ 3.50", "\\u0040", "a\\nb%40", "{}", "", "&#64;"]),
)
_OTHERS: dict[str, st.SearchStrategy[Any]] = {
    "integer": st.integers(-(2**63), 2**63 - 1),
    "real": st.floats(allow_nan=False),
    "bytes": st.binary(max_size=40),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Person:
    first: str
    last: str
    email: str
    phone: str


_Parts: TypeAlias = tuple[list[_Person], list[str]]

_people = st.builds(
    lambda first, last, host, number: _Person(
        first=first.title(),
        last=last.title(),
        email=f"{first}.{last}@{host}.example.org",
        phone=f"+49 30 {number}",
    ),
    _ODD_WORD,
    _ODD_WORD,
    _WORD,
    st.integers(10**7, 10**8 - 1),
)
_secrets = st.builds(
    lambda head, tail: f"{head}{tail}",
    st.sampled_from(["sk-", "tok:", 's"e\\c/', "ключ-", "{&}<", "p w "]),
    _HEX,
)


@st.composite
def planted(draw: st.DrawFn) -> Planted:
    """Describe a database."""
    people = draw(st.lists(_people, min_size=1, max_size=4, unique_by=lambda one: one.email))
    secrets = draw(st.lists(_secrets, min_size=1, max_size=5, unique_by=str.lower))
    parts = (people, secrets)
    tables: list[PlantedTable] = []
    names = draw(st.lists(_TABLES, min_size=1, max_size=4, unique_by=str.lower))
    for name in names:
        tables.append(draw(_table(name, tuple(tables), parts)))
    return Planted(
        tables=tuple(tables),
        addresses=tuple(one.email for one in people),
        names=tuple(f"{one.first} {one.last}" for one in people),
        encoding=draw(st.sampled_from(["UTF-8", "UTF-8", "UTF-16le", "UTF-16be"])),
        page_size=draw(st.sampled_from([512, 1024, 4096, 65536])),
        auto_vacuum=draw(st.integers(0, 2)),
        wal=draw(st.booleans()),
        analyzed=draw(st.booleans()),
    )


@st.composite
def _table(
    draw: st.DrawFn,
    name: str,
    parents: tuple[PlantedTable, ...],
    parts: _Parts,
) -> PlantedTable:
    roles = draw(
        st.lists(
            st.sampled_from(
                [*RULES, "free", "free", "innocent", "integer", "real", "bytes", "parent", "email"]
            ),
            min_size=1,
            max_size=6,
        )
    )
    labels = draw(st.lists(_NAMES, min_size=len(roles), max_size=len(roles), unique_by=str.lower))
    without_rowid = draw(st.booleans())
    columns: list[Column] = []
    for role, label in zip(roles, labels, strict=True):
        if role == "gone" and "gone" in [column.role for column in columns]:
            continue
        column = Column(
            name=f"{label}_{len(columns)}" if label != "rowid" else label,
            role=role,
            not_null=draw(st.booleans()) and role not in {"innocent", "parent"},
            unique=role in {"email", "code", "phone"} and draw(st.booleans()),
            nocase=role in {"email", "free"} and draw(st.booleans()),
        )
        if role == "parent":
            column = draw(_reference(column, parents))
        columns.append(column)
    ids = draw(st.lists(st.integers(1, 1000), max_size=6, unique=True))
    rows = [_row(draw, number, columns, parents, parts) for number in ids]
    gone = draw(st.integers(0, 3))
    return PlantedTable(
        name=name,
        columns=tuple(columns),
        strict=draw(st.booleans()),
        without_rowid=without_rowid,
        keyed=without_rowid and draw(st.booleans()),
        rows=tuple(rows),
        deleted=tuple(_row(draw, 2000 + number, columns, (), parts) for number in range(gone)),
    )


@st.composite
def _reference(draw: st.DrawFn, column: Column, parents: tuple[PlantedTable, ...]) -> Column:
    """Have a column refer to the id of a table, or to an address in it."""
    if not parents:
        return Column(name=column.name, role="integer")
    parent = draw(st.sampled_from(parents))
    targets = [one.name for one in parent.columns if one.unique and one.role in {"email", "code"}]
    return Column(
        name=column.name,
        role="parent",
        not_null=draw(st.booleans()),
        parent=parent.name,
        parent_column=draw(st.sampled_from(["id", *targets])),
    )


def _row(
    draw: st.DrawFn,
    number: int,
    columns: list[Column],
    parents: tuple[PlantedTable, ...],
    parts: _Parts,
) -> tuple[Any, ...]:
    people, secrets = parts
    person = draw(st.sampled_from(people))
    return (number, *(_value(draw, column, parents, (person, secrets)) for column in columns))


def _value(
    draw: st.DrawFn,
    column: Column,
    parents: tuple[PlantedTable, ...],
    known: tuple[_Person, list[str]],
) -> Any:
    person, secrets = known
    secret = draw(st.sampled_from(secrets))
    titled = column.role == "email" and draw(st.booleans())
    planted: dict[str, Any] = {
        "email": person.email.title() if titled else person.email,
        "first": person.first,
        "last": person.last,
        "phone": person.phone,
        "document": json.dumps({"key": {"deep": [secret]}, "on": True, "stays": 7}),
        **dict.fromkeys(("code", "blanked", "nulled", "fixed", "gone"), secret),
    }
    if column.role in planted:
        return planted[column.role]
    if column.role == "parent":
        return _parent_value(draw, column, parents)
    if column.role == "free":
        name = f"{person.first} {person.last}"
        what = draw(st.sampled_from([secret, person.email, name, "nothing", "nothing at all"]))
        text = WRITINGS[draw(st.sampled_from(sorted(WRITINGS)))](what)
        return text.encode() if draw(st.integers(0, 4)) == 0 else text
    return draw(_OTHERS.get(column.role, _INNOCENT))


def _parent_value(draw: st.DrawFn, column: Column, parents: tuple[PlantedTable, ...]) -> Any:
    """Refer to a row that is there; None where there is none, or at times."""
    for parent in parents:
        if parent.name == column.parent:
            at = _position(parent, column.parent_column)
            there = [row[at] for row in parent.rows]
            if there and (column.not_null or draw(st.integers(0, 3))):
                return draw(st.sampled_from(there))
    return None


def _position(table: PlantedTable, column: str) -> int:
    return ["id", *(one.name for one in table.columns)].index(column)
