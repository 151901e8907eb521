"""Which value of which column gets which pseudonym, so that keys that refer to it still join."""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence

from ops.rules import Kind
from ops.sanitise.binding import Bound
from ops.sanitise.pseudonyms import Pseudonyms
from ops.sanitise.values import read_values


def choose_names(
    connection: sqlite3.Connection, bound: Sequence[Bound], pseudonyms: Pseudonyms
) -> dict[int, Callable[[str], str]]:
    """Return what gives the values of a column their pseudonyms, by the id of each rule's binding.

    A column in which no value may come twice gets no pseudonym twice, and what refers to it, also
    by way of others, gets the same. All values are read here, before the first changes.

    Raises:
        sqlite3.Error: A table cannot be read.
    """
    naming = [one for one in bound if one.rule.kind is not None]
    by_place = {one.place: one for one in naming}
    given: dict[tuple[str, str], Mapping[str, str]] = {}
    for one in naming:
        if one.rule.kind is not None and one is _root(one, by_place):
            same = [other for other in naming if other.place == one.place]
            given[one.place] = _given(connection, same, one.rule.kind, pseudonyms)
    return {
        id(one): _namer(one, _root(one, by_place), given, pseudonyms, one.rule.kind)
        for one in naming
        if one.rule.kind is not None
    }


def _root(bound: Bound, by_place: Mapping[tuple[str, str], Bound]) -> Bound:
    """Follow what a column refers to; where columns refer to each other, the first name stands."""
    seen = [bound.place]
    while bound.parent is not None:
        if bound.parent.place in seen:
            return by_place[min(seen[seen.index(bound.parent.place) :])]
        bound = by_place[bound.parent.place]
        seen.append(bound.place)
    return bound


def _given(
    connection: sqlite3.Connection, bound: Iterable[Bound], kind: Kind, pseudonyms: Pseudonyms
) -> dict[str, str]:
    """Choose the pseudonyms of a column that others may refer to."""
    values = [value for one in bound if _unique(one) for value in read_values(connection, one)]
    return pseudonyms.distinct(kind, set(values))


def _unique(bound: Bound) -> bool:
    return bound.column is not None and bound.column.unique


def _namer(
    bound: Bound,
    root: Bound,
    given: Mapping[tuple[str, str], Mapping[str, str]],
    pseudonyms: Pseudonyms,
    kind: Kind,
) -> Callable[[str], str]:
    names = given.get(root.place, {})
    if root is bound or root.place == bound.place:
        return lambda value: names.get(value) or pseudonyms.of(kind, value)
    folded = {value.lower(): name for value, name in names.items()}  # keys may be so compared
    limited = bool(root.rule.where)

    def name(value: str) -> str:
        found = names.get(value) or folded.get(value.lower())
        if found is None:
            return value if limited else pseudonyms.of(kind, value)
        return found

    return name
