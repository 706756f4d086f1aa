"""The pictures of all epochs as the frames of an animation, each with a strip below that says which epoch it shows."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

from diva.report.style import BLUES, GREY, INK, PAPER, RULE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MOST_FRAMES: Final = 120
LAST_SHOWN: Final = 6  # times: an animation that starts again at once hides its end
STRIP: Final = 30  # pixels


def epoch_frames(pictures: Mapping[int, bytes]) -> list[NDArray[np.uint8]]:
    """Frames of one size, uint8 (H, W, 3), of PNG files by epoch, in rising order; of more than 120, so many evenly chosen ones.

    A smaller picture is put onto white in the upper left corner. The last frame comes several times.
    """
    epochs = list(pictures)
    if len(epochs) > MOST_FRAMES:
        epochs = [epochs[round(k * (len(epochs) - 1) / (MOST_FRAMES - 1))] for k in range(MOST_FRAMES)]
    images = [Image.open(io.BytesIO(pictures[epoch])).convert("RGB") for epoch in epochs]
    width, height = max(image.width for image in images), max(image.height for image in images)
    frames = []
    for epoch, image in zip(epochs, images, strict=True):
        frame = Image.new("RGB", (width, height + STRIP), PAPER)
        frame.paste(image, (0, 0))
        _draw_strip(frame, epoch, epochs[-1])
        frames.append(np.asarray(frame))
    return frames + [frames[-1]] * (LAST_SHOWN - 1)


def _draw_strip(frame: Image.Image, epoch: int, last: int) -> None:
    """A bar that grows with the epochs, and the number of this one."""
    draw = ImageDraw.Draw(frame)
    middle, left, right = frame.height - STRIP // 2, 110, frame.width - 18
    draw.text((18, middle), f"epoch {epoch}", fill=INK if epoch else GREY, font=_font(), anchor="lm")
    draw.line((left, middle, right, middle), fill=RULE, width=4)
    draw.line((left, middle, left + (right - left) * epoch // max(1, last), middle), fill=BLUES[3], width=4)


@cache
def _font() -> Any:
    return ImageFont.truetype(findfont(FontProperties(family="DejaVu Sans")), 15)
