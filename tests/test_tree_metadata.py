"""An entry's metadata: read as it is, kept where the process may, never widened."""

import errno
import os
import socket
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.model import Entry, Kind
from ops.tree.metadata import (
    ALL_KEPT,
    Kept,
    apply_metadata,
    apply_name_metadata,
    entry_from_stat,
    reach,
    read_xattrs,
)
from tests.filesystem import FLISTXATTR, NOBODY, unprivileged, with_refusal
from tests.strategies import times, xattrs

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving entries away takes root")
needs_xattrs = pytest.mark.skipif(
    not hasattr(os, "listxattr"), reason="this platform has no extended attributes"
)

owners = st.integers(0, 2**31) if os.geteuid() == 0 else st.just(os.geteuid())
groups = st.integers(0, 2**31) if os.geteuid() == 0 else st.just(os.getegid())


def access_list(*, default: bool = False) -> tuple[str, bytes]:
    """A POSIX access control list (acl(5)) as the kernel keeps it: user 1234 may read, mode 0640.

    Args:
        default: The one that new entries of a directory are given.
    """
    nobody_in_particular = 0xFFFFFFFF
    lines = [(0x01, 6, nobody_in_particular), (0x02, 4, 1234), (0x04, 4, nobody_in_particular)]
    lines += [(0x10, 4, nobody_in_particular), (0x20, 0, nobody_in_particular)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *line) for line in lines)
    return ("system.posix_acl_default" if default else "system.posix_acl_access"), value


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file or directory as the copier does."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


described = st.builds(
    Entry,
    path=st.just(b"entry"),
    kind=st.sampled_from([Kind.FILE, Kind.DIRECTORY]),
    mode=st.integers(0, 0o7777),
    uid=owners,
    gid=groups,
    modified_ns=times,
    accessed_ns=times,
    xattrs=xattrs,
)


@given(described)
def test_metadata_given_to_a_file_or_directory_reads_back_equal(wanted: Entry) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "entry"
        path.mkdir() if wanted.kind is Kind.DIRECTORY else path.touch()
        with opened(path) as descriptor:
            assert apply_metadata(descriptor, wanted) == ALL_KEPT
            assert read_xattrs(descriptor) == wanted.xattrs
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == wanted.mode
        assert (status.st_uid, status.st_gid) == (wanted.uid, wanted.gid)
        assert (status.st_mtime_ns, status.st_atime_ns) == (wanted.modified_ns, wanted.accessed_ns)


def test_an_entry_is_described_by_what_the_kernel_says_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket must be short
    Path("file").write_bytes(b"four")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    Path("link").symlink_to("file")
    null = Path("/dev/null").stat()
    file, directory = Path("file").stat(), tmp_path.stat()
    entry = entry_from_stat(b"file", file)
    assert entry.size == 4
    assert entry.identity == (file.st_dev, file.st_ino)
    assert entry.changed_ns == file.st_ctime_ns
    assert entry.allocated == file.st_blocks * 512
    assert entry.device == 0
    assert entry_from_stat(b"", directory).size == 0
    assert entry_from_stat(b"", directory).links == directory.st_nlink
    assert entry_from_stat(b"link", Path("link").lstat()).size == 0
    assert entry_from_stat(b"socket", Path("socket").stat()).kind is Kind.SOCKET
    assert entry_from_stat(b"null", null).device == null.st_rdev != 0


@needs_root
def test_set_user_id_survives_the_change_of_owner(tmp_path: Path) -> None:
    path = tmp_path / "tool"
    path.touch()
    with opened(path) as descriptor:
        wanted = Entry(path=b"tool", kind=Kind.FILE, mode=0o6755, uid=1234, gid=5678)
        assert apply_metadata(descriptor, wanted) == ALL_KEPT
    assert stat.S_IMODE(path.stat().st_mode) == 0o6755


@needs_root
@needs_xattrs
def test_access_lists_and_capabilities_are_kept_by_root(tmp_path: Path) -> None:
    path = tmp_path / "tool"
    path.touch()
    # capabilities(7): revision 2, effective, may bind to low ports
    capability = ("security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
    attributes = (capability, access_list())
    wanted = Entry(path=b"tool", kind=Kind.FILE, mode=0o640, uid=1234, gid=5678, xattrs=attributes)
    with opened(path) as descriptor:
        assert apply_metadata(descriptor, wanted) == ALL_KEPT
        assert read_xattrs(descriptor) == attributes
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@needs_xattrs
@pytest.mark.parametrize("directory", [False, True])
def test_what_the_place_gave_a_copy_by_itself_is_taken_away(
    tmp_path: Path, *, directory: bool
) -> None:
    # A directory with a default access control list hands it to all that is made in it.
    os.setxattr(tmp_path, *access_list(default=True))
    path = tmp_path / "entry"
    path.mkdir(0o700) if directory else path.touch(0o600)
    kind = Kind.DIRECTORY if directory else Kind.FILE
    wanted = Entry(path=b"entry", kind=kind, mode=0o600, uid=os.geteuid(), gid=os.getegid())
    with opened(path) as descriptor:
        assert read_xattrs(descriptor) != ()
        apply_metadata(descriptor, wanted)
        assert read_xattrs(descriptor) == ()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@needs_xattrs
def test_an_attribute_that_the_place_gave_a_copy_is_replaced_by_its_own(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.setxattr(path, "user.origin", b"place")
    os.setxattr(path, "user.other", b"place")
    own = (("user.origin", b"file"),)
    wanted = Entry(
        path=b"file", kind=Kind.FILE, mode=0o600, uid=os.geteuid(), gid=os.getegid(), xattrs=own
    )
    with opened(path) as descriptor:
        assert apply_metadata(descriptor, wanted) == ALL_KEPT
        assert read_xattrs(descriptor) == own


@needs_xattrs
def test_what_the_place_gave_a_pipe_by_itself_is_taken_away(tmp_path: Path) -> None:
    os.setxattr(tmp_path, *access_list(default=True))
    os.mkfifo(tmp_path / "pipe", 0o600)
    wanted = Entry(path=b"pipe", kind=Kind.FIFO, mode=0o600, uid=os.geteuid(), gid=os.getegid())
    with opened(tmp_path) as descriptor:
        apply_name_metadata(descriptor, b"pipe", wanted)
        assert read_xattrs(reach(b"pipe", descriptor)) == ()


def test_an_unprivileged_copy_is_narrowed_and_told_so() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "file"
        path.touch(0o600)
        os.chown(path, NOBODY, NOBODY) if os.geteuid() == 0 else None
        Path(name).chmod(0o755)
        wanted = Entry(
            path=b"file",
            kind=Kind.FILE,
            mode=0o6754,
            uid=0,
            gid=0,
            modified_ns=5,
            xattrs=(("trusted.origin", b"x"), ("user.origin", b"y")),
        )
        with unprivileged(), opened(path) as descriptor:
            kept = apply_metadata(descriptor, wanted)
        assert kept == Kept(owner=False, group=False, xattrs=False)
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == 0o744
        assert (status.st_uid, status.st_mtime_ns) == (NOBODY, 5)
        assert os.getxattr(path, "user.origin") == b"y"


@pytest.mark.parametrize("link", [False, True])
def test_an_unprivileged_copy_of_what_cannot_be_opened_is_narrowed_too(*, link: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "entry"
        os.chmod(name, 0o777)  # noqa: S103 - somebody else works in it
        with unprivileged():
            path.symlink_to("nowhere") if link else os.mkfifo(path)
            kind = Kind.SYMLINK if link else Kind.FIFO
            wanted = Entry(path=b"entry", kind=kind, mode=0o6777, uid=0, gid=0, modified_ns=7)
            descriptor = os.open(name, os.O_RDONLY)
            try:
                kept = apply_name_metadata(descriptor, b"entry", wanted)
            finally:
                os.close(descriptor)
        assert kept == Kept(owner=False, group=False)
        status = path.lstat()
        assert status.st_mtime_ns == 7
        assert stat.S_IMODE(status.st_mode) == 0o777
        assert status.st_uid == NOBODY


@needs_root
@given(st.integers(0, 0o7777), owners, groups, times)
def test_metadata_given_to_a_pipe_reads_back_equal(
    mode: int, uid: int, gid: int, modified: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "pipe"
        os.mkfifo(path)
        wanted = Entry(
            path=b"pipe", kind=Kind.FIFO, mode=mode, uid=uid, gid=gid, modified_ns=modified
        )
        with opened(Path(name)) as descriptor:
            assert apply_name_metadata(descriptor, b"pipe", wanted) == ALL_KEPT
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == mode
        assert (status.st_uid, status.st_gid, status.st_mtime_ns) == (uid, gid, modified)


@needs_root
def test_a_link_gets_its_owner_and_what_it_points_to_stays(tmp_path: Path) -> None:
    (tmp_path / "outside").touch(0o640)
    (tmp_path / "link").symlink_to("outside")
    before = (tmp_path / "outside").stat()
    wanted = Entry(path=b"link", kind=Kind.SYMLINK, mode=0o777, uid=12, gid=34, modified_ns=-5)
    with opened(tmp_path) as descriptor:
        assert apply_name_metadata(descriptor, b"link", wanted) == ALL_KEPT
    status = (tmp_path / "link").lstat()
    assert (status.st_uid, status.st_gid, status.st_mtime_ns) == (12, 34, -5)
    assert (tmp_path / "outside").stat() == before


@needs_xattrs
def test_an_access_list_of_a_pipe_is_kept(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    wanted = Entry(
        path=b"pipe",
        kind=Kind.FIFO,
        mode=0o640,
        uid=os.geteuid(),
        gid=os.getegid(),
        xattrs=(access_list(),),
    )
    with opened(tmp_path) as descriptor:
        assert apply_name_metadata(descriptor, b"pipe", wanted) == ALL_KEPT
        assert read_xattrs(reach(b"pipe", descriptor)) == (access_list(),)
        refused = replace(wanted, xattrs=(("user.origin", b"x"),))  # files and directories only
        assert apply_name_metadata(descriptor, b"pipe", refused) == Kept(xattrs=False)


@needs_xattrs
def test_labels_that_belong_to_the_place_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.setxattr(tmp_path / "file", "user.origin", b"x")
    try:
        os.setxattr(tmp_path / "file", "security.selinux", b"system_u:object_r:etc_t:s0\0")
    except OSError:
        pytest.skip("only root may label a file, to see the label left out")
    with opened(tmp_path / "file") as descriptor:
        assert read_xattrs(descriptor) == (("user.origin", b"x"),)


@needs_xattrs
def test_a_file_system_without_attributes_has_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with opened(tmp_path / "file") as descriptor:
        assert with_refusal(FLISTXATTR, errno.ENOTSUP, lambda: read_xattrs(descriptor)) == ()
        with pytest.raises(OSError, match="Input/output error"):
            with_refusal(FLISTXATTR, errno.EIO, lambda: read_xattrs(descriptor))


@needs_xattrs
def test_an_attribute_that_does_not_fit_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wanted = Entry(path=b"file", kind=Kind.FILE, xattrs=(("user.origin", b"x" * 65537),))
    with (
        opened(tmp_path / "file") as descriptor,
        pytest.raises(OSError, match=r"too long|No space"),
    ):
        apply_metadata(descriptor, replace(wanted, uid=os.geteuid(), gid=os.getegid()))


@needs_xattrs
@given(xattrs)
def test_attributes_are_read_in_order_by_descriptor_and_by_path(
    attributes: tuple[tuple[str, bytes], ...],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "file"
        path.touch()
        for key, value in reversed(attributes):
            os.setxattr(path, key, value)
        with opened(path) as file, opened(Path(name)) as directory:
            assert read_xattrs(file) == attributes
            assert read_xattrs(reach(b"file", directory)) == attributes


@needs_xattrs
def test_attributes_of_what_a_link_points_to_are_not_those_of_the_link(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.setxattr(tmp_path / "file", "user.origin", b"x")
    (tmp_path / "link").symlink_to("file")
    assert read_xattrs(str(tmp_path / "link")) == ()
