"""A refresh of staging that is broken at each of its file-modifying system calls.

At its destination is the old pair or the new one, and never a byte of what was to be removed.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ops.demo_instance import build_instance, connect
from ops.model import Instance
from tests.command import from_flags, to_flags
from tests.faults.injection import CLEAN, Answer, Fault, Zygote, started_zygotes
from tests.faults.test_store import Place, left_over, strike
from tests.faults.zygote import supported

pytestmark = pytest.mark.skipif(
    not supported(), reason="the filter that stops at system calls is for Linux on x86-64"
)

SECRETS = (b"alice.planted@corp.example", b"whsec_planted_0123456789", b"Planted-content")
OLD, LABEL = "old-staging", "ciso_ops_staging"


@pytest.fixture(scope="module")
def zygotes() -> Iterator[list[Zygote]]:
    """Keep processes that run the program."""
    with started_zygotes() as started:
        yield started


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Make what every run begins with: an instance with secrets, and an old pair."""
    place = Place(directory=tmp_path_factory.mktemp("refreshing"))
    place.store.mkdir()
    plant(build_instance(place.directory / "source", evidences=4))
    old = build_instance(place.directory / "live", evidences=2)
    with closing(connect(old.database)) as connection:
        connection.execute("UPDATE iam_folder SET name = ?", (OLD,))
    return place


def plant(instance: Instance) -> None:
    """Put secrets into rows, free pages and files."""
    address, secret, _ = (text.decode() for text in SECRETS)
    with closing(connect(instance.database)) as connection:
        connection.execute(
            "CREATE TABLE webhooks_webhookendpoint"
            " (id integer PRIMARY KEY, secret text NOT NULL, url text NOT NULL)"
        )
        connection.execute("INSERT INTO webhooks_webhookendpoint VALUES (1, ?, 'x')", (secret,))
        connection.execute("UPDATE iam_user SET email = ?", (address,))
        connection.execute("UPDATE core_evidence SET name = name || ' by ' || ?", (address,))
        connection.execute("CREATE TABLE gone (text)")
        connection.executemany("INSERT INTO gone VALUES (?)", [(address * 40,)] * 50)
        connection.execute("DELETE FROM gone")
    for path in instance.attachments.rglob("*"):
        if path.is_file():
            path.write_bytes(SECRETS[2] + path.read_bytes())


def refresh(place: Place, zygote: Zygote, fault: Fault = CLEAN) -> Answer:
    """Refresh the pair from the source."""
    arguments = ("staging-refresh", *from_flags(place.source), *to_flags(place.pair), "--force")
    live = place.pair.database.parent
    return zygote.run(arguments, site=place.site(), watched=(live,), fault=fault)


def secrets_in(*places: Path) -> set[bytes]:
    """Find the secrets in the bytes of files, also of those below directories."""
    files = [path for place in places for path in (place, *place.rglob("*")) if path.is_file()]
    contents = [path.read_bytes().lower() for path in files]
    return {secret for secret in SECRETS for content in contents if secret.lower() in content}


def at_destination(place: Place) -> tuple[Path, ...]:
    """Name all that whoever uses the destination opens."""
    database = place.pair.database
    sidecars = (database.with_name(database.name + end) for end in ("-wal", "-shm", "-journal"))
    return (database, place.pair.attachments, *sidecars)


def kind_of(place: Place) -> str:
    """Tell which database is there, "old" or "new", and see that it is sound."""
    uri = f"file:{place.pair.database}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        folders = [name for (name,) in connection.execute("SELECT name FROM iam_folder")]
    assert (LABEL in names) != (OLD in folders)
    return "new" if LABEL in names else "old"


def test_a_refresh_that_is_broken_never_shows_a_secret(
    template: Place, zygotes: list[Zygote]
) -> None:
    assert secrets_in(template.source.database, template.source.attachments) == set(SECRETS)

    def judge(place: Place, answer: Answer, zygote: Zygote) -> None:
        assert not secrets_in(*at_destination(place))
        database, attachments = place.pair.database, place.pair.attachments
        if database.exists() and attachments.exists():
            kind = kind_of(place)
            assert answer.code != 0 or kind == "new"
        again = refresh(place, zygote)
        assert again.code == 0, again.err
        assert kind_of(place) == "new"
        assert not secrets_in(database.parent)
        assert left_over(place) == set()
        assert sorted(os.listdir(database.parent)) == sorted((database.name, attachments.name))

    assert strike(template, zygotes, refresh, judge) > 20
