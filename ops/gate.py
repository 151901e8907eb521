"""Decide whether a copied tree and a pinned database belong together."""

import sqlite3
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from ops.profile import Profile
from ops.references import by_path, normal_path, read_references, resolve
from ops.sqlite.connection import sqlite_failure
from ops.sqlite.content import NamedFile
from ops.sqlite.source import OpenDatabase
from ops.tree.catalogue import Catalogue
from ops.tree.records import DIGEST, FLAGS, UNSETTLED


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """The paths that rows name and a copy does not have, and those of files that are not theirs."""

    absent: frozenset[bytes]
    moving: frozenset[bytes]


def mismatched_files(
    named: Iterable[NamedFile], entries: Catalogue, moving: AbstractSet[bytes]
) -> Mismatch:
    """List the paths that rows name and the copy does not have, or has otherwise.

    Otherwise means that a file changed just now and is not what its row recorded, or changed
    each time it was read. A file at rest whose digest is not the recorded one is the
    application's own mistake.

    Args:
        named: The rows that name files.
        entries: The copy.
        moving: The paths that were copied again in this round.
    """
    absent: set[bytes] = set()
    wrong: set[bytes] = set()
    for row in by_path(named):
        path = normal_path(row.path)
        if path is None:
            continue
        found = resolve(path, entries)
        if found is None:
            absent.add(path)
        elif found[0] in moving:
            record = found[1]
            differs = row.digest and record[DIGEST] and row.digest != record[DIGEST].hex()
            if differs or record[FLAGS] & UNSETTLED:
                wrong.add(found[0])
    return Mismatch(absent=frozenset(absent), moving=frozenset(wrong))


class Matching:
    """Whether files and rows belong together, asked once for each pin.

    Args:
        profile: Which columns name files.
        entries: The copy, as it is brought up to date.
    """

    def __init__(self, profile: Profile, entries: Catalogue) -> None:
        self.recopied = 0
        self._profile = profile
        self._entries = entries
        self._absent: frozenset[bytes] = frozenset()

    def ask(self, database: OpenDatabase, moving: AbstractSet[bytes]) -> bool:
        """Tell whether every file that the pinned rows name is in the copy, and is theirs.

        What is absent twice is absent in the source: the check will say so.

        Args:
            database: The source, pinned.
            moving: The files that changed in this round.

        Raises:
            OpsError: The rows cannot be read.
        """
        self.recopied += len(moving)
        try:
            named = read_references(database.connection, self._profile)
            found = mismatched_files(named, self._entries, moving)
        except sqlite3.Error as error:
            raise sqlite_failure(database.file.path, error) from error
        before, self._absent = self._absent, found.absent
        return not (self._absent - before or found.moving)
