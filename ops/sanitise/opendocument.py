"""OpenDocument files that say one text (OASIS OpenDocument 1.3)."""

from html import escape

from ops.sanitise.stored import zip_stored

_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_XMLNS = "urn:oasis:names:tc:opendocument:xmlns"


def odt(text: str) -> bytes:
    """Return a text as a document of one paragraph."""
    return _open_document("text", _paragraph(text))


def ods(text: str) -> bytes:
    """Return a text as a spreadsheet with one cell."""
    cell = f'<table:table-cell office:value-type="string">{_paragraph(text)}</table:table-cell>'
    rows = f"<table:table-column/><table:table-row>{cell}</table:table-row>"
    table = f'<table:table table:name="Placeholder">{rows}</table:table>'
    return _open_document("spreadsheet", table)


def _paragraph(text: str) -> str:
    return f"<text:p>{escape(text)}</text:p>"


def _open_document(kind: str, body: str) -> bytes:
    """Return a package whose first member tells its type (part 2, section 3.3)."""
    media_type = f"application/vnd.oasis.opendocument.{kind}"
    names = " ".join(f'xmlns:{name}="{_XMLNS}:{name}:1.0"' for name in ("office", "text", "table"))
    content = (
        f'<office:document-content {names} office:version="1.3"><office:body>'
        f"<office:{kind}>{body}</office:{kind}></office:body></office:document-content>"
    )
    entries = "".join(
        f'<manifest:file-entry manifest:full-path="{path}" manifest:media-type="{kind_of_path}"/>'
        for path, kind_of_path in (("/", media_type), ("content.xml", "text/xml"))
    )
    manifest = (
        f'<manifest:manifest xmlns:manifest="{_XMLNS}:manifest:1.0" manifest:version="1.3">'
        f"{entries}</manifest:manifest>"
    )
    return zip_stored(
        (
            ("mimetype", media_type.encode()),
            ("META-INF/manifest.xml", (_XML + manifest).encode()),
            ("content.xml", (_XML + content).encode()),
        )
    )
