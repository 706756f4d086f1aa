"""Real handwritten digits, one to four in an image: which digits occur?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy

from diva.data import png
from diva.data.bundled.digits import NOTICE, dealt_digits, grey_digits
from diva.data.bundled.random import Stream

if TYPE_CHECKING:
    from pathlib import Path

IMAGES: Final = {"train": 1200, "val": 300, "test": 300}
SIDE: Final = 28
_CELL: Final = SIDE // 2  # a digit of 8 x 8 pixels lies somewhere in a quarter of the image
_SHARES: Final = tuple(
    14 - digit for digit in range(10)
)  # so often is a digit drawn: 0 almost three times as often as 9


def scene(stream: Stream, grey: numpy.ndarray, members: dict[int, list[int]]) -> tuple[numpy.ndarray, set[int]]:
    """An image, uint8 (28, 28), and which digits are in it; a digit may be in it twice, by another hand or the same.

    grey: all digits, uint8 (n, 8, 8). members: of each digit the images that may be used.
    """
    image, present = numpy.zeros((SIDE, SIDE), numpy.uint8), set()
    cells = [0, 1, 2, 3]
    for _ in range(stream.between(1, 4)):
        row, column = divmod(cells.pop(stream.below(len(cells))), 2)
        at = stream.below(sum(_SHARES))
        digit = next(d for d in range(10) if at < sum(_SHARES[: d + 1]))
        top, left = (_CELL * place + stream.below(_CELL - 8 + 1) for place in (row, column))
        image[top : top + 8, left : left + 8] = grey[members[digit][stream.below(len(members[digit]))]]
        present.add(digit)
    return image, present


def write_several_digits(folder: Path) -> None:
    """`<split>/images/<number>.png` and `<split>/labels.csv`: a column per digit, 1 where it occurs.

    A digit is in the same split as in `digits`, so no handwritten digit of the test images has been seen in training.
    """
    grey, dealt = grey_digits(), dealt_digits()
    for split, n in IMAGES.items():
        (folder / split / "images").mkdir(parents=True)
        lines = [",".join(("image", *map(str, range(10))))]
        for i in range(n):
            image, present = scene(Stream(f"several_digits {split} {i}"), grey, dealt[split])
            (folder / split / "images" / f"{i:04}.png").write_bytes(png.encode(image))
            lines.append(",".join((f"{i:04}.png", *("01"[digit in present] for digit in range(10)))))
        (folder / split / "labels.csv").write_bytes(("\n".join(lines) + "\n").encode())
    (folder / "LICENCE.txt").write_text(NOTICE, encoding="utf-8")
