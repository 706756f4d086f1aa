"""Views of an image, for averaging: it is enlarged, and parts as large as the network takes are cut out of it, some mirrored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch.utils.data import Dataset

from diva.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from diva.data.pixels import Pixels

PLACES = ("centre", "top left", "top right", "bottom left", "bottom right")
MOST_CROPS = 2 * len(PLACES)
ENLARGED = (8, 7)  # as 256 is to 224


def enlarged(size: Sequence[int]) -> tuple[int, int]:
    """Height and width that an image is resized to before it is cropped: 8/7 of `size`, rounded up."""
    height, width = (-(-length * ENLARGED[0] // ENLARGED[1]) for length in size)
    return height, width


class Crop(Dataset[Any]):
    """The same part of each enlarged image: batches (B, channels, H, W) and labels."""

    def __init__(self, images: Any, size: Sequence[int], place: str, *, mirrored: bool) -> None:
        """images: an `Images` of the size that `enlarged(size)` says."""
        self.images, self.size, self.mirrored = images, (size[0], size[1]), mirrored
        room = [big - small for big, small in zip(enlarged(size), size, strict=True)]
        self.top = room[0] // 2 if place == "centre" else room[0] * place.startswith("bottom")
        self.left = room[1] // 2 if place == "centre" else room[1] * place.endswith("right")

    @property
    def pixels(self) -> Pixels:
        """What `--cache` keeps: the enlarged images, shared by all crops."""
        kept: Pixels = self.images.pixels
        return kept

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, labels = self.read_batch([index], lambda k: None)
        return images[0], labels[0]

    def read_batch(self, indices: Sequence[int], seed: Callable[[int], None]) -> tuple[Tensor, Tensor]:
        """Images float32 (B, channels, H, W) and labels (B,)."""
        images, labels = self.images.read_batch(indices, seed)
        part = images.numpy()[:, :, self.top : self.top + self.size[0], self.left : self.left + self.size[1]]
        return torch.from_numpy(numpy.ascontiguousarray(part[..., ::-1] if self.mirrored else part)), labels


def crops(images: Any, size: Sequence[int], n: int) -> list[tuple[str, Crop]]:
    """The first `n` of: centre, top left, top right, bottom left, bottom right, and these five mirrored. UsageError beyond ten."""
    if not 1 <= n <= MOST_CROPS:
        raise UsageError(f"--crops {n}: allowed are 1 (the whole image) to {MOST_CROPS}")
    found = [
        (f"{place}, mirrored" if mirrored else place, Crop(images, size, place, mirrored=mirrored))
        for mirrored in (False, True)
        for place in PLACES
    ]
    return found[:n]
