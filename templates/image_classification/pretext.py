"""A pretext, with which a network learns to see without a single label: by how much was the image turned?

Source: Gidaris, Singh and Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch.utils.data import Dataset

from diva import Data, Images, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

TURNS = ("0 degrees", "90 degrees", "180 degrees", "270 degrees")


class Turned(Dataset[tuple["Tensor", "Tensor"]]):
    """Every image four times, turned by 0, 90, 180 and 270 degrees to the left: number 4 i + k is image i after k quarter turns.

    It is turned last, after whatever augmentation; the label is k. Images are square. chosen: the numbers of the samples, by default all.
    """

    def __init__(self, images: Images, chosen: Sequence[int] | None = None) -> None:
        self.images, self.pixels = images, images.pixels
        self.chosen = range(4 * len(images)) if chosen is None else chosen
        self.labels = tuple(number % 4 for number in self.chosen)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, labels = self.read_batch([index], lambda k: None)
        return images[0], labels[0]

    def read_batch(self, indices: Sequence[int], seed: Callable[[int], None]) -> tuple[Tensor, Tensor]:
        """Images float32 (B, channels, H, W) and turns (B,). `seed(k)` seeds the generators for the k-th image."""
        images, _ = self.images.read_batch([self.chosen[index] // 4 for index in indices], seed)
        labels = [self.labels[index] for index in indices]
        return torch.stack([x.rot90(turn, (1, 2)) for x, turn in zip(images, labels, strict=True)]), torch.tensor(
            labels
        )

    def subset(self, indices: Sequence[int]) -> Turned:
        """The data set of these samples, in this order."""
        return Turned(self.images, [self.chosen[index] for index in indices])

    def picture(self, index: int) -> numpy.ndarray:
        """The turned image before augmentation for people to look at: uint8 (H, W) or (H, W, 3)."""
        return numpy.rot90(self.images.picture(self.chosen[index] // 4), self.labels[index]).copy()

    def sample(self, index: int) -> numpy.ndarray:
        """The image as the network sees it, augmented and turned, for people to look at: uint8 (H, W) or (H, W, 3)."""
        return self.images.shown(self[index][0])


def turned(data: Data) -> Data:
    """Every split with its images turned, and the four turns as its classes; UsageError when an image is not square."""
    height, width = data.facts["input_size"]
    if height != width:
        raise UsageError(f"--pretext rotation turns square images, these have {height} x {width}; choose --image-size")
    sets: dict[Any, Any] = {name: Turned(data.split(name)) for name in ("train", "val", "test")}  # type: ignore[arg-type]
    counts = {name: [len(found) // 4] * 4 for name, found in sets.items()}
    facts = {**data.facts, "classes": list(TURNS), "class_counts": counts, "pretext": "rotation"}
    return Data(sets["train"], sets["val"], sets["test"], facts, data.constants)
