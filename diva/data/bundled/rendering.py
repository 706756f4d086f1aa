"""Text drawn with the fonts that come with matplotlib, as exact masks of ink."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy

if TYPE_CHECKING:
    from PIL import ImageFont

    from diva.data.bundled.random import Stream

FONTS: Final = (
    "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf",
    "DejaVuSerif-Italic.ttf", "STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf", "cmr10.ttf", "cmss10.ttf",
    "cmtt10.ttf",
)  # fmt: skip
_BEGIN: Final = (
    "b",
    "br",
    "d",
    "f",
    "fr",
    "g",
    "gr",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "r",
    "s",
    "st",
    "t",
    "tr",
    "v",
)
_MIDDLE: Final = ("a", "e", "i", "o", "u", "ae", "ei", "ia")
_END: Final = ("l", "m", "n", "nd", "r", "s", "st", "t")


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib
    from PIL import ImageFont

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def ink(text: str, font: str, size: int, *, on_line: bool = False) -> numpy.ndarray:
    """The ink of a text, bool (H, W), cut to it: where the grey rendering covers at least a third of a pixel.

    `on_line` keeps the full height of the font's line, so that words set side by side stand on one line. Basic layout and
    a threshold leave little to the version of FreeType; not nothing, so no footprint is promised.
    """
    from PIL import Image, ImageDraw

    face = _font(font, size)
    left, _, right, bottom = (int(edge) for edge in face.getbbox(text))
    height = sum(face.getmetrics())
    image = Image.new("L", (right - left + 4, max(bottom, height)), 0)
    ImageDraw.Draw(image).text((2 - left, 0), text, font=face, fill=255)
    covered = numpy.asarray(image) >= 85
    if not covered.any():
        return numpy.zeros((1, 1), bool)
    rows, columns = numpy.flatnonzero(covered.any(1)), numpy.flatnonzero(covered.any(0))
    across = covered[:, columns[0] : columns[-1] + 1]
    return across[:height] if on_line else across[rows[0] : rows[-1] + 1]


def word(stream: Stream, n_syllables: int) -> str:
    """A word that can be read aloud and means nothing."""
    syllables = (_BEGIN[stream.below(len(_BEGIN))] + _MIDDLE[stream.below(len(_MIDDLE))] for _ in range(n_syllables))
    return "".join(syllables) + _END[stream.below(len(_END))]


def paper(stream: Stream, height: int, width: int) -> numpy.ndarray:
    """An empty sheet, uint8 (H, W, 3): a tint, shade towards one side, coarse stains and fine grain."""
    tint = numpy.array([stream.between(225, 250), stream.between(215, 240), stream.between(190, 220)])
    across = numpy.arange(width) * stream.between(0, 24) // width
    stains = (
        stream.grid(-(-height // 16), -(-width // 16)).astype(int).repeat(16, 0).repeat(16, 1)[:height, :width] // 24
    )
    grain = stream.grid(height, width).astype(int) // 32
    sheet = tint[None, None, :] - (across[None, :, None] + stains[:, :, None] + grain[:, :, None])
    clipped: numpy.ndarray = sheet.clip(0, 255).astype(numpy.uint8)
    return clipped
