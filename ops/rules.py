"""The rules by which a copy is sanitised: data, read from a profile."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from ops.fields import (
    read_choice,
    read_flag,
    read_rows,
    read_table,
    read_text,
    read_texts,
    require_known,
)

Scalar: TypeAlias = str | int | float | bool


class Action(StrEnum):
    """What a rule does to the values of a column; see docs/staging.md."""

    DELETE_ROWS = "delete-rows"
    NULL = "null"
    BLANK = "blank"
    PSEUDONYM = "pseudonym"
    SET = "set"
    JSON_KEYS = "json-keys"
    DROP_FILE = "drop-file"
    KEEP = "keep"


class Kind(StrEnum):
    """What a pseudonym looks like."""

    EMAIL = "e-mail"
    NAME = "name"
    PHONE = "phone"
    TEXT = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What becomes of one column.

    `column` is `*` for a rule about all columns of its table. `secret` says that the old values
    are searched for in the finished copy; those of pseudonyms always are. `where` limits the rule
    to the rows with these values. `keys` are the names of JSON members to empty, wherever in the
    document they are, `*` for all; `members` are those to set, by name.
    """

    table: str
    column: str
    action: Action
    kind: Kind | None = None
    value: Scalar = ""
    secret: bool = False
    where: tuple[tuple[str, Scalar], ...] = ()
    keys: tuple[str, ...] = ()
    members: tuple[tuple[str, Scalar], ...] = ()

    @property
    def name(self) -> str:
        """The column as it is written in the profile."""
        return f"{self.table}.{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """The account that remains usable.

    `first` is the column that marks an administrator, `order` the one whose lowest value comes
    first, `values` what else its row gets.
    """

    table: str
    email: str
    password: str
    first: str
    order: str
    values: tuple[tuple[str, Scalar], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """Where the application shows that it runs on a copy: values of a column get a prefix."""

    table: str
    column: str
    prefix: str
    where: tuple[tuple[str, Scalar], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sanitising:
    """All that a profile says about sanitising."""

    rules: tuple[Rule, ...] = ()
    admin: Admin | None = None
    label: Label | None = None


_RULE = ("column", "action", "kind", "value", "secret", "where", "keys", "members")
_TAKES = {
    Action.PSEUDONYM: {"kind"},
    Action.SET: {"value"},
    Action.JSON_KEYS: {"keys", "members"},
}
_ALWAYS = {"column", "action", "secret", "where"}


def parse_sanitising(table: Mapping[str, Any]) -> Sanitising:
    """Read the table `sanitise` of a profile.

    Raises:
        ValueError: Something in it is not as docs/staging.md describes it.
    """
    require_known(table, ("rules", "admin", "label"), "sanitise")
    rules = tuple(_rule(row) for row in read_rows(table, "rules", _RULE, "sanitise"))
    names = [(rule.name, rule.where) for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"sanitise.rules has two rules for {name[0]}")
    _require_steady(rules)
    return Sanitising(rules=rules, admin=_admin(table), label=_label(table))


def _require_steady(rules: tuple[Rule, ...]) -> None:
    """Refuse a condition on what another rule changes: it would hold before, and not after."""
    changed = {rule.name for rule in rules if rule.action not in {Action.KEEP, Action.DELETE_ROWS}}
    for rule in rules:
        for column, _ in rule.where:
            name = f"{rule.table}.{column}"
            if name in changed and name != rule.name:
                raise ValueError(
                    f"the rule for {rule.name} looks at {name}, which another rule changes"
                )


def _rule(row: Mapping[str, Any]) -> Rule:
    where = "sanitise.rules"
    name = read_text(row, "column", where)
    table, _, column = name.partition(".")
    if not (table and column):
        raise ValueError(f"{where}: 'column' must be TABLE.COLUMN, not {name!r}")
    where = f"the rule for {name}"
    action = Action(read_choice(row, "action", where, tuple(Action)))
    require_known(row, _ALWAYS | _TAKES.get(action, set()), where)
    if column == "*" and action not in {Action.DELETE_ROWS, Action.KEEP}:
        raise ValueError(f"{where}: {action} needs one column")
    kind = None
    if action is Action.PSEUDONYM:
        kind = Kind(read_choice(row, "kind", where, tuple(Kind)))
    if action is Action.SET and not isinstance(row.get("value"), (str, int, float)):
        raise ValueError(f"{where} needs 'value', a string, a number, true or false")
    members = read_table(row, "members", where)
    keys = read_texts(row, "keys", where)
    if action is Action.JSON_KEYS and not (keys or members):
        raise ValueError(f"{where} needs 'keys' or 'members'")
    return Rule(
        table=table,
        column=column,
        action=action,
        kind=kind,
        value=row.get("value", ""),
        secret=read_flag(row, "secret", where),
        where=_scalars(read_table(row, "where", where), where),
        keys=keys,
        members=_scalars(members, where),
    )


def _admin(table: Mapping[str, Any]) -> Admin | None:
    admin = read_table(table, "admin", "sanitise")
    if not admin:
        return None
    where = "sanitise.admin"
    require_known(admin, ("table", "email", "password", "first", "order", "values"), where)
    return Admin(
        table=read_text(admin, "table", where),
        email=read_text(admin, "email", where),
        password=read_text(admin, "password", where),
        first=read_text(admin, "first", where),
        order=read_text(admin, "order", where),
        values=_scalars(read_table(admin, "values", where), where),
    )


def _label(table: Mapping[str, Any]) -> Label | None:
    label = read_table(table, "label", "sanitise")
    if not label:
        return None
    where = "sanitise.label"
    require_known(label, ("table", "column", "prefix", "where"), where)
    return Label(
        table=read_text(label, "table", where),
        column=read_text(label, "column", where),
        prefix=read_text(label, "prefix", where),
        where=_scalars(read_table(label, "where", where), where),
    )


def _scalars(table: Mapping[str, Any], where: str) -> tuple[tuple[str, Scalar], ...]:
    for key, value in table.items():
        if not isinstance(value, (str, int, float)):
            raise ValueError(f"{where}: {key!r} must be a string, a number, true or false")
    return tuple(table.items())
