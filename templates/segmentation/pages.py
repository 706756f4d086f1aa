"""Pages of any size: what is read of them, crops to learn from, crops to validate on, whole pages to test on."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy
import torch
from torch.utils.data import Dataset

from diva import DataError, ImageFolder, Seeds, find_images, open_image

from .coding import IGNORED, Coding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

Crop = tuple["Tensor", "Tensor", "Tensor"]
"""Image float32 (channels, S, S), class numbers uint8 (S, S), which pixels are at a boundary bool (S, S)."""


@dataclass(frozen=True)
class Reader:
    """How pages are read: in grey or colour, normalised with a mean and a standard deviation per channel, masks by their coding."""

    mode: Literal["L", "RGB"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    coding: Coding

    def normalise(self, pixels: numpy.ndarray) -> Tensor:
        """From uint8 (..., H, W, channels) to float32 (..., channels, H, W)."""
        values = pixels.astype(numpy.float32) / numpy.float32(255)
        values -= numpy.array(self.mean, numpy.float32)
        values /= numpy.array([value or 1.0 for value in self.std], numpy.float32)
        return torch.from_numpy(numpy.ascontiguousarray(numpy.moveaxis(values, -1, -3)))


@dataclass(frozen=True)
class Page:
    """A page on disk and its mask, read when asked for; `mask` None: nobody knows."""

    image: Path
    mask: Path | None
    reader: Reader

    def pixels(self) -> numpy.ndarray:
        """uint8 (H, W, channels)."""
        pixels = numpy.asarray(open_image(self.image, self.reader.mode))
        return pixels if pixels.ndim == 3 else pixels[:, :, None]

    def truth(self, shape: Sequence[int]) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Class numbers, uint8 (H, W), and boundary, bool (H, W). DataError for a mask that has not the page's shape."""
        if self.mask is None:
            return numpy.full(shape[:2], IGNORED, numpy.uint8), numpy.zeros(shape[:2], bool)
        labels, boundary = self.reader.coding.read(self.mask)
        if labels.shape != tuple(shape[:2]):
            raise DataError(f"{self.mask}: has {labels.shape} pixels, its image {tuple(shape[:2])}; they must be equal")
        return labels, boundary


Decoded = tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]


class Shelf:
    """Pages, of which those read last stay decoded: pixels, class numbers, boundary. What is kept changes time and no bits."""

    def __init__(self, pages: Sequence[Page], n_kept: int) -> None:
        self.pages, self.n_kept = tuple(pages), n_kept
        self._kept: OrderedDict[int, Decoded] = OrderedDict()

    def read(self, index: int) -> Decoded:
        """A page, decoded."""
        if index not in self._kept:
            pixels = self.pages[index].pixels()
            self._kept[index] = (pixels, *self.pages[index].truth(pixels.shape))
            while len(self._kept) > self.n_kept:
                self._kept.popitem(last=False)
        self._kept.move_to_end(index)
        return self._kept[index]

    def crop(self, index: int, top: int, left: int, size: int) -> Decoded:
        """A square of a page; what lies beyond it is ignored, and as bright as the mean."""
        pixels, labels, boundary = (part[top : top + size, left : left + size] for part in self.read(index))
        missing = [(0, size - length) for length in labels.shape]
        if any(pad for _, pad in missing):
            mean = numpy.array([round(255 * value) for value in self.pages[index].reader.mean], numpy.uint8)
            whole = numpy.empty((size, size, pixels.shape[2]), numpy.uint8)
            whole[:] = mean
            whole[: labels.shape[0], : labels.shape[1]] = pixels
            pixels = whole
            labels, boundary = numpy.pad(labels, missing, constant_values=IGNORED), numpy.pad(boundary, missing)
        return pixels, labels, boundary


class RandomCrops(Dataset[Crop]):
    """Squares of `size` pixels at random places: `n` of each page in an epoch, others in every epoch.

    Pages are read in bundles, and the crops of a bundle are mixed: pages larger than memory are decoded once per epoch, not once per crop.
    """

    def __init__(self, shelf: Shelf, size: int, n: int) -> None:
        self.shelf, self.size, self.n = shelf, size, n

    def __len__(self) -> int:
        return len(self.shelf.pages) * self.n

    def __getitem__(self, index: int) -> Crop:
        page = index // self.n
        height, width = self.shelf.read(page)[1].shape
        top, left = (int(torch.randint(0, max(0, length - self.size) + 1, ())) for length in (height, width))
        return _as_tensors(self.shelf, page, self.shelf.crop(page, top, left, self.size))

    def epoch_order(self, seeds: Seeds, epoch: int) -> numpy.ndarray:
        """Pages in random order, `n_kept` at a time; of these all crops, in random order."""
        pages = seeds.order(len(self.shelf.pages), "shuffle", epoch)
        bundles = [pages[i : i + self.shelf.n_kept] for i in range(0, len(pages), self.shelf.n_kept)]
        crops = [(bundle[:, None] * self.n + numpy.arange(self.n)).reshape(-1) for bundle in bundles]
        return numpy.concatenate(
            [part[seeds.order(len(part), "shuffle crops", epoch, i)] for i, part in enumerate(crops)]
        )


class GridCrops(Dataset[Crop]):
    """Squares that cover each page, always the same; of a page with more than `most` as many, evenly spread.

    Where the last one of a row or a column overlaps the one before it, the pixels count once.
    """

    def __init__(self, shelf: Shelf, sizes: Sequence[Sequence[int]], size: int, most: int | None) -> None:
        self.shelf, self.size = shelf, size
        self.places: list[tuple[int, int, int]] = []
        for page, (height, width) in enumerate(sizes):
            grid = [(page, top, left) for top in starts(height, size, size) for left in starts(width, size, size)]
            n = min(most or len(grid), len(grid))
            self.places += [grid[i * len(grid) // n] for i in range(n)]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Crop:
        page, top, left = self.places[index]
        pixels, labels, boundary = self.shelf.crop(page, top, left, self.size)
        seen_rows, seen_columns = -top % self.size, -left % self.size
        if seen_rows or seen_columns:
            labels = labels.copy()
            labels[:seen_rows], labels[:, :seen_columns] = IGNORED, IGNORED
        return _as_tensors(self.shelf, page, (pixels, labels, boundary))


class WholePages(Dataset[Page]):
    """Pages that are not read yet: whoever takes a batch reads one after the other."""

    def __init__(self, pages: Sequence[Page]) -> None:
        self.pages = tuple(pages)

    def __len__(self) -> int:
        return len(self.pages)

    def __getitem__(self, index: int) -> Page:
        return self.pages[index]

    @staticmethod
    def collate(pages: Sequence[Page]) -> list[Page]:
        """A batch: the pages, which differ in size."""
        return list(pages)


class UnseenPages(WholePages):
    """Pages without masks, of which one that cannot be read is told when it is asked for."""

    def __getitem__(self, index: int) -> Page:
        self.pages[index].pixels()
        return self.pages[index]


def find_pages(folder: Path) -> tuple[list[Path], list[str]]:
    """The images of a folder, of its `data/` where it holds pairs, and their names within it, in the order of the names' bytes."""
    inside = "data/" if (folder / "data").is_dir() and (folder / "gt").is_dir() else ""
    found = find_images(folder / inside)
    return list(found.paths), [inside + name for name in found.names]


def image_folders(pairs: Mapping[str, Any]) -> dict[str, ImageFolder]:
    """The images of pairs, as `image_statistics` takes them."""
    return {name: ImageFolder(part.images, (0,) * len(part), ("",), part.root) for name, part in pairs.items()}


def starts(length: int, size: int, step: int) -> list[int]:
    """Where windows of `size` begin that cover `length` pixels: `step` apart, the last one at the end, and one where all fits in."""
    return [*range(0, max(1, length - size), step), length - size] if length > size else [0]


def _as_tensors(shelf: Shelf, page: int, decoded: Decoded) -> Crop:
    pixels, labels, boundary = decoded
    return (
        shelf.pages[page].reader.normalise(pixels),
        torch.from_numpy(numpy.ascontiguousarray(labels)),
        torch.from_numpy(numpy.ascontiguousarray(boundary)),
    )
