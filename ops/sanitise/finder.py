"""Find any of many values in bytes, also where they are written in another way."""

import html
import json
import urllib.parse
from collections.abc import Iterable, Iterator

from ops.errors import UsageError


class Finder:
    """Looks for values in one pass over the data, whatever their number (Aho and Corasick, 1975).

    Letters of ASCII are equal in both cases. A value is also found as JSON, HTML and URLs write
    it, and, on request, in UTF-16.

    Args:
        values: What to look for; the empty one is left out.
        wide: Look for them in UTF-16 as well, of either byte order.

    Raises:
        UsageError: The library for it is not installed.
    """

    def __init__(self, values: Iterable[bytes], *, wide: bool = False) -> None:
        try:
            from ahocorasick_rs import BytesAhoCorasick, MatchKind
        except ImportError as error:
            raise UsageError(
                "the staging refresh needs the extra `staging` of ciso-ops",
                hint="python3 -m pip --python .venv/bin/python install 'ciso-ops[staging]'",
            ) from error
        self._values: list[bytes] = []
        patterns: list[bytes] = []
        for value in sorted(set(values) - {b""}):
            for form in _forms(value, wide=wide):
                patterns.append(form)
                self._values.append(value)
        kind = MatchKind.LeftmostLongest
        self.longest = max(map(len, patterns), default=1)
        self._machine = BytesAhoCorasick(patterns, matchkind=kind) if patterns else None

    def __bool__(self) -> bool:
        return self._machine is not None

    def find(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Find values from left to right, the longest where several begin.

        Yields:
            Start, end, and the value as it was given.
        """
        if self._machine is None:
            return
        for index, start, end in self._machine.find_matches_as_indexes(data.lower()):
            yield start, end, self._values[index]

    def found_in(self, data: bytes) -> bool:
        """Tell whether there is any."""
        return self._machine is not None and bool(
            self._machine.find_matches_as_indexes(data.lower())
        )


def _forms(value: bytes, *, wide: bool) -> set[bytes]:
    """Return the ways in which a value may be written, in lower case."""
    forms = {value}
    text = value.decode("utf-8", "surrogateescape")
    if not any("\udc80" <= letter <= "\udcff" for letter in text):
        forms.add(json.dumps(text)[1:-1].encode())
        forms.add(json.dumps(text, ensure_ascii=False)[1:-1].encode())
        forms.add(json.dumps(text)[1:-1].replace("/", "\\/").encode())
        forms.add(html.escape(text).encode())
        forms.add(html.escape(text).replace("&#x27;", "&#39;").encode())
        if wide:
            forms.add(text.encode("utf-16-le"))
            forms.add(text.encode("utf-16-be"))
    forms.add(urllib.parse.quote(value, safe="").encode())
    forms.add(urllib.parse.quote(value, safe="/@:").encode())
    forms.add(urllib.parse.quote_plus(value).encode())
    return {form.lower() for form in forms}
