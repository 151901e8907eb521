"""Bring rules and a schema together: which rule is for which column of this database."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ops.rules import Action, Rule, Scalar
from ops.sanitise.schema import Column, Table, matching


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A rule for a column that is there; `inherited` for one that refers to the rule's column.

    `parent` is what a column refers to that gets pseudonyms of the same kind, so that both have the
    same.
    """

    rule: Rule
    table: Table
    column: Column | None
    inherited: bool = False
    parent: "Bound | None" = None

    @property
    def place(self) -> tuple[str, str]:
        """The table and the column, `*` for all of them."""
        return self.table.name, "*" if self.column is None else self.column.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """All rules that apply to a database, and those whose table or column it lacks."""

    bound: tuple[Bound, ...]
    absent: tuple[Rule, ...]

    def emptied(self) -> frozenset[str]:
        """Return the tables that lose all their rows."""
        return frozenset(
            one.table.name
            for one in self.bound
            if one.rule.action is Action.DELETE_ROWS and not one.rule.where
        )

    def shortened(self) -> frozenset[str]:
        """Return the tables that lose rows."""
        return frozenset(
            one.table.name for one in self.bound if one.rule.action is Action.DELETE_ROWS
        )

    def ruled(self) -> frozenset[tuple[str, str]]:
        """Return every table and column, `*` for all of them, that a rule is for."""
        return frozenset(one.place for one in self.bound)

    def partly(self) -> frozenset[tuple[str, str]]:
        """Return the columns of which rules are for some rows only."""
        columns = [one for one in self.bound if one.column is not None]
        whole = {one.place for one in columns if not one.rule.where}
        return frozenset(one.place for one in columns if one.place not in whole)

    def outside(self, table: str, column: str) -> tuple[str, tuple[Scalar, ...]]:
        """Return the condition, and its values, for rows of a table that no rule is for."""
        conditions, values = ["1"], list[Scalar]()
        for one in self.bound:
            if one.table.name == table and one.column is not None and one.column.name == column:
                condition, given = matching(one.rule.where)
                conditions.append(f"NOT ({condition})")
                values += given
        return " AND ".join(conditions), tuple(values)

    def kept(self, table: str, column: str) -> bool:
        """Tell whether a rule says that a column is as it should be."""
        return any(
            one.rule.action is Action.KEEP
            and one.table.name == table
            and (one.column is None or one.column.name == column)
            for one in self.bound
        )


def bind(rules: tuple[Rule, ...], schema: Mapping[str, Table]) -> Binding:
    """Find the tables and columns of rules; what refers to a column has its pseudonyms, too."""
    bound: list[Bound] = []
    absent: list[Rule] = []
    for rule in rules:
        table = schema.get(rule.table)
        column = table.column(rule.column) if table is not None else None
        if (
            table is None
            or (column is None and rule.column != "*")
            or any(table.column(name) is None for name, _ in rule.where)
        ):
            absent.append(rule)
        else:
            bound.append(Bound(rule=rule, table=table, column=column))
    return Binding(bound=_with_children(bound, schema), absent=tuple(absent))


def _with_children(bound: list[Bound], schema: Mapping[str, Table]) -> tuple[Bound, ...]:
    """Give the rule of a column that gets pseudonyms to all columns that refer to it."""
    known = {one.place for one in bound if one.column is not None}
    waiting = [one for one in bound if one.rule.action is Action.PSEUDONYM]
    found: list[Bound] = []
    while waiting:
        parent = waiting.pop()
        for table in schema.values():
            for column in _referring(table, parent):
                place = (table.name, column.name)
                if place not in known:
                    known.add(place)
                    rule = replace(parent.rule, table=table.name, column=column.name, where=())
                    child = Bound(
                        rule=rule, table=table, column=column, inherited=True, parent=parent
                    )
                    found.append(child)
                    waiting.append(child)
                elif place != parent.place:
                    bound = [
                        replace(one, parent=parent)
                        if one.place == place and one.rule.kind is parent.rule.kind
                        else one
                        for one in bound
                    ]
    return (*bound, *found)


def _referring(table: Table, parent: Bound) -> list[Column]:
    """List the columns of a table that refer to the column of a rule."""
    columns: list[Column] = []
    for key in table.foreign_keys:
        if key.parent.lower() != parent.table.name.lower() or parent.column is None:
            continue
        for column, target in zip(key.columns, key.parent_columns, strict=False):
            found = table.column(column)
            if found is not None and target.lower() == parent.column.name.lower():
                columns.append(found)
    return columns
