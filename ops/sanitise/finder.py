"""Find any of many values in bytes, also where they are written in another way."""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ops.errors import missing_extra
from ops.sanitise.writings import forms, packed, readings, spellings

if TYPE_CHECKING:
    from ahocorasick_rs import BytesAhoCorasick

_LONGEST_SIGN = 12
"""Bytes at most that one byte becomes: `%5Cu0041` and the like."""

_LONGEST_PATTERN = 1024
"""Bytes of a value that are looked for; who has these has the value."""

_MOST_QUICK_BYTES = 600_000
"""Of patterns, for a machine that is more than twice as quick, and takes some 250 times as much."""


class Finder:
    """Looks for values in one pass over the data, whatever their number (Aho and Corasick, 1975).

    Letters of ASCII are equal in both cases, others where all of a value is written so, and
    in both normal forms. A value is also found as JSON, HTML and URLs write it, one in the other,
    too, a secret in base64, and all of them, on request, in UTF-16.

    Args:
        values: What to look for; the empty one is left out.
        wide: Look for them in UTF-16 as well, of either byte order.
        much: There is much data: what takes longer to prepare and then is quicker pays.

    Raises:
        UsageError: The library for it is not installed.
    """

    def __init__(self, values: Iterable[bytes], *, wide: bool = False, much: bool = False) -> None:
        patterns: dict[bytes, bytes] = {}
        for value in sorted(set(values) - {b""}):
            written_so = spellings(value)
            with_plus = {one.replace(b" ", b"+") for one in written_so}  # as forms of pages do
            for written in (*written_so, *with_plus, *packed(value)):
                patterns.setdefault(_middle(written).lower(), value)
                if wide:
                    text = written.decode("utf-8", "surrogateescape")
                    for encoding in ("utf-16-le", "utf-16-be"):
                        encoded = text.encode(encoding, "surrogatepass")
                        patterns.setdefault(_middle(encoded).lower(), value)
        self.longest = _LONGEST_SIGN * max(map(len, patterns), default=1)
        self._machines = tuple(_machines(patterns, much=much))

    def __bool__(self) -> bool:
        return bool(self._machines)

    def found_in(self, data: bytes) -> bool:
        """Tell whether there is any."""
        return next(self._values_in(data), None) is not None

    def find(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Find values from left to right, in the usual ways of writing them.

        Where two overlap, the longer one that begins first is found. What `found_in` sees is not
        always among them.

        Yields:
            Start, end, and the value as it was given.
        """
        lower = data.lower()
        spans: set[tuple[int, int, bytes]] = set()
        for value in set(self._values_in(data)):
            for form in {form for spelling in spellings(value) for form in forms(spelling)}:
                at = lower.find(form)
                while at >= 0:
                    spans.add((at, at + len(form), value))
                    at = lower.find(form, at + len(form))
        position = 0
        for start, end, value in sorted(spans, key=lambda span: (span[0], -span[1], span[2])):
            if start >= position:
                yield start, end, value
                position = end

    def _values_in(self, data: bytes) -> Iterator[bytes]:
        if not self._machines:
            return
        for reading in readings(data.lower(), self.longest):
            for machine, values in self._machines:
                for index, *_ in machine.find_matches_as_indexes(reading):
                    yield values[index]


def _middle(written: bytes) -> bytes:
    """Return the middle of a long value: to prepare for all takes the square of its length."""
    spare = max(0, len(written) - _LONGEST_PATTERN) // 2
    return written[spare : spare + _LONGEST_PATTERN]


def _machines(
    patterns: dict[bytes, bytes], *, much: bool
) -> "Iterator[tuple[BytesAhoCorasick, list[bytes]]]":
    """Make a machine for each kind of pattern: those of one kind share bytes that are rare."""
    try:
        from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind
    except ImportError as error:
        raise missing_extra("the staging refresh takes ahocorasick_rs", "staging") from error
    kinds: dict[str, list[bytes]] = {}
    for pattern in patterns:
        kind = "address" if b"@" in pattern else "text" if pattern.isalpha() else "other"
        if not re.search(rb"[a-z\x80-\xff]", pattern):
            kind = "number"
        kinds.setdefault(kind, []).append(pattern)
    for some in kinds.values():
        quick = Implementation.DFA if much and sum(map(len, some)) <= _MOST_QUICK_BYTES else None
        machine = BytesAhoCorasick(some, matchkind=MatchKind.LeftmostLongest, implementation=quick)
        yield machine, [patterns[pattern] for pattern in some]
