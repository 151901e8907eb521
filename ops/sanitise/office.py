"""Documents and sheets of Office Open XML that say one text (ECMA-376).

Each has the parts which its schema and its readers require, and no more.
"""

from dataclasses import dataclass
from html import escape

from ops.sanitise.stored import zip_stored

XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_SCHEMAS = "http://schemas.openxmlformats.org"
RELATIONS = f"{_SCHEMAS}/officeDocument/2006/relationships"
_PACKAGE = f"{_SCHEMAS}/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument"
_STYLES = (
    "<fonts><font/></fonts>"
    '<fills><fill><patternFill patternType="none"/></fill>'
    '<fill><patternFill patternType="gray125"/></fill></fills>'
    "<borders><border/></borders>"
    "<cellStyleXfs><xf/></cellStyleXfs>"
    '<cellXfs><xf xfId="0"/></cellXfs>'
    '<cellStyles><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles>'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a package: where it is, its type, its XML, and the parts that it refers to.

    A part that is referred to as the n-th is `rId`n in the XML.
    """

    path: str
    kind: str
    xml: str
    refers: tuple[tuple[str, str], ...] = ()


def docx(text: str) -> bytes:
    """Return a text as a document of one paragraph (part 1, 11.2)."""
    body = f"<w:body><w:p><w:r><w:t>{escape(text)}</w:t></w:r></w:p></w:body>"
    xmlns = f'xmlns:w="{_SCHEMAS}/wordprocessingml/2006/main"'
    document = Part(
        path="word/document.xml",
        kind="wordprocessingml.document.main",
        xml=f"<w:document {xmlns}>{body}</w:document>",
    )
    return package(document)


def xlsx(text: str) -> bytes:
    """Return a text as a workbook with one cell (part 1, 12.2)."""
    xmlns = f'xmlns="{_SCHEMAS}/spreadsheetml/2006/main"'
    cell = f'<c r="A1" t="inlineStr"><is><t>{escape(text)}</t></is></c>'
    sheet = '<sheet name="Placeholder" sheetId="1" r:id="rId1"/>'
    workbook = Part(
        path="xl/workbook.xml",
        kind="spreadsheetml.sheet.main",
        xml=f'<workbook {xmlns} xmlns:r="{RELATIONS}"><sheets>{sheet}</sheets></workbook>',
        refers=(("worksheet", "/xl/worksheets/sheet1.xml"), ("styles", "/xl/styles.xml")),
    )
    worksheet = Part(
        path="xl/worksheets/sheet1.xml",
        kind="spreadsheetml.worksheet",
        xml=f'<worksheet {xmlns}><sheetData><row r="1">{cell}</row></sheetData></worksheet>',
    )
    styles = Part(
        path="xl/styles.xml",
        kind="spreadsheetml.styles",
        xml=f"<styleSheet {xmlns}>{_STYLES}</styleSheet>",
    )
    return package(workbook, worksheet, styles)


def package(*parts: Part) -> bytes:
    """Return a package of parts, the first of which is the document (part 2)."""
    default = "application/vnd.openxmlformats-package.relationships+xml"
    types = f'<Default Extension="rels" ContentType="{default}"/>' + "".join(
        f'<Override PartName="/{part.path}" ContentType="{_TYPE}.{part.kind}+xml"/>'
        for part in parts
    )
    members = [
        ("[Content_Types].xml", f'<Types xmlns="{_PACKAGE}/content-types">{types}</Types>'),
        ("_rels/.rels", _relations((("officeDocument", f"/{parts[0].path}"),))),
    ]
    for part in parts:
        members.append((part.path, part.xml))
        if part.refers:
            folder, _, name = part.path.rpartition("/")
            members.append((f"{folder}/_rels/{name}.rels", _relations(part.refers)))
    return zip_stored((name, (XML + xml).encode()) for name, xml in members)


def _relations(refers: tuple[tuple[str, str], ...]) -> str:
    entries = "".join(
        f'<Relationship Id="rId{number}" Type="{RELATIONS}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(refers, start=1)
    )
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{entries}</Relationships>'
