"""Empty members of JSON documents; their shape stays, so that the application reads them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ops.rules import Scalar


def read_document(text: str) -> Any:
    """Read a JSON document.

    Raises:
        ValueError: It is none.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def write_document(document: Any) -> str:
    """Write a JSON document as Django does."""
    return json.dumps(document)


def strings_of(document: Any) -> Iterator[str]:
    """Yield every text in a document, the names of members left out."""
    waiting = [document]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def scrub(
    document: Any, keys: tuple[str, ...], members: Mapping[str, Scalar], removed: set[str]
) -> Any:
    """Return a document in which some members are empty, wherever they are.

    Args:
        document: As `json.loads` returns it.
        keys: Names of the members that become empty with all that is in them; `*` for all.
        members: Names of members that get a value, where they are there.
        removed: Gets the texts that were removed.
    """
    if isinstance(document, dict):
        new = {}
        for key, value in document.items():
            if key in members:
                _empty(value, removed)
                new[key] = members[key]
            elif key in keys or "*" in keys:
                new[key] = _empty(value, removed)
            else:
                new[key] = scrub(value, keys, members, removed)
        return new
    if isinstance(document, list):
        return [scrub(value, keys, members, removed) for value in document]
    if "*" in keys:
        return _empty(document, removed)
    return document


def _empty(value: Any, removed: set[str]) -> Any:
    """Return the same shape without texts and numbers."""
    if isinstance(value, dict):
        return {key: _empty(one, removed) for key, one in value.items()}
    if isinstance(value, list):
        return [_empty(one, removed) for one in value]
    if isinstance(value, str):
        removed.add(value)
        return ""
    if isinstance(value, bool) or value is None:
        return value
    removed.add(str(value))
    return 0
