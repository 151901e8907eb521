"""The catalogue of a tree: a mapping in the order of the walk, however much it holds."""

import gc
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ops.errors import DestinationError
from ops.model import Entry, Kind
from ops.tree import spool
from ops.tree.blocks import BLOCK_RECORDS, pack, unpack
from ops.tree.catalogue import Catalogue, catalogue_of
from ops.tree.metadata import ALL_KEPT, Kept
from ops.tree.records import NAME, Record, entry_of, record_of
from ops.tree.spool import Spool
from tests.mounting import tmpfs

_names = st.sampled_from([b"a", b"b", b"a-", b"\xff", b"A", b"a a", b"\n", b"long" * 60])
_digests = st.sampled_from(["", "0f" * 32, "f0" * 32])
_numbers = st.integers(0, 2**63)


def join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def entries_at(path: bytes, kinds: st.SearchStrategy[Kind]) -> st.SearchStrategy[Entry]:
    """Entries with this path: of these kinds, and with everything that an entry has."""
    entries = st.builds(
        Entry,
        path=st.just(path),
        kind=kinds,
        mode=st.integers(0, 0o7777),
        uid=st.integers(0, 2**32 - 1),
        gid=st.integers(0, 2**32 - 1),
        modified_ns=st.integers(-(2**62), 2**62),
        accessed_ns=st.integers(-(2**62), 2**62),
        size=st.integers(0, 99),
        device=st.integers(0, 2**32 - 1),
        target=st.binary(max_size=3),
        xattrs=st.sampled_from([(), (("user.a", b"\xff"), ("user.\udcff", b""))]),
        digest=_digests,
        link=st.sampled_from([b"", b"a", b"b/a"]),
        identity=st.tuples(_numbers, _numbers),
        changed_ns=st.integers(-1, 2**62),
        links=st.integers(1, 3),
        allocated=st.integers(0, 2**40),
    )
    return entries.map(
        lambda entry: entry if entry.kind is Kind.FILE else replace(entry, size=0, digest="")
    )


_kinds = st.sampled_from([Kind.FILE, Kind.FILE, Kind.FILE, *(set(Kind) - {Kind.DIRECTORY})])
_kept = st.builds(Kept, owner=st.booleans(), group=st.booleans(), xattrs=st.booleans())
_Listed = tuple[Entry, Kept]


@st.composite
def listings(draw: st.DrawFn, directory: bytes) -> dict[bytes, _Listed]:
    """Draw some files of a directory, by their names."""
    names = draw(st.lists(_names, max_size=5, unique=True))
    return {name: draw(listed(join(directory, name), _kinds)) for name in names}


def listed(path: bytes, kinds: st.SearchStrategy[Kind]) -> st.SearchStrategy[_Listed]:
    return st.tuples(entries_at(path, kinds), st.one_of(st.just(ALL_KEPT), _kept))


_directory = st.just(Kind.DIRECTORY)


@dataclass
class Folder:
    """What the model knows of a directory."""

    own: _Listed | None = None
    below: set[bytes] = field(default_factory=set)
    files: dict[bytes, _Listed] = field(default_factory=dict)


class Model(dict[bytes, Folder]):
    """The plain form of a catalogue."""

    def walk(self, path: bytes = b"") -> Iterator[tuple[bytes, _Listed]]:
        if path not in self:
            return
        folder = self[path]
        if folder.own is not None:
            yield path, folder.own
        for name in sorted(folder.files):
            yield join(path, name), folder.files[name]
        for name in sorted(folder.below):
            yield from self.walk(join(path, name))

    def take_out(self, path: bytes) -> set[bytes]:
        """Remove a directory; returns the paths of the entries that it held."""
        gone = {below for below, _ in self.walk(path)}
        for below in [
            one for one in self if not path or one == path or one.startswith(path + b"/")
        ]:
            del self[below]
        directory, _, name = path.rpartition(b"/")
        if path and directory in self:
            self[directory].below.discard(name)
        return gone


def assert_same(catalogue: Catalogue, model: Model) -> None:
    """Compare a catalogue with the model, in every way of looking at it."""
    expected = dict(model.walk())
    entries = {path: entry for path, (entry, _) in expected.items()}
    order = list(expected)
    assert list(catalogue) == order
    assert [entry.path for entry in catalogue.values()] == order
    assert list(catalogue.items()) == list(entries.items())
    assert list(catalogue.values()) == list(entries.values())
    assert len(catalogue) == len(order)
    assert dict(catalogue) == entries
    assert catalogue == entries
    assert catalogue.keys() == entries.keys()
    for path, entry in reversed(entries.items()):
        assert catalogue[path] == entry
        assert path in catalogue
        record = catalogue.record(path)
        assert record is not None
        folder = path if entry.kind is Kind.DIRECTORY else path.rpartition(b"/")[0]
        assert entry_of(folder, record) == entry
    for path in (b"nowhere", b"a/nowhere", b"nowhere/a", b"nowhere/a/b", b"/", b"a/"):
        assert path not in catalogue
        assert catalogue.get(path) is None
        with pytest.raises(KeyError):
            catalogue[path]
    nothing: object = "a"
    assert nothing not in catalogue
    assert list(catalogue.below(b"nowhere")) == []
    assert list(catalogue.files()) == [
        path for path, entry in entries.items() if entry.kind is Kind.FILE
    ]
    _assert_tally(catalogue, expected)
    assert sorted(catalogue.folders()) == sorted(model)
    for path, known in model.items():
        own = catalogue.own(path)
        assert (own and entry_of(path, own)) == (known.own and known.own[0])
        assert catalogue.subdirectories(path) == tuple(sorted(known.below))
        below = [join(directory, record[NAME]) for directory, record in catalogue.below(path)]
        inside = dict(model.walk(path))
        assert below == [one for one in inside if inside[one][0].kind is not Kind.DIRECTORY]
        records = [record for packed in catalogue.packed(path) for record in unpack(packed)]
        assert [record[NAME] for record in records] == sorted(known.files)
        for low, high in ((b"", b"a-"), (b"a", b"b"), (b"b", None), (b"\xff", None)):
            within = [name for name in sorted(known.files) if low <= name < (high or b"\xff\xff")]
            some = {
                record[NAME]
                for packed in catalogue.packed(path, low, high)
                for record in unpack(packed)
            }
            assert some >= set(within)


def _assert_tally(catalogue: Catalogue, expected: Mapping[bytes, _Listed]) -> None:
    others = [entry for entry, _ in expected.values() if entry.kind is not Kind.DIRECTORY]
    files = [entry for entry in others if entry.kind is Kind.FILE]
    assert catalogue.tally() == (
        len(others),
        len(files),
        sum(entry.size for entry in files if entry.digest),
        sum(not kept.owner for _, kept in expected.values()),
        sum(not kept.group for _, kept in expected.values()),
        sum(not kept.xattrs for _, kept in expected.values()),
    )


def records_of(files: Mapping[bytes, _Listed]) -> list[Record]:
    return [record_of(name, *files[name]) for name in sorted(files)]


class CatalogueMachine(RuleBasedStateMachine):
    """Does to a catalogue what the passes do, and to a plain model of it."""

    def __init__(self) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        self._directory = tempfile.TemporaryDirectory()
        self.catalogue = Catalogue()
        self.model = Model()

    @initialize(spill_bytes=st.sampled_from([0, 1000, 1 << 30]))
    def begin(self, spill_bytes: int) -> None:
        """Begin with an empty one that spills early, later or never."""
        self._patch.setattr(spool, "_SPILL_BYTES", spill_bytes)
        self.catalogue = Catalogue(Path(self._directory.name))

    def teardown(self) -> None:
        self._patch.undo()
        self._directory.cleanup()

    def _folder(self, data: st.DataObject) -> bytes:
        return data.draw(st.sampled_from(sorted(self.model)))

    def _free_name(self, data: st.DataObject, path: bytes) -> bytes:
        taken = self.model[path].below | self.model[path].files.keys()
        return data.draw(_names.filter(lambda name: name not in taken))

    @rule(data=st.data())
    def set_root(self, data: st.DataObject) -> None:
        """Note the root, maybe anew."""
        own = data.draw(listed(b"", _directory))
        folder = self.model.setdefault(b"", Folder())
        folder.own = own
        self.catalogue.set_folder(b"", record_of(b"", *own), folder.below)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), known=st.booleans())
    def add_directory(self, data: st.DataObject, known: bool) -> None:
        """Note a new directory, maybe without a record of its own."""
        path = self._folder(data)
        if len(self.model[path].below | self.model[path].files.keys()) > 6:
            return
        name = self._free_name(data, path)
        below = join(path, name)
        own = data.draw(listed(below, _directory)) if known else None
        self.model[path].below.add(name)
        self.model[below] = Folder(own)
        # In no order, and the parent first, as the walk finds them.
        names = data.draw(st.permutations(sorted(self.model[path].below)))
        self.catalogue.set_folder(path, self.catalogue.own(path), names)
        self.catalogue.set_folder(below, None if own is None else record_of(b"", *own), ())

    @precondition(lambda self: self.model)
    @rule(data=st.data(), size=st.integers(1, 3))
    def set_blocks(self, data: st.DataObject, size: int) -> None:
        """Note all files of a directory, in blocks of a size, empty ones among them."""
        path = self._folder(data)
        files = data.draw(listings(path))
        files = {name: one for name, one in files.items() if name not in self.model[path].below}
        records = records_of(files)
        blocks = [pack(records[at : at + size]) for at in range(0, len(records), size)]
        for at in data.draw(st.lists(st.integers(0, len(blocks)), max_size=2)):
            blocks.insert(at, pack([]))
        self.catalogue.set_blocks(path, blocks)
        self.model[path].files = files
        assert self.catalogue.is_large(path) == (len(records) > size)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def add(self, data: st.DataObject) -> None:
        """Add some files, in no order, and forget some names."""
        path = self._folder(data)
        files = data.draw(listings(path))
        files = {name: one for name, one in files.items() if name not in self.model[path].below}
        without = data.draw(st.frozensets(_names, max_size=3))
        records = data.draw(st.permutations(records_of(files)))
        self.catalogue.add(path, records, without=without)
        kept = self.model[path].files
        self.model[path].files = {
            name: one for name, one in kept.items() if name not in without
        } | files

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """Forget a directory."""
        path = self._folder(data)
        without_record = {one for one, folder in self.model.items() if folder.own is None}
        dropped = self.catalogue.drop(path)
        gone = self.model.take_out(path)
        assert len(dropped) == len(set(dropped))
        assert gone <= set(dropped) <= gone | without_record

    @rule(path=st.sampled_from([b"nowhere", b"a/nowhere", b"nowhere/a"]))
    def drop_what_is_unknown(self, path: bytes) -> None:
        """Forget what was never known."""
        assert self.catalogue.drop(path) == []

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def leave_out(self, data: st.DataObject) -> None:
        """List a directory that is then found to be gone."""
        path = self._folder(data)
        below = sorted(self.model[path].below)
        self.catalogue.set_folder(path, self.catalogue.own(path), [*below, b"vanished"])
        assert b"vanished" in self.catalogue.subdirectories(path)
        self.catalogue.leave_out(join(path, b"vanished"))

    @invariant()
    def is_as_the_model(self) -> None:
        """Compare the two, and find nothing on disk."""
        assert_same(self.catalogue, self.model)
        assert os.listdir(self._directory.name) == []


TestCatalogueMachine = CatalogueMachine.TestCase


# Catalogues made of entries


@st.composite
def entry_trees(draw: st.DrawFn) -> Model:
    """Draw a whole tree, some of its directories without records."""
    model = Model()

    def fill(path: bytes, depth: int) -> None:
        own = draw(st.one_of(listed(path, _directory), st.none()))
        model[path] = folder = Folder(own and (own[0], ALL_KEPT))
        for name in draw(st.lists(_names, max_size=4, unique=True)):
            if depth and draw(st.booleans()):
                folder.below.add(name)
                fill(join(path, name), depth - 1)
            else:
                folder.files[name] = (draw(entries_at(join(path, name), _kinds)), ALL_KEPT)
        if path and own is None and not folder.below and not folder.files:
            model[path].own = (Entry(path=path, kind=Kind.DIRECTORY), ALL_KEPT)

    fill(b"", 3)
    return model


@given(entry_trees(), st.data())
@example(Model({b"": Folder()}), None)
def test_entries_in_any_order_make_the_same_catalogue(
    model: Model, data: st.DataObject | None
) -> None:
    entries = [entry for _, (entry, _) in model.walk()]
    assert_same(catalogue_of(entries), model)
    assert_same(catalogue_of(reversed(entries)), model)
    if data is not None:
        assert_same(catalogue_of(iter(data.draw(st.permutations(entries)))), model)
        assert_same(catalogue_of(sorted(entries, key=lambda entry: entry.path)), model)
    assert catalogue_of(catalogue_of(entries).values()) == catalogue_of(entries)


_MANY = 10_500


def _many(count: int = _MANY) -> list[Entry]:
    digest = "ab" * 32
    below = [
        Entry(path=b"d/%07d" % number, kind=Kind.FILE, size=number, digest=digest)
        for number in range(count)
    ]
    folders = [Entry(path=path, kind=Kind.DIRECTORY) for path in (b"", b"d")]
    return [folders[0], *folders[1:], *below]


@pytest.mark.parametrize("spill_bytes", [0, 1 << 20, 1 << 30])
@pytest.mark.parametrize("backwards", [True, False])
def test_many_entries_are_kept_in_blocks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spill_bytes: int, backwards: bool
) -> None:
    monkeypatch.setattr(spool, "_SPILL_BYTES", spill_bytes)
    entries = _many()
    found = catalogue_of(reversed(entries) if backwards else entries, tmp_path)
    assert list(found.values()) == entries
    assert len(found) == len(entries)
    assert found.tally()[:3] == (_MANY, _MANY, _MANY * (_MANY - 1) // 2)
    assert found.is_large(b"d")
    assert not found.is_large(b"")
    assert len(found.packed(b"d")) == -(-_MANY // BLOCK_RECORDS)
    assert len(found.packed(b"d", b"0000200", b"0000400")) == 1
    for number in (0, 1, BLOCK_RECORDS - 1, BLOCK_RECORDS, _MANY - 1):
        assert found[b"d/%07d" % number].size == number
    assert b"d/%07d" % _MANY not in found
    assert b"d/000000" not in found
    assert list(tmp_path.glob("[!h]*")) == []


def test_what_is_known_of_a_directory_is_not_that_of_another_one() -> None:
    # Lookups keep some blocks at hand: what was changed or forgotten is not among them.
    found = catalogue_of(_many(1000))
    assert found[b"d/0000500"].size == 500
    found.add(b"d", [record_of(b"0000500", Entry(path=b"x", kind=Kind.FILE, size=7), ALL_KEPT)])
    assert found[b"d/0000500"].size == 7
    found.add(b"d", [], without={b"0000500"})
    assert b"d/0000500" not in found
    found.drop(b"d")
    assert b"d/0000501" not in found
    found.set_folder(b"", found.own(b""), [b"d"])
    found.set_folder(b"d", None, [])
    assert b"d/0000501" not in found
    assert list(found) == [b""]


def test_lookups_all_over_a_large_catalogue_are_right() -> None:
    found = catalogue_of(_many(20_000))
    for number in range(0, 20_000, 97):
        assert found[b"d/%07d" % number].size == number
    for number in range(19_999, 0, -101):
        assert found[b"d/%07d" % number].size == number


# The spool


@given(st.lists(st.binary(max_size=50), max_size=30), st.integers(0, 300))
@example([b"", b"", b"x"], 0)
def test_what_is_stored_is_loaded_again_from_memory_or_disk(
    pieces: list[bytes], spill_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "_SPILL_BYTES", spill_bytes)
        kept = Spool(Path(name))
        stored = [kept.store(piece) for piece in pieces]
        assert [kept.load(one) for one in stored] == pieces
        assert [kept.load(one) for one in reversed(stored)] == pieces[::-1]
        in_memory = [one for one in stored if isinstance(one, bytes)]
        assert sum(map(len, in_memory)) <= spill_bytes
        assert os.listdir(name) == []


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_the_file_is_closed_with_its_spool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spool, "_SPILL_BYTES", 0)
    gc.collect()
    before = _open_files()
    kept = Spool(tmp_path)
    kept.store(b"x")
    assert _open_files() == before + 1
    del kept
    gc.collect()
    assert _open_files() == before
    found = catalogue_of(_many(1000), tmp_path)
    assert _open_files() == before + 1
    del found
    gc.collect()
    assert _open_files() == before


def test_a_spool_that_finds_no_room_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_SPILL_BYTES", 1 << 16)
    with tmpfs("256k") as place:
        _fill_spool(place)
        gc.collect()  # an open file would keep the place busy


def _fill_spool(place: Path) -> None:
    kept = Spool(place)
    stored = [kept.store(bytes([number]) * 1000) for number in range(100)]
    with pytest.raises(DestinationError, match=r"cannot write to .*: No space left") as caught:
        kept.store(bytes(1 << 20))
    assert str(place) in caught.value.message
    assert caught.value.hint == "free some space or inodes, or choose another file system"
    assert [kept.load(one)[0] for one in stored] == list(range(100))
    with pytest.raises(DestinationError, match="No space left"):
        catalogue_of(_many(5000), place)


def test_a_place_where_nothing_can_be_made_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(spool, "_SPILL_BYTES", 0)
    with pytest.raises(DestinationError, match=r"cannot write to .*/nowhere: No such file"):
        Spool(tmp_path / "nowhere").store(b"x")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(DestinationError, match=r"cannot write to .*/none: No such file"):
        Spool(None).store(b"x")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert Spool(None).store(b"x") == (0, 1)
