"""Small files that stand for attachments: valid for their type, and saying what they are."""

import os
import tarfile
from collections.abc import Callable

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
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - bytes
    shown = _printable(title)
    if suffix.lower() == b".gz":
        return gzip_stored(_maker(stem)(shown))
    return _maker(name)(shown)


def _maker(name: bytes) -> Callable[[str], bytes]:
    return _MAKERS.get(os.path.splitext(name)[1].lower(), texts.txt)  # noqa: PTH122 - bytes


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


_MAKERS: dict[bytes, Callable[[str], bytes]] = {
    b".bmp": images.bmp,
    b".csv": texts.csv_table,
    b".docx": office.docx,
    b".eml": texts.eml,
    b".gif": images.gif,
    b".gz": _gzip,
    b".htm": texts.html,
    b".html": texts.html,
    b".ico": images.ico,
    b".jpeg": images.jpg,
    b".jpg": images.jpg,
    b".json": texts.json_object,
    b".jsonl": texts.json_object,
    b".markdown": texts.md,
    b".md": texts.md,
    b".ods": opendocument.ods,
    b".odt": opendocument.odt,
    b".pdf": pdf.pdf,
    b".png": images.png,
    b".pptx": slides.pptx,
    b".svg": texts.svg,
    b".tar": _tar,
    b".tgz": _tar_gzip,
    b".toml": texts.toml,
    b".tsv": texts.tsv_table,
    b".webp": images.webp,
    b".xlsx": office.xlsx,
    b".xml": texts.xml,
    b".yaml": texts.yaml,
    b".yml": texts.yaml,
    b".zip": _zip,
}
