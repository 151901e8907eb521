"""A staging refresh against a plain clone of the same instance."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ops.demo_instance import connect
from tests.bench import peers
from tests.bench.databases import Database, make_database
from tests.bench.measure import CommandError, Contestant
from tests.bench.trees import GIB, KIB, Tree

REFRESH = "ours: staging-refresh"
FEW = Tree(name="few", files=100, directories=1, smallest=10 * KIB, largest=10 * KIB)
_PEOPLE = 10_000
_MENTIONED = 20
"""Every so many texts name somebody by his address."""

_CORPUS_WORDS = 200_000
_TEXT_LETTERS = 1400
_WORDS = (
    "the of and to in a is for that with as are this be by or which control risk evidence policy"
    " access review asset supplier incident backup network account password change audit owner"
    " measure scope requirement assessment framework standard compliant partially applied yearly"
    " monthly documented approved pending committee department service server laptop encryption key"
    " training staff contract clause annex section paragraph implemented planned treatment residual"
    " likelihood impact threat vulnerability patch release deployment continuity recovery test plan"
)
_SYLLABLES = (
    "ba be co da de fi ga ha in ka la li ma me mo na no pa pe ra re ri sa si so ta te to un ve"
)

_TABLES = """
CREATE TABLE tprm_representative (
    id integer NOT NULL PRIMARY KEY,
    email varchar(254) NOT NULL UNIQUE,
    first_name varchar(254) NULL,
    last_name varchar(254) NULL,
    phone varchar(254) NULL
);
CREATE TABLE webhooks_webhookendpoint (
    id integer NOT NULL PRIMARY KEY,
    secret varchar(128) NOT NULL,
    url varchar(512) NOT NULL,
    is_active bool NOT NULL
);
"""


def staging_database() -> Database:
    """Describe the database: of 1 GiB, with the rows of few files."""
    return Database(name="staging", size=GIB, tree=FEW)


def make_source(root: Path, database: Database) -> Path:
    """Make the database, with people in it and in its texts, and return its path.

    Raises:
        OSError: It cannot be written.
        sqlite3.Error: It cannot be written.
    """
    path = make_database(root, database)
    with closing(connect(path)) as connection:
        present = connection.execute(
            "SELECT 1 FROM sqlite_schema WHERE name = 'tprm_representative'"
        ).fetchone()
        if present is None:
            connection.executescript(_TABLES)
            connection.execute("BEGIN")
            connection.executemany(
                "INSERT INTO tprm_representative VALUES (?, ?, ?, ?, ?)", _people()
            )
            connection.execute(
                "INSERT INTO webhooks_webhookendpoint VALUES (1, 'whsec_0123456789', 'x', 1)"
            )
            chance = random.Random("texts")  # noqa: S311 - made-up texts
            corpus = " ".join(chance.choices(_WORDS.split(), k=_CORPUS_WORDS))

            def text() -> str:
                begin = chance.randrange(len(corpus) - _TEXT_LETTERS)
                return corpus[begin : begin + _TEXT_LETTERS]

            connection.create_function("text", 0, text)
            connection.execute("UPDATE core_requirementassessment SET observation = text()")
            connection.execute(
                "UPDATE core_requirementassessment SET observation = observation || ' see '"
                " || (SELECT email FROM tprm_representative AS r"
                " WHERE r.id = core_requirementassessment.rowid % ?)"
                " WHERE rowid % ? = 1",
                (_PEOPLE, _MENTIONED),
            )
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return path


def contestants(database: Path, attachments: Path, destination: Path) -> tuple[Contestant, ...]:
    """Return the refresh, and the plain clone that it is measured by."""
    return (
        peers.our_task(REFRESH, "staging-refresh", database, attachments, destination),
        peers.our_clone(database, attachments, destination),
    )


def check(name: str, destination: Path) -> None:
    """See that there is a copy, and that a refresh left nobody's address in it.

    Raises:
        CommandError: There is none, or it did.
    """
    copy = peers.database_at(destination)
    if not copy.exists():
        raise CommandError(f"{name}: made no database")
    with closing(sqlite3.connect(copy)) as connection:
        ((people,),) = connection.execute("SELECT count(*) FROM tprm_representative")
        ((named,),) = connection.execute(
            "SELECT count(*) FROM core_requirementassessment WHERE observation LIKE '%@example.org'"
        )
    if people != _PEOPLE or (named == 0) != (name == REFRESH):
        raise CommandError(f"{name}: {people:,} people, {named:,} texts with their addresses")


def _people() -> Iterator[tuple[int, str, str, str, str]]:
    chance = random.Random("people")  # noqa: S311 - made-up people
    for number in range(_PEOPLE):
        given, family = _word(chance).capitalize(), _word(chance).capitalize() + _word(chance)
        yield (
            number,
            f"{given}.{family}.{number}@example.org".lower(),
            given,
            family,
            f"+33 1 {number:08}",
        )


def _word(chance: random.Random) -> str:
    return "".join(chance.choices(_SYLLABLES.split(), k=chance.randint(1, 4)))
