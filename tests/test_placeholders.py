"""Placeholders: each type is opened by a reader that is not ours, which finds the title."""

import csv
import email
import email.policy
import gzip
import io
import json
import re
import struct
import subprocess
import sys
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import docx
import openpyxl
import pptx
import pypdf
import pytest
import yaml  # type: ignore[import-untyped] # it has no types of its own
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image

from ops.sanitise.lettering import ADVANCE, COLUMNS, LEADING, MARGIN, draw, glyph
from ops.sanitise.placeholders import MOST_BYTES, MOST_CHARACTERS, make_placeholder
from ops.sanitise.stored import gzip_stored, zlib_stored
from tests.command import ROOT
from tests.strategies import names

TITLE = "STAGING placeholder 3f2a"
AWKWARD = "<b>&amp;\"'</b> ]]> a\\b (c) {d} [e] *f* _g_ `h` #1. = - + | ~ 5%"
SUFFIXES = (
    *("bmp", "csv", "docx", "eml", "gif", "gz", "htm", "html", "ico", "jpeg", "jpg", "json"),
    *("jsonl", "log", "markdown", "md", "ods", "odt", "pdf", "png", "pptx", "svg", "tar"),
    *("tar.gz", "tgz", "toml", "tsv", "txt", "webp", "xlsx", "xml", "yaml", "yml", "zip"),
)

printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
titles = (
    st.lists(printable, min_size=1, max_size=6)
    .map(" ".join)
    .filter(lambda title: len(title) <= MOST_CHARACTERS)
)
ascii_titles = st.lists(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12),
    min_size=1,
    max_size=6,
).map(" ".join)


def parsed(data: bytes | str) -> ET.Element:
    return ET.fromstring(data)  # noqa: S314 - we wrote it


def placed(suffix: str, title: str) -> bytes:
    return make_placeholder(f"report.{suffix}".encode(), title)


def opened(suffix: str, title: str) -> io.BytesIO:
    return io.BytesIO(placed(suffix, title))


# Text


class _Page(HTMLParser):
    """The texts of a page, and the tags that begin in it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())


def read_html(data: bytes) -> str:
    page = _Page()
    page.feed(data.decode())
    page.close()
    assert page.tags == ["html", "meta", "title", "p"]
    title, text = page.texts
    assert title == text
    return text


def read_xml(data: bytes) -> str:
    root = parsed(data)
    assert root.tag == "placeholder"
    return root.text or ""


def read_svg(data: bytes) -> str:
    root = parsed(data)
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    assert [child.tag for child in root] == [f"{space}title", f"{space}text"]
    title, text = (child.text for child in root)
    assert title == text
    return text or ""


def read_markdown(data: bytes) -> str:
    opening, inline, closing = MarkdownIt("commonmark").parse(data.decode())
    assert (opening.type, closing.type) == ("paragraph_open", "paragraph_close")
    kinds = {"text", "text_special"}
    assert inline.children
    assert {child.type for child in inline.children} <= kinds
    return "".join(child.content for child in inline.children)


def read_table(data: bytes, delimiter: str) -> str:
    header, row = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=delimiter)
    assert header == ["placeholder"]
    (value,) = row
    assert not value.startswith(("=", "+", "-", "@"))
    return re.sub(r"^'(?=[=+@-])", "", value)


def read_mail(data: bytes) -> str:
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert not message.defects
    assert message["From"].addresses[0].domain == "example.invalid"
    assert message["Date"].datetime.year == 1980
    assert all(len(line) <= 78 for line in data.split(b"\r\n"))
    assert b"\n" not in data.replace(b"\r\n", b"")
    body = message.get_payload(decode=True)
    assert isinstance(body, bytes)
    subject = str(message["Subject"])
    assert subject == body.decode().removesuffix("\n")
    return subject


def read_text(data: bytes) -> str:
    return data.decode().removesuffix("\n")


# Documents


def read_pdf_title(data: bytes) -> str:
    reader = pypdf.PdfReader(io.BytesIO(data), strict=True)
    (_,) = reader.pages
    assert reader.metadata is not None
    return reader.metadata.title or ""


def read_docx(data: bytes) -> str:
    (paragraph,) = docx.Document(io.BytesIO(data)).paragraphs
    return paragraph.text


def read_xlsx(data: bytes) -> str:
    workbook = openpyxl.load_workbook(io.BytesIO(data))
    (sheet,) = workbook.worksheets
    assert sheet.dimensions == "A1:A1"
    cell = sheet["A1"]
    assert cell.data_type in {"inlineStr", "s"}
    return str(cell.value)


def read_pptx(data: bytes) -> str:
    show = pptx.Presentation(io.BytesIO(data))
    (slide,) = show.slides
    assert slide.slide_layout.slide_master == show.slide_masters[0]
    (shape,) = slide.shapes
    assert shape.has_text_frame
    return str(getattr(shape, "text_frame").text)  # noqa: B009 - has_text_frame tells it


def read_open_document(data: bytes, kind: str) -> str:
    media_type = f"application/vnd.oasis.opendocument.{kind}"
    assert data[30:].startswith(b"mimetype" + media_type.encode() + b"PK")
    office = "urn:oasis:names:tc:opendocument:xmlns"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        manifest = parsed(archive.read("META-INF/manifest.xml"))
        content = parsed(archive.read("content.xml"))
        listed = [entry.get(f"{{{office}:manifest:1.0}}full-path") for entry in manifest]
        assert listed == ["/", "content.xml"]
        assert set(archive.namelist()) == {"mimetype", "META-INF/manifest.xml", "content.xml"}
    (body,) = content
    assert [child.tag for child in body] == [f"{{{office}:office:1.0}}{kind}"]
    (paragraph,) = content.iter(f"{{{office}:text:1.0}}p")
    return paragraph.text or ""


def read_zip(data: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        (member,) = archive.infolist()
        assert member.date_time == (1980, 1, 1, 0, 0, 0)
        return read_text(archive.read(member))


def read_tar(data: bytes) -> str:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        (member,) = archive.getmembers()
        assert (member.name, member.mtime, member.uid) == ("placeholder.txt", 0, 0)
        content = archive.extractfile(member)
        assert content is not None
        return read_text(content.read())


READERS: dict[str, Callable[[bytes], str]] = {
    "csv": lambda data: read_table(data, ","),
    "docx": read_docx,
    "eml": read_mail,
    "gz": lambda data: read_text(gzip.decompress(data)),
    "htm": read_html,
    "html": read_html,
    "json": lambda data: str(json.loads(data)["placeholder"]),
    "jsonl": lambda data: str(json.loads(data.splitlines()[0])["placeholder"]),
    "log": read_text,
    "markdown": read_markdown,
    "md": read_markdown,
    "ods": lambda data: read_open_document(data, "spreadsheet"),
    "odt": lambda data: read_open_document(data, "text"),
    "pdf": read_pdf_title,
    "pptx": read_pptx,
    "svg": read_svg,
    "tar": read_tar,
    "tar.gz": lambda data: read_tar(gzip.decompress(data)),
    "tgz": lambda data: read_tar(gzip.decompress(data)),
    "toml": lambda data: str(tomllib.loads(data.decode())["placeholder"]),
    "tsv": lambda data: read_table(data, "\t"),
    "txt": read_text,
    "xlsx": read_xlsx,
    "xml": read_xml,
    "yaml": lambda data: str(yaml.safe_load(data)["placeholder"]),
    "yml": lambda data: str(yaml.safe_load(data)["placeholder"]),
    "zip": read_zip,
}
IMAGES = {
    "bmp": "BMP",
    "gif": "GIF",
    "ico": "ICO",
    "jpeg": "JPEG",
    "jpg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
}


def test_every_type_has_a_reader() -> None:
    assert sorted(READERS.keys() | IMAGES.keys()) == sorted(SUFFIXES)


@pytest.mark.parametrize("suffix", READERS)
@given(title=titles)
@example(title=TITLE)
@example(title=AWKWARD)
@example(title="=1+1")
@example(title="1. é ü 名前 حساب 🔒")
def test_a_reader_finds_the_title(suffix: str, title: str) -> None:
    assert READERS[suffix](placed(suffix, title)) == title


@given(title=ascii_titles.filter(lambda title: len(title) <= MOST_CHARACTERS))
@example(title=TITLE)
@example(title=AWKWARD)
def test_a_page_of_pdf_shows_the_title(title: str) -> None:
    (page,) = pypdf.PdfReader(opened("pdf", title), strict=True).pages
    assert page.extract_text().split() == title.split()


def test_a_page_of_pdf_shows_western_letters_and_a_mark_for_others() -> None:
    (page,) = pypdf.PdfReader(opened("pdf", "Résumé € 名"), strict=True).pages
    assert page.extract_text().split() == ["Résumé", "€", "?"]


def test_each_offset_of_pdf_is_that_of_its_object() -> None:
    data = placed("pdf", TITLE)
    start = int(data.split(b"startxref\n")[1].split()[0])
    assert data[start:].startswith(b"xref\n0 7\n")
    offsets = re.findall(rb"(\d{10}) 00000 n \n", data[start:])
    assert len(offsets) == 6
    for number, offset in enumerate(offsets, start=1):
        assert data[int(offset) :].startswith(b"%d 0 obj\n" % number)


# Pictures


def pixels(suffix: str, title: str) -> list[list[int]]:
    """Decode a picture with Pillow: rows of 0 and 1, a pixel for each dot that was drawn."""
    with Image.open(opened(suffix, title)) as image:
        assert image.format == IMAGES[suffix]
        assert image.convert("RGBA").getchannel("A").getextrema() == (255, 255)
        grey = image.convert("RGB").convert("L")
    factor = 8 if suffix in {"jpg", "jpeg"} else 2
    data = grey.tobytes()
    rows = [data[at : at + grey.width] for at in range(0, len(data), grey.width)]
    assert set(data) <= {0, 255}
    for row in rows:
        assert row == b"".join(bytes([dot]) * factor for dot in row[::factor])
    for top in range(0, len(rows), factor):
        assert len(set(rows[top : top + factor])) == 1
    return [[int(dot == 0) for dot in row[::factor]] for row in rows[::factor]]


GLYPHS = {glyph(chr(code)): chr(code) for code in range(32, 127)}


def letters(rows: list[list[int]]) -> Iterator[str]:
    """Read a picture, line by line."""
    for top in range(MARGIN, len(rows) - MARGIN, LEADING):
        line = ""
        for left in range(MARGIN, len(rows[0]) - MARGIN, ADVANCE):
            columns = [sum(rows[top + y][left + x] << y for y in range(7)) for x in range(5)]
            line += GLYPHS[bytes(columns)]
        yield line.rstrip()


@pytest.mark.parametrize("suffix", IMAGES)
@given(title=ascii_titles.filter(lambda title: len(title) <= MOST_CHARACTERS))
@example(title=TITLE)
@example(title="".join(chr(code) for code in range(33, 80)))
@example(title="".join(chr(code) for code in range(80, 127)))
@example(title=" ".join(["M" * 11] * 6))
@example(title="|")
def test_a_picture_shows_the_title(suffix: str, title: str) -> None:
    lines = list(letters(pixels(suffix, title)))
    assert all(len(line) <= COLUMNS for line in lines)
    assert "".join("".join(lines).split()) == "".join(title.split())


def test_each_character_has_a_glyph_of_its_own() -> None:
    assert len(GLYPHS) == 95
    assert all(column < 1 << 7 for columns in GLYPHS for column in columns)


def test_a_picture_has_marks_for_what_it_cannot_show() -> None:
    assert list(letters(pixels("png", "é 名 ok"))) == ["? ? ok"]


def test_a_picture_of_nothing_is_paper() -> None:
    assert set(b"".join(draw("").rows)) == {0}


@given(title=st.text())
def test_no_byte_of_a_jpeg_scan_is_a_marker(title: str) -> None:
    data = placed("jpg", title)
    (length,) = struct.unpack_from(">H", data, data.index(b"\xff\xda") + 2)
    scan = data[data.index(b"\xff\xda") + 2 + length :]
    assert scan.endswith(b"\xff\xd9")
    assert b"\xff" not in scan[:-2]


@given(title=st.text())
def test_an_icon_is_no_larger_than_icons_are(title: str) -> None:
    """A width or height of 256 and more does not fit into its byte."""
    (width, height) = struct.unpack_from("BB", placed("ico", title), 6)
    with Image.open(opened("ico", title)) as image:
        assert image.size == (width, height)


# Names


@pytest.mark.parametrize(
    ("name", "start"),
    [
        (b"UPPER.PDF", b"%PDF-"),
        (b"R\xc3\xa9sum\xc3\xa9.Pdf", b"%PDF-"),
        (b"\xff\xfe.png", b"\x89PNG"),
        (b"a/b.c/d.png", b"\x89PNG"),
        (b"-rf.jpg", b"\xff\xd8\xff"),
        (b".hidden.gif", b"GIF89a"),
        (b"report.pdf.zip", b"PK\3\4"),
        (b"report.zip.pdf", b"%PDF-"),
        (b".png", b"STAGING"),
        (b"no_extension", b"STAGING"),
        (b"a.png/readme", b"STAGING"),
        (b"film.mp4", b"STAGING"),
        (b"report.", b"STAGING"),
        (b"report.pdf ", b"STAGING"),
        (b"", b"STAGING"),
    ],
)
def test_the_last_suffix_of_a_name_tells_the_type(name: bytes, start: bytes) -> None:
    assert make_placeholder(name, TITLE).startswith(start)


@pytest.mark.parametrize(("suffix", "start"), [("pdf", b"%PDF-"), ("CSV", b"placeholder\r\n")])
def test_what_gzip_holds_is_of_its_own_type(suffix: str, start: bytes) -> None:
    assert gzip.decompress(placed(f"{suffix}.gz", TITLE)).startswith(start)


def test_gzip_in_gzip_ends() -> None:
    inner = gzip.decompress(make_placeholder(b"a" + b".gz" * 80, TITLE))
    assert read_text(gzip.decompress(inner)) == TITLE


# Titles


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("", "placeholder"),
        (" \t\n", "placeholder"),
        ("a\r\nSubject: b", "a Subject: b"),
        ("a\0b\x1bc\ud800d\ufffee", "a?b?c?d?e"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 77 + "..."),
        ("x" * 76 + " " + "y" * 9, "x" * 76 + "..."),
    ],
)
@pytest.mark.parametrize("suffix", READERS)
def test_a_title_is_made_fit_to_print(suffix: str, title: str, shown: str) -> None:
    assert READERS[suffix](placed(suffix, title)) == shown


any_suffix = st.sampled_from([f".{suffix}".encode() for suffix in SUFFIXES] + [b"", b".bin"])


@given(name=names, suffix=any_suffix, title=st.text(st.characters(), max_size=200))
@example(name=b"a", suffix=b".pptx.gz", title="&" * 100)
@example(name=b"a", suffix=b".ico", title=" ".join(["M" * 11] * 9))
def test_any_name_and_title_give_a_small_file_and_always_the_same(
    name: bytes, suffix: bytes, title: str
) -> None:
    data = make_placeholder(name + suffix, title)
    assert 0 < len(data) <= MOST_BYTES
    assert make_placeholder(name + suffix, title) == data


def test_another_process_at_another_time_makes_the_same_bytes() -> None:
    script = (
        "import sys, zlib\n"
        "from ops.sanitise.placeholders import make_placeholder\n"
        "for suffix in sys.argv[2:]:\n"
        "    data = make_placeholder(b'report.' + suffix.encode(), sys.argv[1])\n"
        "    print(suffix, zlib.crc32(data))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, TITLE, *SUFFIXES],
        env={"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7", "LC_ALL": "C"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    mine = [f"{suffix} {zlib.crc32(placed(suffix, TITLE))}" for suffix in SUFFIXES]
    assert ran.stdout.splitlines() == mine


# What is stored


@given(data=st.binary(max_size=100))
@example(data=b"")
@example(data=b"x" * 65_535)
@example(data=b"x" * 65_536)
@example(data=b"x" * 140_000)
def test_what_is_stored_reads_back(data: bytes) -> None:
    assert gzip.decompress(gzip_stored(data)) == data
    assert zlib.decompress(zlib_stored(data)) == data
