"""The power goes, at any moment: afterwards there is the old pair or the new one, never a mixture.

Real clones onto real file systems (ext4, XFS, one for each half) die at one of their calls, the
file systems are shut down with what they had not written, and mounted again.
"""

import random
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from ops.demo_instance import build_instance, connect
from ops.model import Instance
from tests.faults import FULL
from tests.faults.power import (
    KEEPS,
    LOSES,
    Call,
    Case,
    Cut,
    Layout,
    Machine,
    Tally,
    machine,
    recovering,
    relapse,
    strike,
)

_REST_SECONDS = 0.2
"""What was just written is read again and again until a tick of the clock has gone by."""

QUICK = [Layout(database="ext4"), Layout(database="ext4", attachments="xfs")]
EVERY = [
    *QUICK,
    Layout(database="xfs"),
    Layout(database="xfs", attachments="ext4"),
    *(
        Layout(database="ext4", attachments=other, before=before)
        for before in ("wal", "nothing")
        for other in ("", "xfs")
    ),
]


@pytest.fixture
def source(tmp_path: Path) -> Instance:
    """Make a small instance to be cloned, at rest."""
    made = build_instance(tmp_path / "source", evidences=3, seed=1)
    (made.attachments / "folder").mkdir()
    (made.attachments / "folder" / "note.txt").write_text("note")
    time.sleep(_REST_SECONDS)
    return made


def cases(site: Machine) -> Iterator[Case]:
    """Choose where to die, and how much is lost then: every call, or a sample of them."""
    for index, call in enumerate(site.calls):
        chosen = every_cut(site, index) if FULL else some_cuts(site, index)
        for number, cuts in enumerate(chosen):
            mender = "recover" if (index + number) % 2 else "clone"
            yield Case(call=call, cuts=cuts, mender=mender)


def every_cut(site: Machine, index: int) -> list[tuple[Cut, ...]]:
    """List what may be lost at a call.

    While a journal is there, each file system may lose what it likes, whatever the other does.
    """
    several = len(site.volumes)
    if index in site.committed:
        return list(product((LOSES, KEEPS), repeat=several))
    return [(LOSES,) * several, (KEEPS,) * several]


def some_cuts(site: Machine, index: int) -> list[tuple[Cut, ...]]:
    """Choose among the cuts at a call those that tell most."""
    committed = site.committed
    if len(site.volumes) > 1:
        mixed = (KEEPS, LOSES) if index % 2 else (LOSES, KEEPS)
        return [mixed] * (index in committed)
    if index in committed:
        return [(LOSES,), (KEEPS,)]
    early = random.Random(0).sample(range(site.publishing), 3)  # noqa: S311 - always the same
    near = site.publishing <= index < committed.stop + 3
    late = index >= committed.stop and index % 3 == 0
    return [(LOSES,)] * (near or late or index in early)


def calls_again(site: Machine) -> list[Call]:
    """Choose at which calls the recovery of what was stored dies as well."""
    calls = recovering(site)
    return list(calls if FULL else calls[::5])


@pytest.mark.parametrize("layout", EVERY if FULL else QUICK, ids=str)
def test_every_power_cut_ends_in_the_old_pair_or_the_new_one(
    layout: Layout, source: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally()
    relapsed = set()
    with machine(layout, source, tmp_path) as site:
        for case in cases(site):
            state = strike(site, case, tally)
            half = state.name == "UNFINISHED" and state.database != state.attachments
            again = state.name == "UNFINISHED" if FULL else half and len(site.volumes) == 1
            if again and state not in relapsed:
                relapsed.add(state)
                for number, call in enumerate(calls_again(site)):
                    mender = "clone" if number % 3 == 2 else "recover"
                    relapse(site, state, replace(case, call=call, mender=mender), tally)
    with capsys.disabled():
        sys.stdout.write(f"\n{tally.table()}\n")
    assert tally.wrong == []
    assert {"UNFINISHED", "to OLD", "to NEW"} <= set(tally.total)


BIG = [("ext4", ""), ("xfs", ""), ("ext4", "xfs")]


@pytest.fixture
def big_source(tmp_path: Path) -> Instance:
    """Make an instance of some hundred files and a database of some MiB, at rest."""
    made = build_instance(tmp_path / "source", evidences=300, seed=1)
    connection = connect(made.database)
    connection.execute("CREATE TABLE notes (id integer PRIMARY KEY, text blob)")
    connection.execute("BEGIN")
    for seed in range(100):
        text = random.Random(seed).randbytes(40_000)  # noqa: S311 - made-up contents
        connection.execute("INSERT INTO notes (text) VALUES (?)", (text,))
    connection.execute("COMMIT")
    connection.close()
    time.sleep(_REST_SECONDS)
    return made


@pytest.mark.parametrize("before", ["pair", "wal", "nothing"] if FULL else ["pair"])
@pytest.mark.parametrize(("database", "attachments"), BIG)
def test_what_exit_0_says_survives_a_power_cut(
    database: str, attachments: str, before: str, big_source: Instance, tmp_path: Path
) -> None:
    layout = Layout(database=database, attachments=attachments, before=before)
    with machine(layout, big_source, tmp_path, traced=False) as site:
        site.start()
        answer = site.clone()
        assert answer.code == 0, answer.err
        site.cut(LOSES)
        assert site.state().name == "NEW"
        answer = site.clone()
        assert answer.code == 0, answer.err
        site.cut(LOSES)
        assert site.state().name == "NEW"


@pytest.mark.parametrize(("database", "attachments"), BIG if FULL else BIG[:1])
def test_what_was_not_flushed_is_seen_to_be_lost(
    database: str, attachments: str, source: Instance, tmp_path: Path
) -> None:
    """These tests would see a clone that forgot its flushes."""
    layout = Layout(database=database, attachments=attachments)
    with machine(layout, source, tmp_path, traced=False) as site:
        seen = []
        for cut in (LOSES, KEEPS):
            site.start()
            answer = site.clone(unflushed=True)
            assert answer.code == 0, answer.err
            assert site.state().name == "NEW"
            site.cut(cut)
            seen.append(site.state())
        assert seen[0].name == "OLD"
        assert seen[1].name == "BROKEN"
