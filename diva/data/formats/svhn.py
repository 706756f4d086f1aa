"""SVHN's .mat files (version 5): X (32, 32, 3, N) and y (N, 1), where 10 stands for the digit 0.

Source: http://ufldl.stanford.edu/housenumbers/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy

from diva.data.formats import Block
from diva.data.formats.matlab import load
from diva.data.formats.streams import BLOCK, by_split, option
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from diva.data.catalogue import Card

OPTIONS = ("zero",)


def read(files: Mapping[str, Path], card: Card) -> Iterator[Block]:
    """The images of every split that has a file. Option: `zero` (10), the label that stands for class 0."""
    for split, paths in by_split(files, card).items():
        for path in paths:
            found = load(path, {"X": "uint8", "y": ""})
            images, labels = found["X"], found["y"].reshape(-1)
            if images.ndim != 4 or 0 in images.shape or images.shape[2] != 3 or images.shape[3] != len(labels):
                raise DataError(
                    f"{path.name}: X is {images.shape}, y {found['y'].shape}; expected (H, W, 3, N) and (N, 1)"
                )
            numbers = labels.astype(numpy.int64)
            if not numpy.array_equal(numbers, labels):
                raise DataError(f"{path.name}: y holds numbers that are no integers")
            zero = option(card, "zero", int, 10)
            wrong = numpy.flatnonzero((numbers < 1) | (numbers > zero))
            if len(wrong):
                raise DataError(f"{path.name}: sample {wrong[0]} has label {numbers[wrong[0]]}; allowed: 1 to {zero}")
            numbers[numbers == zero] = 0
            by_sample = images.transpose(3, 0, 1, 2)
            for start in range(0, len(labels), BLOCK):
                yield Block(split, by_sample[start : start + BLOCK], numbers[start : start + BLOCK], start)
