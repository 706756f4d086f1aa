"""Handwritten digits that come with scikit-learn, as images in class folders."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NOTICE = """Optical recognition of handwritten digits, the copy that scikit-learn bundles (the test part of the UCI set, 13 writers).
E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, licence CC BY 4.0.
Grey levels 0 to 16 are written as 0 to 255. The writers of the images are not recorded, so the splits share writers.
"""


def write_digits(folder: Path) -> None:
    """scikit-learn's 1,797 real handwritten digits, 8 x 8 pixels, as `train|val|test/<digit>/<index>.png`: about 60, 20, 20 %.

    The images of each digit are dealt to the splits in the order of the SHA-256 of their index, so the split depends on no generator.
    """
    import numpy
    from PIL import Image
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    grey = numpy.minimum(images.astype(numpy.uint16) * 16, 255).astype(numpy.uint8).reshape(-1, 8, 8)
    for digit in range(10):
        members = [int(i) for i in numpy.flatnonzero(labels == digit)]
        members.sort(key=lambda i: hashlib.sha256(f"digits {i}".encode()).digest())
        first, second = round(0.6 * len(members)), round(0.8 * len(members))
        for split, part in (("train", members[:first]), ("val", members[first:second]), ("test", members[second:])):
            (folder / split / str(digit)).mkdir(parents=True)
            for i in part:  # stored, not compressed: compressors differ in their bytes
                Image.fromarray(grey[i]).save(folder / split / str(digit) / f"{i:04}.png", compress_level=0)
    (folder / "LICENCE.txt").write_text(NOTICE, encoding="utf-8")
