"""Replace what the rules did not: originals in free text, and addresses of anybody else."""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ops.rules import Kind
from ops.sanitise.addresses import find_addresses, has_sign, written_alike
from ops.sanitise.binding import Binding
from ops.sanitise.finder import Finder
from ops.sanitise.originals import Originals
from ops.sanitise.pseudonyms import DOMAIN, Pseudonyms
from ops.sanitise.reading import change_values, joined, read_lots
from ops.sanitise.schema import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """A column in which something was replaced: in how many rows, and whether it has a rule.

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
    first = _Sweeper(connection, pseudonyms, originals, allowed, advance, strangers=True)
    found = first.through(ruled)
    last = _Sweeper(connection, pseudonyms, originals, allowed, advance, strangers=False)
    return (*found, *last.through(kept))


class _Sweeper:
    def __init__(
        self,
        connection: sqlite3.Connection,
        pseudonyms: Pseudonyms,
        originals: Originals,
        allowed: frozenset[bytes],
        advance: Callable[[int], None],
        *,
        strangers: bool,
    ) -> None:
        self._connection = connection
        self._pseudonyms = pseudonyms
        self._originals = originals
        self._allowed = allowed
        self._advance = advance
        self._strangers = strangers
        self._all = Finder(originals.found)
        self._others = Finder(one for one in originals.found if b"@" not in one)

    def through(self, work: Iterable[tuple[Table, list[str]]]) -> list[Swept]:
        """Go through tables; return the columns in which something was replaced."""
        return [
            swept for table, columns in work if columns for swept in self._table(table, columns)
        ]

    def _table(self, table: Table, columns: list[str]) -> list[Swept]:
        rows = dict.fromkeys(columns, 0)
        strange = dict.fromkeys(columns, 0)
        count = len(columns)
        for lot in read_lots(self._connection, table, columns):
            whole = joined(lot, count)
            self._advance(len(whole))
            others = self._others.found_in(whole)
            if not others and not has_sign(whole):
                continue
            changes = []
            for row in lot:
                for column, value in zip(columns, row, strict=False):
                    if not isinstance(value, bytes):
                        continue
                    if not has_sign(value) and not (others and self._others.found_in(value)):
                        continue
                    new, is_strange = self._replace(value)
                    if new != value:
                        changes.append((column, row[count:], new))
                        rows[column] += 1
                        strange[column] += is_strange
            change_values(self._connection, table, changes)
        return [
            Swept(table=table.name, column=column, rows=rows[column], strangers=strange[column])
            for column in columns
            if rows[column]
        ]

    def _replace(self, value: bytes) -> tuple[bytes, bool]:
        """Return what stands for a value, and whether there was an address that nobody knew.

        Where an address and an original overlap, what begins first is replaced, and of two that
        begin there the longer one: an original may be an address that cannot be told by its shape.
        """
        spans: list[tuple[int, int, bytes, bool]] = [
            (start, end, original, False) for start, end, original in self._all.find(value)
        ]
        if self._strangers:
            spans += [(start, end, address, True) for start, end, address in find_addresses(value)]
        strange = False
        pieces: list[bytes] = []
        position = 0
        for start, end, found, by_shape in sorted(spans, key=lambda span: (span[0], -span[1])):
            if start < position:
                continue
            new = self._originals.found.get(found)
            if by_shape:
                new, is_strange = self._address(found)
                strange |= is_strange
            if new is not None:
                pieces += (value[position:start], written_alike(value[start:end], new))
                position = end
        value = b"".join((*pieces, value[position:])) if pieces else value
        return (_emptied(value) if self._all.found_in(value) else value), strange

    def _address(self, address: bytes) -> tuple[bytes | None, bool]:
        """Return the pseudonym of an address, None where it may stay; and whether it is new."""
        if address.lower() in self._allowed or is_ours(address):
            return None, False
        text = address.decode("utf-8", "surrogateescape")
        new = self._pseudonyms.of(Kind.EMAIL, text)
        strange = text.lower().encode("utf-8", "surrogateescape") not in self._originals.found
        if strange:
            self._originals.add_address(text, new)
        return new.encode(), strange


def _emptied(value: bytes) -> bytes:
    """Return what stands for a value that holds an original in a way nobody usually writes."""
    return {b"{": b"{}", b"[": b"[]"}.get(value[:1], b"removed")


def is_ours(address: bytes) -> bool:
    """Tell whether an address is a pseudonym."""
    return address.lower().endswith(b"@" + DOMAIN.encode())


def has_stranger(data: bytes, allowed: frozenset[bytes]) -> bool:
    """Tell whether there is an e-mail address that is neither a pseudonym nor allowed."""
    return has_sign(data) and any(
        not is_ours(address) and address.lower() not in allowed
        for *_, address in find_addresses(data)
    )
