"""A presentation of Office Open XML that says one text (ECMA-376, part 1, 13.3 and 14.2).

A slide needs a layout, a layout a master, and a master a theme, whole.
"""

from html import escape

from ops.sanitise.office import RELATIONS, Part, package

_MAIN = "http://schemas.openxmlformats.org/drawingml/2006/main"
_XMLNS = (
    f'xmlns:a="{_MAIN}" xmlns:r="{RELATIONS}" '
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
)
_GROUP = (
    '<p:nvGrpSpPr><p:cNvPr id="1" name=""/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr>'
    '<p:grpSpPr><a:xfrm><a:off x="0" y="0"/><a:ext cx="0" cy="0"/>'
    '<a:chOff x="0" y="0"/><a:chExt cx="0" cy="0"/></a:xfrm></p:grpSpPr>'
)
_SHAPE = (
    '<p:sp><p:nvSpPr><p:cNvPr id="2" name="Placeholder"/><p:cNvSpPr txBox="1"/><p:nvPr/></p:nvSpPr>'
    '<p:spPr><a:xfrm><a:off x="914400" y="914400"/><a:ext cx="7315200" cy="914400"/></a:xfrm>'
    '<a:prstGeom prst="rect"><a:avLst/></a:prstGeom></p:spPr>'
    '<p:txBody><a:bodyPr wrap="square"/><a:lstStyle/><a:p><a:r><a:rPr lang="en"/>'
    "<a:t>{}</a:t></a:r></a:p></p:txBody></p:sp>"
)
_ACCENTS = tuple(f"accent{number}" for number in range(1, 7))
_COLOURS = {
    "dk1": "000000",
    "lt1": "FFFFFF",
    "dk2": "444444",
    "lt2": "EEEEEE",
    **dict.fromkeys(_ACCENTS, "808080"),
    "hlink": "0000FF",
    "folHlink": "800080",
}
_MAPPED = {"bg1": "lt1", "tx1": "dk1", "bg2": "lt2", "tx2": "dk2"} | {
    name: name for name in (*_ACCENTS, "hlink", "folHlink")
}
_FILL = '<a:solidFill><a:schemeClr val="phClr"/></a:solidFill>'
_KEEP_COLOURS = "<p:clrMapOvr><a:masterClrMapping/></p:clrMapOvr>"


def pptx(text: str) -> bytes:
    """Return a text as a presentation of one slide."""
    size = '<p:sldSz cx="9144000" cy="6858000"/><p:notesSz cx="6858000" cy="9144000"/>'
    presentation = Part(
        path="ppt/presentation.xml",
        kind="presentationml.presentation.main",
        xml=f"<p:presentation {_XMLNS}>"
        '<p:sldMasterIdLst><p:sldMasterId id="2147483648" r:id="rId1"/></p:sldMasterIdLst>'
        f'<p:sldIdLst><p:sldId id="256" r:id="rId2"/></p:sldIdLst>{size}</p:presentation>',
        refers=(
            ("slideMaster", "/ppt/slideMasters/slideMaster1.xml"),
            ("slide", "/ppt/slides/slide1.xml"),
            ("theme", "/ppt/theme/theme1.xml"),
        ),
    )
    slide = Part(
        path="ppt/slides/slide1.xml",
        kind="presentationml.slide",
        xml=f"<p:sld {_XMLNS}>{_drawing(_SHAPE.format(escape(text)))}{_KEEP_COLOURS}</p:sld>",
        refers=(("slideLayout", "/ppt/slideLayouts/slideLayout1.xml"),),
    )
    return package(presentation, slide, _layout(), _master(), _theme())


def _drawing(shape: str = "") -> str:
    return f"<p:cSld><p:spTree>{_GROUP}{shape}</p:spTree></p:cSld>"


def _layout() -> Part:
    return Part(
        path="ppt/slideLayouts/slideLayout1.xml",
        kind="presentationml.slideLayout",
        xml=f'<p:sldLayout {_XMLNS} type="blank">{_drawing()}{_KEEP_COLOURS}</p:sldLayout>',
        refers=(("slideMaster", "/ppt/slideMasters/slideMaster1.xml"),),
    )


def _master() -> Part:
    colours = " ".join(f'{name}="{colour}"' for name, colour in _MAPPED.items())
    layouts = '<p:sldLayoutId id="2147483649" r:id="rId1"/>'
    return Part(
        path="ppt/slideMasters/slideMaster1.xml",
        kind="presentationml.slideMaster",
        xml=f"<p:sldMaster {_XMLNS}>{_drawing()}<p:clrMap {colours}/>"
        f"<p:sldLayoutIdLst>{layouts}</p:sldLayoutIdLst></p:sldMaster>",
        refers=(
            ("slideLayout", "/ppt/slideLayouts/slideLayout1.xml"),
            ("theme", "/ppt/theme/theme1.xml"),
        ),
    )


def _theme() -> Part:
    """Return a theme: a colour for each name, one font, and three of each style."""
    colours = "".join(
        f'<a:{name}><a:srgbClr val="{value}"/></a:{name}>' for name, value in _COLOURS.items()
    )
    font = '<a:latin typeface="Arial"/><a:ea typeface=""/><a:cs typeface=""/>'
    styles = (
        f"<a:fillStyleLst>{_FILL * 3}</a:fillStyleLst>"
        f"<a:lnStyleLst>{f'<a:ln>{_FILL}</a:ln>' * 3}</a:lnStyleLst>"
        "<a:effectStyleLst>"
        f"{'<a:effectStyle><a:effectLst/></a:effectStyle>' * 3}</a:effectStyleLst>"
        f"<a:bgFillStyleLst>{_FILL * 3}</a:bgFillStyleLst>"
    )
    return Part(
        path="ppt/theme/theme1.xml",
        kind="theme",
        xml=f'<a:theme xmlns:a="{_MAIN}" name="Placeholder"><a:themeElements>'
        f'<a:clrScheme name="Placeholder">{colours}</a:clrScheme>'
        f'<a:fontScheme name="Placeholder"><a:majorFont>{font}</a:majorFont>'
        f"<a:minorFont>{font}</a:minorFont></a:fontScheme>"
        f'<a:fmtScheme name="Placeholder">{styles}</a:fmtScheme></a:themeElements></a:theme>',
    )
