"""Replace what the rules did not: originals in free text, and addresses of anybody else."""

import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeAlias

from ops.interrupts import steady_threads
from ops.rules import Kind
from ops.sanitise.addresses import find_addresses, find_signs, has_sign, written_alike
from ops.sanitise.binding import Binding
from ops.sanitise.finder import Finder
from ops.sanitise.originals import Originals
from ops.sanitise.pseudonyms import DOMAIN, Pseudonyms
from ops.sanitise.reading import Row, change_values, read_lots
from ops.sanitise.schema import Table

Watch: TypeAlias = Callable[[str, Sequence[str], Sequence[Row], bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """A column in which something was replaced, and in how many rows.

    `strangers` counts the rows that held an address which no rule knew of.
    """

    table: str
    column: str
    rows: int
    strangers: int


def sweep(
    connection: sqlite3.Connection,
    tables: Mapping[str, Table],
    binding: Binding,
    *,
    pseudonyms: Pseudonyms,
    originals: Originals,
    allowed: frozenset[bytes],
    skipped: frozenset[tuple[str, str]],
    watch: Watch,
    advance: Callable[[int], None],
) -> tuple[Swept, ...]:
    """Go through every value of a private database and replace what must not stay.

    Everywhere but in columns that a rule keeps, all e-mail addresses get pseudonyms, and those
    that nobody knew yet become originals. Kept columns come last: there only originals go.

    Args:
        connection: To the database.
        tables: Its tables.
        binding: The rules, which have been applied.
        pseudonyms: Makes them.
        originals: What to look for.
        allowed: Addresses in lower case that may stay.
        skipped: Tables and columns that somebody else sees to.
        watch: Called with each lot of rows before it is changed: the table, the columns that come
            first, the rows, and all of their text.
        advance: Called with the number of bytes after each piece.

    Raises:
        sqlite3.Error: A table cannot be read or changed.
    """
    ruled, kept = [], []
    for table in tables.values():
        names = [
            column.name for column in table.columns if (table.name, column.name) not in skipped
        ]
        stays = [name for name in names if binding.kept(table.name, name)]
        kept.append((table, stays))
        ruled.append((table, [name for name in names if name not in stays]))
    others = _find_others(originals)
    with steady_threads(1) as beside:
        first = _Sweeper(
            connection=connection,
            pseudonyms=pseudonyms,
            originals=originals,
            allowed=allowed,
            watch=watch,
            advance=advance,
            strangers=True,
            known=frozenset(originals.found),
            all=originals.finder(),
            others=others,
            beside=beside,
        )
        found = first.through(ruled)
        if len(originals.found) > len(first.known):
            others = _find_others(originals)
        last = replace(first, strangers=False, all=originals.finder(), others=others)
        return (*found, *last.through(kept))


def _find_others(originals: Originals) -> Finder:
    """Return what finds those originals that are no addresses."""
    return Finder((one for one in originals.found if b"@" not in one), much=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sweeper:
    """Goes through tables; `strangers` tells whether it replaces addresses that nobody knows.

    `known` are the originals that rules have found.
    `all` finds every original, `others` those that are no addresses; `beside` has it work while
    this thread does, since it does without Python's lock.
    """

    connection: sqlite3.Connection
    pseudonyms: Pseudonyms
    originals: Originals
    allowed: frozenset[bytes]
    watch: Watch
    advance: Callable[[int], None]
    strangers: bool
    known: frozenset[bytes]
    all: Finder
    others: Finder
    beside: ThreadPoolExecutor

    def through(self, work: Iterable[tuple[Table, list[str]]]) -> list[Swept]:
        """Go through tables; return the columns in which something was replaced."""
        return [
            swept for table, columns in work if columns for swept in self._table(table, columns)
        ]

    def _table(self, table: Table, columns: list[str]) -> list[Swept]:
        rows = dict.fromkeys(columns, 0)
        strange = dict.fromkeys(columns, 0)
        count = len(columns)
        for lot in read_lots(self.connection, table, columns):
            values = [
                value if isinstance(value, bytes) else b"" for row in lot for value in row[:count]
            ]
            whole = b"\0".join(values)
            self.advance(len(whole))
            searching = self.beside.submit(self.others.found_in, whole)
            self.watch(table.name, columns, lot, whole)
            concerned = _holders(values, find_signs(whole))
            if searching.result():
                concerned |= {at for at, value in enumerate(values) if self.others.found_in(value)}
            changes = []
            for at in sorted(concerned):
                number, place = divmod(at, count)
                column, value = columns[place], values[at]
                new, is_strange = self._replace(value)
                if new != value:
                    changes.append((column, lot[number][count:], new))
                    rows[column] += 1
                    strange[column] += is_strange
            change_values(self.connection, table, changes)
        return [
            Swept(table=table.name, column=column, rows=rows[column], strangers=strange[column])
            for column in columns
            if rows[column]
        ]

    def _replace(self, value: bytes) -> tuple[bytes, bool]:
        """Return what stands for a value, and whether there was an address that no rule knew of.

        Where an address and an original overlap, what begins first is replaced, and of two that
        begin there the longer one: an original may be an address that cannot be told by its shape.
        """
        spans: list[tuple[int, int, bytes, bool]] = [
            (start, end, original, False) for start, end, original in self.all.find(value)
        ]
        if self.strangers:
            spans += [(start, end, address, True) for start, end, address in find_addresses(value)]
        strange = False
        pieces: list[bytes] = []
        position = 0
        for start, end, found, by_shape in sorted(spans, key=lambda span: (span[0], -span[1])):
            if start < position:
                continue
            new = self.originals.found.get(found)
            if by_shape:
                new, is_strange = self._address(found)
                strange |= is_strange
            if new is not None:
                pieces += (value[position:start], written_alike(value[start:end], new))
                position = end
        value = b"".join((*pieces, value[position:])) if pieces else value
        return (_emptied(value) if self.all.found_in(value) else value), strange

    def _address(self, address: bytes) -> tuple[bytes | None, bool]:
        """Return the pseudonym of an address, None if it may stay; and whether no rule knew it."""
        if address.lower() in self.allowed or is_ours(address):
            return None, False
        text = address.decode("utf-8", "surrogateescape")
        new = self.pseudonyms.of(Kind.EMAIL, text)
        lower = text.lower().encode("utf-8", "surrogateescape")
        if lower not in self.originals.found:
            self.originals.add_address(text, new)
        return new.encode(), lower not in self.known


def _emptied(value: bytes) -> bytes:
    """Return what stands for a value that holds an original in a way nobody usually writes."""
    return {b"{": b"{}", b"[": b"[]"}.get(value[:1], b"removed")


def _holders(values: Sequence[bytes], positions: Iterable[int]) -> set[int]:
    """Return which of some values hold what is at these positions of all, joined by a byte."""
    ends = list(accumulate(len(value) + 1 for value in values))
    return {bisect_right(ends, position) for position in positions}


def is_ours(address: bytes) -> bool:
    """Tell whether an address is a pseudonym."""
    return address.lower().endswith(b"@" + DOMAIN.encode())


def has_stranger(data: bytes, allowed: frozenset[bytes]) -> bool:
    """Tell whether there is an e-mail address that is neither a pseudonym nor allowed."""
    return has_sign(data) and any(
        not is_ours(address) and address.lower() not in allowed
        for *_, address in find_addresses(data)
    )
