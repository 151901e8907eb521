"""A page of PDF that says one text (ISO 32000-1)."""

import re
import textwrap

_COLUMNS = 60
_HEADER = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"
_PAGE = (
    b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
    b" /Resources << /Font << /F1 5 0 R >> >> >>"
)
_FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"


def pdf(text: str) -> bytes:
    """Return a text as a page of A4, and as the title of the document.

    The page uses a font that every reader has (9.6.2.2), and a question mark for what that font
    lacks. The title is whole.
    """
    lines = textwrap.wrap(text, _COLUMNS, break_on_hyphens=False)
    shown = b"".join(b"(%b) Tj T*\n" % _literal(line) for line in lines)
    content = b"BT\n/F1 14 Tf\n18 TL\n56 770 Td\n" + shown + b"ET"
    title = ("\ufeff" + text).encode("utf-16-be").hex().encode()
    return _file(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        _PAGE,
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(content), content),
        _FONT,
        b"<< /Title <%b> >>" % title,
    )


def _literal(line: str) -> bytes:
    """Return a line in the font's encoding, its brackets and backslashes escaped (7.3.4.2)."""
    return re.sub(rb"([\\()])", rb"\\\1", line.encode("cp1252", "replace"))


def _file(*objects: bytes) -> bytes:
    """Return a file of objects, the first its catalogue, the last its information (7.5)."""
    body, offsets = _HEADER, []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % at for at in offsets)
    size = len(objects) + 1
    trailer = b"<< /Size %d /Root 1 0 R /Info %d 0 R >>" % (size, len(objects))
    return body + b"xref\n0 %d\n%btrailer\n%b\nstartxref\n%d\n%%%%EOF\n" % (
        *(size, table, trailer),
        len(body),
    )
