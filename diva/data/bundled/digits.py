"""Handwritten digits that come with scikit-learn, as images in class folders."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

NOTICE = """Optical recognition of handwritten digits, the copy that scikit-learn bundles (the test part of the UCI set, 13 writers).
E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, licence CC BY 4.0.
Grey levels 0 to 16 are written as 0 to 255. The writers of the images are not recorded, so the splits share writers.
"""


def digits_table() -> numpy.ndarray:
    """scikit-learn's own file, float64 (1797, 65): 64 grey levels from 0 to 16 and the digit; scikit-learn is not imported.

    Importing it takes a second, longer than writing the images.
    """
    import numpy

    library = importlib.util.find_spec("sklearn")
    assert library is not None and library.origin is not None  # diva depends on it
    table: numpy.ndarray = numpy.loadtxt(Path(library.origin).parent / "datasets/data/digits.csv.gz", delimiter=",")
    return table


def grey_digits() -> numpy.ndarray:
    """All 1,797 images in scikit-learn's order, uint8 (1797, 8, 8)."""
    import numpy

    images = digits_table()[:, :64].reshape(-1, 8, 8)
    grey: numpy.ndarray = numpy.minimum(images.astype(numpy.uint16) * 16, 255).astype(numpy.uint8)
    return grey


def dealt_digits() -> dict[str, dict[int, list[int]]]:
    """Split -> digit -> the numbers of its images: about 60, 20, 20 % of each digit.

    They are dealt in the order of the SHA-256 of their index, so the split depends on no generator.
    """
    labels = digits_table()[:, 64].astype(int).tolist()
    dealt: dict[str, dict[int, list[int]]] = {"train": {}, "val": {}, "test": {}}
    for digit in range(10):
        members = [i for i, label in enumerate(labels) if label == digit]
        members.sort(key=lambda i: hashlib.sha256(f"digits {i}".encode()).digest())
        first, second = round(0.6 * len(members)), round(0.8 * len(members))
        for split, part in (("train", members[:first]), ("val", members[first:second]), ("test", members[second:])):
            dealt[split][digit] = part
    return dealt


def write_digits(folder: Path) -> None:
    """scikit-learn's 1,797 real handwritten digits, 8 x 8 pixels, as `train|val|test/<digit>/<index>.png`."""
    from PIL import Image

    grey = grey_digits()
    for split, digits in dealt_digits().items():
        for digit, members in digits.items():
            (folder / split / str(digit)).mkdir(parents=True)
            for i in members:  # stored, not compressed: compressors differ in their bytes
                Image.fromarray(grey[i]).save(folder / split / str(digit) / f"{i:04}.png", compress_level=0)
    (folder / "LICENCE.txt").write_text(NOTICE, encoding="utf-8")
