"""Hypothesis strategies: names, contents, trees and databases, as descriptions."""

from hypothesis import strategies as st

from tests.filesystem import Directory, File, HardLink, Link, Node, Pipe

_FORBIDDEN = {b"", b".", b".."}

# Names are bytes: well-formed text of any script, and bytes that are no text at all.
names = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=20).map(
        lambda text: text.encode()
    ),
    st.binary(max_size=20).map(lambda data: data.replace(b"/", b"_").replace(b"\0", b"_")),
    st.sampled_from([b"-rf.txt", b".hidden", b"e\xcc\x81.txt", b"\xc3\xa9.txt", b"a" * 255]),
).filter(lambda name: name not in _FORBIDDEN and len(name) <= 255)

# Empty, tiny, around a page, and with holes.
contents = st.one_of(
    st.binary(max_size=64),
    st.sampled_from([4095, 4096, 4097, 300_000]).map(lambda size: b"x" * size),
    st.binary(min_size=1, max_size=8).map(lambda data: bytes(200_000) + data),
)

# From before 1970 up to 2200, to the nanosecond.
times = st.integers(-(10**9) * 10**8, 7_258_118_400 * 10**9)

file_modes = st.integers(0, 0o7777).map(lambda mode: mode | 0o400)
directory_modes = st.integers(0, 0o7777).map(lambda mode: mode | 0o700)

xattrs = st.dictionaries(
    st.sampled_from(["user.origin", "user.checksum"]), st.binary(max_size=40), max_size=2
).map(lambda pairs: tuple(sorted(pairs.items())))

files = st.builds(File, content=contents, mode=file_modes, mtime_ns=times, xattrs=xattrs)
links = st.builds(
    Link, target=st.sampled_from([b"a", b"../b", b"no/where", b"/etc/passwd", b"\xff"])
)
pipes = st.builds(Pipe)


def directories(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Directory]:
    """Directories of any children."""
    return st.builds(
        Directory,
        children=st.dictionaries(names, children, max_size=4),
        mode=directory_modes,
        mtime_ns=times,
    )


_nodes: st.SearchStrategy[Node] = st.recursive(
    st.one_of(files, files, links, pipes), directories, max_leaves=12
)


@st.composite
def trees(draw: st.DrawFn) -> Directory:
    """Trees of every kind of entry an unprivileged process can make, hard links included."""
    tree = draw(directories(_nodes))
    targets = [path for path, node in _flatten(tree) if isinstance(node, File)]
    if not targets:
        return tree
    linked = draw(st.dictionaries(names, st.sampled_from(targets).map(HardLink), max_size=2))
    fresh = {name: node for name, node in linked.items() if name not in tree.children}
    return Directory(children={**tree.children, **fresh}, mode=tree.mode, mtime_ns=tree.mtime_ns)


def _flatten(directory: Directory, prefix: bytes = b"") -> list[tuple[bytes, Node]]:
    found: list[tuple[bytes, Node]] = []
    for name, node in directory.children.items():
        found.append((prefix + name, node))
        if isinstance(node, Directory):
            found += _flatten(node, prefix + name + b"/")
    return found
