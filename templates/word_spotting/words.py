"""Images of words: what lies in a folder, what is written in each image, and how images become batches."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy
import torch
from torch.utils.data import Dataset

from diva import DataError, Pixels, padded_width

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

TABLE = "transcriptions.csv"
Batch = tuple["Tensor", "Tensor", "Tensor"]


def read_words(folder: Path, paths: Sequence[Path]) -> list[str]:
    """What is written in each image of a split: `word` in its `transcriptions.csv`, else the name of the folder it lies in.

    DataError names the file and what is missing.
    """
    names = [path.relative_to(folder).as_posix() for path in paths]
    table = folder / TABLE
    if not table.is_file():
        loose = [name for name in names if "/" not in name]
        if loose:
            raise DataError(
                f"{folder / loose[0]}: nothing says what is written in it; put images in folders named by their word, "
                f"{folder.name}/<word>/<image>, or write {table} with the columns image and word"
            )
        return [name.partition("/")[0] for name in names]
    written = _read_table(table)
    for name in names:
        if not written.get(name):
            raise DataError(f"{table}: has no word for the image {name}; add a row, or remove the image")
    strange = sorted(written.keys() - set(names))
    if strange:
        raise DataError(f"{table}: there is no image {strange[0]}; mend the name, or remove the row")
    return [written[name] for name in names]


def _read_table(table: Path) -> dict[str, str]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            missing = {"image", "word"} - set(rows.fieldnames or ())
            if missing:
                raise DataError(f"{table}: has no column {sorted(missing)[0]}; expected the header image,word")
            written: dict[str, str] = {}
            for number, row in enumerate(rows, 2):
                if not row["image"]:
                    raise DataError(f"{table}: row {number} names no image; write its name, or remove the row")
                if row["image"] in written:
                    raise DataError(
                        f"{table}: row {number} lists {row['image']} again; keep the row with the right word"
                    )
                written[row["image"]] = (row["word"] or "").strip()
            return written
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a CSV file in UTF-8 ({error})") from None


class WordImages(Dataset[Batch]):
    """One split as (image, columns, word): float32 (1, H, W), how many of its columns are not padding, and the word's number.

    distortion: of training images, see `_distorted`; 0 for none. mean, std: of grey values in [0, 1].
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[int],
        size: Sequence[int],
        mean: float,
        std: float,
        distortion: float = 0.0,
    ) -> None:
        self.paths, self.labels, self.size = tuple(paths), tuple(labels), (size[0], size[1])
        self.mean, self.std, self.distortion = mean, std, distortion
        self.pixels = Pixels(self.paths, "L", size, pad=True)
        self.columns = [padded_width(path, size) for path in self.paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Batch:
        images, columns, words = self.read_batch([index], lambda k: None)
        return images[0], columns[0], words[0]

    def read_batch(self, indices: Sequence[int], seed: Callable[[int], None]) -> Batch:
        """Images float32 (B, 1, H, W), columns int64 (B,), words int64 (B,). `seed(k)` seeds the generators for the k-th image."""
        pixels = self.pixels.read(indices)[..., 0]  # (B, H, W)
        if self.distortion:
            for k, image in enumerate(pixels):
                seed(k)
                pixels[k] = _distorted(image, self.distortion)
        images = (pixels / numpy.float32(255) - numpy.float32(self.mean)) / numpy.float32(self.std or 1.0)
        columns, words = ([values[index] for index in indices] for values in (self.columns, self.labels))
        return torch.from_numpy(images[:, None]), torch.tensor(columns), torch.tensor(words)

    def subset(self, indices: Sequence[int]) -> WordImages:
        """The data set of these images, in this order."""
        paths, labels = [self.paths[i] for i in indices], [self.labels[i] for i in indices]
        return WordImages(paths, labels, self.size, self.mean, self.std, self.distortion)

    def picture(self, index: int) -> numpy.ndarray:
        """The image without its padding, for people to look at: uint8 (H, columns)."""
        pixels: numpy.ndarray = self.pixels.read([index])[0, :, : self.columns[index], 0]
        return pixels

    def sample(self, index: int) -> numpy.ndarray:
        """The image as the network sees it, padded and distorted, for people to look at: uint8 (H, W)."""
        pixels = (self[index][0][0] * (self.std or 1.0) + self.mean).clamp(0, 1)
        return (pixels * 255).round().to(torch.uint8).numpy()


def _distorted(image: numpy.ndarray, strength: float) -> numpy.ndarray:
    """The image, uint8 (H, W), slanted, stretched and moved up or down at random, its contrast changed.

    Drawn from torch's global generator, evenly: slant up to `strength` columns per row, height by up to a share of `strength` / 2, place
    by up to `strength` / 8 of it, contrast down by up to `strength`.
    """
    from PIL import Image

    slant, stretch, place, contrast = (strength * (2 * torch.rand(4, dtype=torch.float64) - 1)).tolist()
    height, width = image.shape
    paper = int(numpy.sort(image, axis=None)[image.size // 2])
    stretch, middle = 1 + stretch / 2, height / 2
    shift = middle - stretch * middle + place * height / 8
    matrix = (1.0, slant, -slant * middle, 0.0, stretch, shift)
    moved = Image.fromarray(image).transform(
        (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=paper
    )
    values = paper + (numpy.asarray(moved).astype(numpy.float64) - paper) * (1 - abs(contrast))
    rounded: numpy.ndarray = numpy.rint(values).clip(0, 255).astype(numpy.uint8)
    return rounded
