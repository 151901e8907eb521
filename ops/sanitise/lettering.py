"""A text as a picture of two colours, drawn in letters of five by seven dots."""

import textwrap
from dataclasses import dataclass

_FONT = bytes.fromhex(
    "0000000000 00005f0000 0007000700 147f147f14 242a7f2a12 2313086462 3649562050 0008070300"
    "001c224100 0041221c00 2a1c7f1c2a 08083e0808 0050300000 0808080808 0000606000 2010080402"
    "3e5149453e 00427f4000 7249494946 2141494d33 1814127f10 2745454539 3c4a494931 4121110907"
    "3649494936 464949291e 0000140000 0040340000 0008142241 1414141414 0041221408 0201590906"
    "3e415d594e 7c1211127c 7f49494936 3e41414122 7f4141413e 7f49494941 7f09090901 3e4149497a"
    "7f0808087f 00417f4100 2040413f01 7f08142241 7f40404040 7f020c027f 7f0408107f 3e4141413e"
    "7f09090906 3e4151215e 7f09192946 4649494931 01017f0101 3f4040403f 1f2040201f 3f4038403f"
    "6314081463 0708700807 6151494543 007f414100 0204081020 0041417f00 0402010204 4040404040"
    "0001020400 2054545478 7f48444438 3844444420 384444487f 3854545418 087e090102 0c5252523e"
    "7f08040478 00447d4000 2040443d00 7f10284400 00417f4000 7c04180478 7c08040478 3844444438"
    "7c14141408 081414187c 7c08040408 4854545420 043f444020 3c4040207c 1c2040201c 3c4030403c"
    "4428102844 0c5050503c 4464544c44 0008364100 00007f0000 0041360800 1008081008"
)
"""Space to tilde: for each character its five columns, the top dot in the lowest bit."""

COLUMNS = 20
"""Characters of a line at most, so that no picture is wider than an icon may be (256)."""
MARGIN = 4
ADVANCE, LEADING = 6, 9
_WIDE, _HIGH = 5, 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Bitmap:
    """Rows of pixels from the top, a byte each: 1 is ink, 0 is paper."""

    rows: tuple[bytes, ...]

    @property
    def width(self) -> int:
        """Return the pixels of a row."""
        return len(self.rows[0])

    @property
    def height(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def enlarged(self, factor: int) -> "Bitmap":
        """Return the picture with squares of `factor` by `factor` pixels for each of its own."""
        wide = [b"".join(bytes([pixel]) * factor for pixel in row) for row in self.rows]
        return Bitmap(rows=tuple(row for row in wide for _ in range(factor)))


def draw(text: str) -> Bitmap:
    """Return a picture of a text, in lines of at most `COLUMNS` characters.

    A character beyond ASCII is drawn as a question mark.
    """
    lines = textwrap.wrap(text, COLUMNS, break_on_hyphens=False) or [""]
    columns = max(len(line) for line in lines)
    width = 2 * MARGIN + max(columns * ADVANCE - (ADVANCE - _WIDE), 0)
    height = 2 * MARGIN + len(lines) * LEADING - (LEADING - _HIGH)
    rows = [bytearray(width) for _ in range(height)]
    for number, line in enumerate(lines):
        for place, character in enumerate(line):
            for x, column in enumerate(glyph(character)):
                for y in range(_HIGH):
                    top, left = MARGIN + number * LEADING, MARGIN + place * ADVANCE
                    rows[top + y][left + x] = column >> y & 1
    return Bitmap(rows=tuple(bytes(row) for row in rows))


def glyph(character: str) -> bytes:
    """Return the columns of a character, the top dot in the lowest bit."""
    code = ord(character) if " " <= character <= "~" else ord("?")
    start = (code - ord(" ")) * _WIDE
    return _FONT[start : start + _WIDE]
