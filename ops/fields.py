"""Read the fields of TOML tables, and say which one is wrong."""

from collections.abc import Collection, Mapping
from typing import Any, cast


def require_known(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Refuse a key that nobody reads: most likely it is misspelt.

    Raises:
        ValueError: There is one.
    """
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ValueError(f"{where} has no key {unknown[0]!r}")


def read_text(table: Mapping[str, Any], key: str, where: str, *, default: str | None = None) -> str:
    """Return a string.

    Raises:
        ValueError: It is missing and has no default, or is something else.
    """
    value = table.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"{where} needs {key!r}, a string")
    return value


def read_choice(table: Mapping[str, Any], key: str, where: str, allowed: Collection[str]) -> str:
    """Return one of some words.

    Raises:
        ValueError: It is none of them.
    """
    value = read_text(table, key, where)
    if value not in allowed:
        raise ValueError(f"{where}: {key!r} must be one of {', '.join(allowed)}")
    return value


def read_texts(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """Return a list of strings, empty where there is none.

    Raises:
        ValueError: It is something else.
    """
    values = table.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{where}: {key!r} must be a list of strings")
    return tuple(values)


def read_flag(table: Mapping[str, Any], key: str, where: str) -> bool:
    """Return true or false, false where it is missing.

    Raises:
        ValueError: It is something else.
    """
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"{where}: {key!r} must be true or false")
    return value


def read_table(table: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """Return a table, empty where there is none.

    Raises:
        ValueError: It is something else.
    """
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {key!r} must be a table")
    return cast("dict[str, Any]", value)


def read_rows(
    table: Mapping[str, Any], key: str, known: Collection[str], where: str = ""
) -> list[dict[str, Any]]:
    """Return an array of tables, empty where there is none.

    Raises:
        ValueError: It is something else, or one of them has a key that nobody reads.
    """
    name = f"{where}.{key}" if where else key
    rows = table.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{name} must be an array of tables")
    for row in rows:
        require_known(row, known, name)
    return cast("list[dict[str, Any]]", rows)
