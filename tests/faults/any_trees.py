"""Strategies for trees of everything, and two such trees: one of each, and a few."""

import os
import stat
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tests.faults.anything import (
    CAPABILITY,
    Directory,
    File,
    Link,
    Node,
    Special,
    Traits,
    Tree,
    access_list,
    flatten,
)
from tests.strategies import names as short_names

if TYPE_CHECKING:
    from tests.faults.anything import Parts

MIB = 1 << 20
HOLES = (4096, 5000, 65536, MIB + 1)

names = st.one_of(
    short_names,
    st.binary(min_size=200, max_size=255).map(
        lambda data: data.replace(b"/", b"_").replace(b"\0", b"_")
    ),
)

identities = st.sampled_from([0, 1, 1000, 65534, 65536, 2**31, 2**32 - 2])

# Before 1901, before 1970, around it, now, after 2038, after 2106, after 2446.
times = st.one_of(
    st.integers(-(10**11) * 10**9, 10**11 * 10**9),
    st.integers(0, 2 * 10**18),
    st.sampled_from([-1, 0, 1, 999_999_999, -(2**31) * 10**9 - 1, 2**31 * 10**9, 2**32 * 10**9]),
)

xattrs = st.dictionaries(
    st.sampled_from(
        [
            *("user.origin", "user.a=b", "user. %0a\n", "user.\udcff\u00e9", f"user.{'x' * 250}"),
            *("trusted.note", "trusted.overlay.opaque", "security.other"),
        ]
    ),
    st.one_of(st.binary(max_size=40), st.sampled_from([b"x" * 800, b"y" * 799])),
    max_size=3,
)
capabilities = st.sampled_from([None, None, struct.pack("<5I", 0x02000001, 0x400, 0x400, 0, 0)])
rights = st.integers(0, 7)
others = st.dictionaries(st.integers(0, 2**32 - 2), rights, max_size=2)
access_lists = st.one_of(
    st.just(b""), st.builds(access_list, st.tuples(rights, rights, rights, rights), others, others)
)


@st.composite
def traits(draw: st.DrawFn) -> Traits:
    """Any metadata."""
    pairs = draw(xattrs)
    capability = draw(capabilities)
    if capability is not None:
        pairs[CAPABILITY] = capability
    return Traits(
        mode=draw(st.integers(0, 0o7777)),
        owner=draw(st.tuples(identities, identities)),
        modified_ns=draw(times),
        accessed_ns=draw(times),
        xattrs=tuple(sorted(pairs.items())),
        access=draw(access_lists),
        default=draw(access_lists),
    )


# Around a page, and around the buffers that copiers have.
sizes = st.one_of(
    st.integers(0, 20_000),
    st.sampled_from([0, 1, 4095, 4096, 4097, 65535, 65537, 262_143, 262_145, MIB + 1]),
)
dense = st.builds(
    File,
    pieces=sizes.map(lambda size: ((0, size),)),
    unwritten=st.sampled_from([0, 0, 0, 100_000]),
    traits=traits(),
)
sparse = st.builds(
    File,
    pieces=st.lists(
        st.tuples(st.sampled_from([0, *HOLES]), st.sampled_from([1, 4096, 10_000])), max_size=3
    ).map(tuple),
    tail=st.sampled_from([0, *HOLES]),
    traits=traits(),
)
large = st.builds(File, pieces=st.just(((0, 9 * MIB),)), traits=traits())
links = st.builds(
    Link,
    target=st.one_of(
        st.sampled_from([b".", b"no/where", b"/etc/passwd", b"/dev/zero", b"../../up", b"\xff\n"]),
        st.sampled_from([59, 60, 61, 255, 1000]).map(lambda size: b"n/" * (size // 2) + b"n"),
    ),
    traits=traits(),
)
CHARACTERS = [(0, 0), (1, 3), (1, 8), (511, 70_000)]
BLOCKS = [(7, 99), (259, 70_000)]
specials = st.one_of(
    st.builds(Special, kind=st.sampled_from([stat.S_IFIFO, stat.S_IFSOCK]), traits=traits()),
    *(
        st.builds(
            Special,
            kind=st.just(kind),
            device=st.sampled_from([os.makedev(*numbers) for numbers in devices]),
            traits=traits(),
        )
        for kind, devices in ((stat.S_IFCHR, CHARACTERS), (stat.S_IFBLK, BLOCKS))
    ),
)


def crowd(count: int) -> Directory:
    """Make a directory of many small files, which several hands may copy at once."""
    children: dict[bytes, Node] = {
        b"%d" % number: File(pieces=((0, number * 37 % 5000),)) for number in range(count)
    }
    return Directory(children=children)


crowds = st.integers(0, 200).map(crowd)
leaves: st.SearchStrategy[Node] = st.one_of(dense, sparse, links, specials, crowds)
rarely_large = st.integers(0, 30).flatmap(lambda dice: large if dice == 30 else leaves)


def directories(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    """Directories of any children."""
    return st.builds(
        Directory, children=st.dictionaries(names, children, max_size=6), traits=traits()
    )


nodes = st.recursive(rarely_large, directories, max_leaves=20)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Trees of everything, with hard links of anything but directories across directories."""
    children = draw(st.dictionaries(names, nodes, max_size=6))
    root = Directory(children=children, traits=draw(traits()))
    flat = list(flatten(root))
    targets = [parts for parts, node in flat if not isinstance(node, Directory)]
    places: list[Parts] = [(), *(parts for parts, node in flat if isinstance(node, Directory))]
    if not targets:
        return Tree(root=root)
    taken = {parts for parts, _ in flat}
    new = st.builds(lambda place, name: (*place, name), st.sampled_from(places), names)
    linked = draw(st.dictionaries(new, st.sampled_from(targets), max_size=4))
    return Tree(root=root, names=tuple(pair for pair in linked.items() if pair[0] not in taken))


def everything() -> Tree:
    """One of each."""
    open_to_some = access_list((7, 5, 7, 0), {1000: 7, 2**32 - 2: 0}, {50: 5})
    attributed = Traits(
        mode=0o4751,
        owner=(1000, 2**32 - 2),
        modified_ns=-1,
        accessed_ns=2**32 * 10**9 + 1,
        xattrs=(
            (CAPABILITY, struct.pack("<5I", 0x02000001, 0x400, 0x400, 0, 0)),
            ("security.other", b"\0\xff"),
            ("trusted.note", b"only root reads this"),
            ("user.\udcff=%", b"x" * 800),
            ("user.empty", b""),
        ),
        access=open_to_some,
        default=open_to_some,
    )
    listed = replace(attributed, mode=0o1777, access=b"")
    specials: dict[bytes, Node] = {
        b"fifo": Special(kind=stat.S_IFIFO, traits=attributed),
        b"socket": Special(kind=stat.S_IFSOCK, traits=attributed),
    }
    for kind, devices in ((stat.S_IFCHR, CHARACTERS), (stat.S_IFBLK, BLOCKS)):
        for number, device in enumerate(devices):
            specials[b"%d.%d" % (kind, number)] = Special(
                kind=kind, device=os.makedev(*device), traits=attributed
            )
    files: dict[bytes, Node] = {
        b"%d bytes" % size: File(pieces=((0, size),), traits=attributed)
        for size in (0, 1, 4095, 4096, 4097, 262_145, MIB + 1, 9 * MIB)
    }
    holes: dict[bytes, Node] = {
        b"first": File(pieces=((MIB, 10_000),)),
        b"middle": File(pieces=((0, 1), (MIB, 4096), (5000, 1))),
        b"last": File(pieces=((0, 4097),), tail=MIB),
        b"all": File(tail=4 * MIB),
        b"unwritten": File(pieces=((0, 5000),), unwritten=MIB),
    }
    return Tree(
        root=Directory(
            children={
                b"files": Directory(children=files, traits=attributed),
                b"holes": Directory(children=holes, traits=listed),
                b"specials": Directory(children=specials),
                b"crowd": crowd(200),
                b"empty": Directory(traits=listed),
                b"locked": Directory(
                    children={b"inside": Directory(traits=Traits(mode=0)), b"file": File()},
                    traits=Traits(mode=0o555, modified_ns=2**31 * 10**9),
                ),
                b"n" * 255: File(traits=Traits(mode=0)),
                b"\xff\xfe\n": Link(target=b"/\xff\xfe\n/nowhere", traits=attributed),
                b"-rf": Link(target=b"n" * 60),
            },
            traits=attributed,
        ),
        names=(
            ((b"crowd", b"another"), (b"files", b"4097 bytes")),
            ((b"a third",), (b"files", b"4097 bytes")),
            ((b"locked", b"inside", b"pipe"), (b"specials", b"fifo")),
            ((b"crowd", b"link"), (b"-rf",)),
            ((b"holes", b"device"), (b"specials", b"%d.0" % stat.S_IFCHR)),
        ),
    )


LISTED = Traits(
    mode=0o770,
    xattrs=(("user.a", b"1"),),
    access=access_list((7, 7, 7, 0), {1000: 7}, {}),
    default=access_list((7, 5, 7, 0), {1000: 5}, {}),
)
A_NANOSECOND_LATER = Traits(modified_ns=Traits().modified_ns + 1)
OTHER = (("trusted.a", b"2"),)
FEW_FILE = File(pieces=((0, 5000),), traits=LISTED)
NAMED: dict[bytes, Node] = {b"inside": File()}


def few() -> Tree:
    """A few kinds, one of them twice and one with two names."""
    children: dict[bytes, Node] = {
        b"file": FEW_FILE,
        b"twin": FEW_FILE,
        b"link": Link(target=b"n"),
        b"fifo": Special(kind=stat.S_IFIFO),
        b"socket": Special(kind=stat.S_IFSOCK),
        b"device": Special(kind=stat.S_IFCHR),
        b"below": Directory(children=NAMED, traits=LISTED),
        b"empty": Directory(traits=Traits()),
    }
    return Tree(root=Directory(children=children), names=(((b"below", b"name"), (b"file",)),))
