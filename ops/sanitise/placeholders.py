"""Small files that stand for attachments: valid for their type, and saying what they are."""

import tarfile
from collections.abc import Callable
from pathlib import PurePosixPath

from ops.sanitise import images, office, opendocument, pdf, slides, texts
from ops.sanitise.stored import gzip_stored, zip_stored

MOST_BYTES = 16 << 10
"""No placeholder is larger."""
MOST_CHARACTERS = 80
_UNTITLED = "placeholder"
_MEMBER = "placeholder.txt"


def make_placeholder(name: bytes, title: str) -> bytes:
    """Return a file that says a title, of the type that a name's suffix tells, in any case.

    The same arguments give the same bytes, whatever the time and the machine. A type that is not
    known here, or has no small file, is the title as text. Of the title, white space is one space
    each, what cannot be printed is a question mark, and what is beyond `MOST_CHARACTERS` is cut.
    A picture shows ASCII only, and a page of PDF the characters of Western Europe.
    """
    path = PurePosixPath(name.decode("latin-1"))
    shown = _printable(title)
    if path.suffix.lower() == ".gz":
        return gzip_stored(_maker(PurePosixPath(path.stem))(shown))
    return _maker(path)(shown)


def _maker(path: PurePosixPath) -> Callable[[str], bytes]:
    return _MAKERS.get(path.suffix.lower(), texts.txt)


def _printable(title: str) -> str:
    """Return a title that any of the types can say: no XML and no header forbids a character."""
    words = " ".join(title.split())
    shown = "".join(each if each.isprintable() else "?" for each in words) or _UNTITLED
    if len(shown) > MOST_CHARACTERS:
        return shown[: MOST_CHARACTERS - 3].rstrip() + "..."
    return shown


def _zip(text: str) -> bytes:
    return zip_stored([(_MEMBER, texts.txt(text))])


def _tar(text: str) -> bytes:
    """Return a text as the one member of an archive (POSIX.1-1988, ustar), which two blocks end."""
    content = texts.txt(text)
    member = tarfile.TarInfo(_MEMBER)
    member.size = len(content)
    padding = bytes(-len(content) % tarfile.BLOCKSIZE)
    end = bytes(2 * tarfile.BLOCKSIZE)
    return member.tobuf(tarfile.USTAR_FORMAT) + content + padding + end


def _gzip(text: str) -> bytes:
    return gzip_stored(texts.txt(text))


def _tar_gzip(text: str) -> bytes:
    return gzip_stored(_tar(text))


_MAKERS: dict[str, Callable[[str], bytes]] = {
    ".bmp": images.bmp,
    ".csv": texts.csv_table,
    ".docx": office.docx,
    ".eml": texts.eml,
    ".gif": images.gif,
    ".gz": _gzip,
    ".htm": texts.html,
    ".html": texts.html,
    ".ico": images.ico,
    ".jpeg": images.jpg,
    ".jpg": images.jpg,
    ".json": texts.json_object,
    ".jsonl": texts.json_object,
    ".markdown": texts.md,
    ".md": texts.md,
    ".ods": opendocument.ods,
    ".odt": opendocument.odt,
    ".pdf": pdf.pdf,
    ".png": images.png,
    ".pptx": slides.pptx,
    ".svg": texts.svg,
    ".tar": _tar,
    ".tgz": _tar_gzip,
    ".toml": texts.toml,
    ".tsv": texts.tsv_table,
    ".webp": images.webp,
    ".xlsx": office.xlsx,
    ".xml": texts.xml,
    ".yaml": texts.yaml,
    ".yml": texts.yaml,
    ".zip": _zip,
}
