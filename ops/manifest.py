"""The record of a copy: what every entry was, written as JSON Lines.

The first line is the head (format, time, database), then comes one line for each entry in the
order of the walk, and last a line with the number of entries and the SHA-256 of all that
precedes it, so that a manifest that was cut short or edited is noticed. `docs/manifest.md`
describes every field.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ops.model import Entry, Kind, PageDigests
from ops.names import decode_name, encode_name

FORMAT = "ciso-ops manifest"
SCHEMA_VERSION = 1
BEGINNING = b'{"format":"ciso-ops manifest"'
"""How every manifest begins, whatever its version."""


_MOST = (1 << 64) - 1
_DIGEST_BYTES = 32


class ManifestError(ValueError):
    """A document that is no manifest, or was damaged; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a manifest says besides its entries.

    `captured` is the instant the copy shows (ISO 8601, UTC), `tool` the version that wrote it,
    `profile` the name of the profile in force, `mode` the database file's permission bits.
    """

    captured: str
    tool: str
    profile: str
    database: PageDigests
    mode: int


def encode_manifest(head: Head, entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield the lines of a manifest, each with its line break."""
    whole = hashlib.sha256()
    database = head.database
    first = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "tool": head.tool,
        "captured": head.captured,
        "profile": head.profile,
        "database": {
            "size": database.size,
            "sha256": database.digest,
            "mode": f"{head.mode:04o}",
            "page_size": database.page_size,
            "page_digests": base64.b64encode(database.pages).decode("ascii"),
        },
    }
    line = _line(first)
    whole.update(line)
    yield line
    count = 0
    for entry in entries:
        line = _line(_entry_fields(entry))
        whole.update(line)
        yield line
        count += 1
    yield _line({"entries": count, "sha256": whole.hexdigest()})


def _line(fields: dict[str, Any]) -> bytes:
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    # Lone surrogates (an attribute's name that is not UTF-8) become JSON's own escapes.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _entry_fields(entry: Entry) -> dict[str, Any]:
    fields: dict[str, Any] = {
        **encode_name(entry.path),
        "kind": entry.kind.value,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "mtime_ns": entry.modified_ns,
    }
    if entry.kind is Kind.FILE:
        fields["size"] = entry.size
        fields["sha256"] = entry.digest
    if entry.kind is Kind.SYMLINK:
        fields["target"] = encode_name(entry.target)
    if entry.link:
        fields["hard_link"] = encode_name(entry.link)
    if entry.device:
        fields["device"] = entry.device
    if entry.xattrs:
        fields["xattrs"] = {
            name: base64.b64encode(value).decode("ascii") for name, value in entry.xattrs
        }
    return fields


def decode_manifest(lines: Iterable[bytes]) -> tuple[Head, Iterator[Entry]]:
    """Read a manifest back, line by line.

    Returns:
        The head, and the entries as they come. The last line, which tells whether the manifest
        is whole, is looked at when all have been taken.

    Raises:
        ManifestError: It is no manifest, is of a newer format, or was damaged; also while the
            entries are taken.
    """
    numbered = iter(lines)
    whole = hashlib.sha256()
    first = next(numbered, b"")
    whole.update(first)
    with _as_manifest_error():
        fields = json.loads(first)
        if not isinstance(fields, dict):
            raise ManifestError("it is no manifest of this tool")
        head = _decode_head(fields)
    return head, _decode_entries(numbered, whole)


def _decode_entries(lines: Iterator[bytes], whole: "hashlib._Hash") -> Iterator[Entry]:
    count = 0
    line = next(lines, None)
    while line is not None:
        after = next(lines, None)
        with _as_manifest_error():
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise ManifestError("it is no manifest, or its end is missing")
            if "entries" in fields:
                _require_end(fields, line, after, count, whole.hexdigest())
                return
            whole.update(line)
            entry = _decode_entry(fields)
        count += 1
        yield entry
        line = after
    raise ManifestError("it is no manifest, or its end is missing")


def _require_end(
    fields: dict[str, Any], line: bytes, after: bytes | None, count: int, digest: str
) -> None:
    if after is not None or fields.get("sha256") != digest:
        raise ManifestError("it was changed after it was written")
    if line != _line({"entries": count, "sha256": digest}):
        raise ManifestError("its last line was changed after it was written")


@contextmanager
def _as_manifest_error() -> Iterator[None]:
    """Tell whatever a broken document makes Python say as one kind of failure."""
    try:
        yield
    except ManifestError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ManifestError(f"it is no manifest: {error}") from error


def _decode_head(fields: dict[str, Any]) -> Head:
    if fields.get("format") != FORMAT:
        raise ManifestError("it is no manifest of this tool")
    if fields["schema_version"] > SCHEMA_VERSION:
        raise ManifestError("a newer version of this tool wrote it")
    database = fields["database"]
    return Head(
        captured=fields["captured"],
        tool=fields["tool"],
        profile=fields["profile"],
        mode=int(database["mode"], 8),
        database=PageDigests(
            size=database["size"],
            digest=database["sha256"],
            page_size=database["page_size"],
            pages=base64.b64decode(database["page_digests"], validate=True),
        ),
    )


def _decode_entry(fields: dict[str, Any]) -> Entry:
    xattrs = fields.get("xattrs", {})
    return Entry(
        path=_decode_path(fields),
        kind=Kind(fields["kind"]),
        mode=_number(int(fields["mode"], 8), most=0o7777),
        uid=_number(fields["uid"]),
        gid=_number(fields["gid"]),
        modified_ns=_number(fields["mtime_ns"], least=-_MOST),
        size=_number(fields.get("size", 0)),
        digest=_decode_digest(fields.get("sha256", "")),
        device=_number(fields.get("device", 0)),
        target=decode_name(fields["target"]) if "target" in fields else b"",
        link=decode_name(fields["hard_link"]) if "hard_link" in fields else b"",
        xattrs=tuple(
            (name, base64.b64decode(value, validate=True)) for name, value in xattrs.items()
        ),
    )


def _decode_path(fields: dict[str, Any]) -> bytes:
    path = decode_name(fields)
    if path and (b"\0" in path or not {b"", b".", b".."}.isdisjoint(path.split(b"/"))):
        raise ValueError(f"no path: {path!r}")
    return path


def _decode_digest(value: Any) -> str:
    if not isinstance(value, str) or len(bytes.fromhex(value)) not in {0, _DIGEST_BYTES}:
        raise ValueError(f"no SHA-256: {value!r}")
    return value


def _number(value: Any, *, least: int = 0, most: int = _MOST) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"no number that can be here: {value!r}")
    return value
