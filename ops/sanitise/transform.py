"""Make a private database harmless, and write it afresh so that nothing of before lingers."""

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ops.interrupts import steady_threads
from ops.model import Finding, Progress, ReportProgress, Severity
from ops.profile import Profile
from ops.rules import Rule
from ops.sanitise.account import (
    Account,
    choose_account,
    has_accounts,
    hash_password,
    open_account,
)
from ops.sanitise.apply import Applied, apply_rules, mend_keys
from ops.sanitise.binding import bind
from ops.sanitise.files import Attachments, FileNames, Place, name_files
from ops.sanitise.finder import Finder
from ops.sanitise.label import label_database
from ops.sanitise.originals import Originals
from ops.sanitise.private import database_failure, private_database
from ops.sanitise.pseudonyms import Pseudonyms
from ops.sanitise.schema import drop_samples, read_schema
from ops.sanitise.search import search_raw, search_rows
from ops.sanitise.suspects import Looks, suspects
from ops.sanitise.sweep import Swept, has_stranger, sweep
from ops.sqlite.connection import connect


@dataclass(frozen=True, slots=True, kw_only=True)
class Sanitised:
    """What was done to a database.

    `mended` counts the rows that referred to rows which are gone. `places` are the files that its
    rows name.
    """

    applied: tuple[Applied, ...]
    absent: tuple[Rule, ...]
    swept: tuple[Swept, ...]
    mended: int
    account: Account | None
    places: tuple[Place, ...]
    originals: Originals
    findings: tuple[Finding, ...]


def sanitise_database(
    path: Path,
    profile: Profile,
    *,
    key: bytes,
    admin_email: str,
    password: str,
    attachments: Attachments,
    made: datetime,
    tool: str,
    progress: ReportProgress,
) -> Sanitised:
    """Apply the rules of a profile to a private database, in place, and label it.

    Args:
        path: The database, which is thrown away if this fails.
        profile: Has the rules, and tells which columns name files.
        key: Of the pseudonyms.
        admin_email: The address of the one account that can be used.
        password: Its password.
        attachments: What becomes of the files.
        made: When the copy was made.
        tool: The version of this tool.
        progress: Called as the work goes on.

    Raises:
        SourceError: A rule does not suit the database, or it holds what cannot be sanitised.
        DestinationError: The disk did not take it.
        UsageError: A library is missing.
    """
    pseudonyms = Pseudonyms(key)
    originals = Originals(pseudonyms.mark)
    rules = profile.sanitising
    tell = _meter(progress, "sanitise database", path)
    with private_database(path) as connection:
        drop_samples(connection)
        tables = read_schema(connection)
        binding = bind(rules.rules, tables)
        account = None
        admin = rules.admin
        if admin is not None and has_accounts(tables, admin):
            account = choose_account(connection, tables[admin.table], admin, admin_email)
        if account is not None:
            pseudonyms.choose(account.old_email, account.email)
        applied = apply_rules(connection, binding, pseudonyms, originals)
        originals.release(admin_email)
        mended = mend_keys(connection, tables.values(), binding.shortened())
        if account is not None and admin is not None:
            encoded = hash_password(password)
            open_account(connection, tables[admin.table], admin, account, encoded)
        allowed = frozenset({admin_email.lower().encode()})
        references = {(one.table, one.column) for one in profile.references}
        looks = Looks(tables, binding)
        swept = sweep(
            connection,
            tables,
            binding,
            pseudonyms=pseudonyms,
            originals=originals,
            allowed=allowed,
            skipped=frozenset(references),
            watch=looks.take,
            advance=tell,
        )
        finder = originals.finder()
        names = FileNames(
            attachments,
            pseudonyms.mark,
            lambda name: finder.found_in(name) or has_stranger(name, allowed),
        )
        places = name_files(connection, tables, profile.references, names)
        found = tuple(suspects(connection, tables, binding, looks, swept))
        label_database(connection, tables, rules.label, made=made, tool=tool)
    return Sanitised(
        applied=applied,
        absent=binding.absent,
        swept=swept,
        mended=mended,
        account=account,
        places=places,
        originals=originals,
        findings=(*found, *_common(originals), *_no_account(profile, account)),
    )


def _common(originals: Originals) -> Iterable[Finding]:
    if originals.common:
        yield Finding(
            kind="not-searched",
            severity=Severity.NOTE,
            where=f"{len(originals.common)} secrets",
            expected="values that texts do not hold anyway",
            found="short or ordinary ones: they are removed, and not looked for elsewhere",
        )


def _no_account(profile: Profile, account: Account | None) -> Iterable[Finding]:
    if account is None and profile.sanitising.admin is not None:
        yield Finding(
            kind="no-account",
            severity=Severity.WARNING,
            where=f"table {profile.sanitising.admin.table}",
            expected="a user who can become the administrator",
            found="none",
        )


def write_afresh(path: Path, copy: Path, *, wal: bool) -> None:
    """Write a private database to a new file, without what was deleted or is free.

    Args:
        path: The database.
        copy: Where to write; nothing may be there.
        wal: Whether the copy is to have a write-ahead log, as its source.

    Raises:
        SourceError: It cannot be written again.
        DestinationError: The disk did not take it.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("VACUUM INTO ?", (str(copy),))
        finally:
            connection.close()
        if wal:
            written = sqlite3.connect(copy, isolation_level=None)
            try:
                written.execute("PRAGMA journal_mode = WAL").fetchall()
            finally:
                written.close()
    except sqlite3.Error as error:
        raise database_failure(copy, error) from error


def search_database(copy: Path, originals: Iterable[bytes]) -> tuple[Finding, ...]:
    """Look for originals in all of a finished database: values, schema, and the raw file.

    Raises:
        SourceError: It cannot be read.
        DestinationError: The file cannot be read.
    """
    try:
        connection = connect(copy, "mode=ro&immutable=1", 0)
        try:
            ((encoding,),) = connection.execute("PRAGMA encoding")
            finder = Finder(originals, wide=encoding != "UTF-8", much=True)
            with steady_threads(1) as beside:  # the machine works without Python's lock
                raw = beside.submit(search_raw, copy, finder)
                tables = read_schema(connection)
                found = tuple(search_rows(connection, tables, finder))
                if raw.result():  # look everywhere, to tell in which columns it is
                    found = tuple(search_rows(connection, tables, finder, every=True))
                return (*found, *raw.result())
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise database_failure(copy, error) from error


def _meter(progress: ReportProgress, step: str, path: Path) -> Callable[[int], None]:
    """Return what adds up the bytes of a step and tells them."""
    total = path.stat().st_size
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress(Progress(step=step, bytes_done=min(done, total), bytes_total=total))

    return tell
