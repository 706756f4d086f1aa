"""Images as a data set: from files to what the network sees; decoding, resizing, augmentation, normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy
import torch
from torch.utils.data import Dataset

from diva.data.augmentation import NOTHING, Augmentation
from diva.data.crops import Crop, crops, enlarged
from diva.data.pixels import Pixels
from diva.data.sampling import balanced_order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from diva.seeding import Seeds


class Images(Dataset[tuple["Tensor", "Tensor"]]):
    """One split as (image, label) pairs: float32 (channels, H, W) and int64 () or, of several labels, float32 (C,).

    labels: an int per image, or an array (n, C). Its `pixels` are what `--cache` keeps in memory.
    """

    def __init__(self, paths: Sequence[Path], labels: Sequence[int] | numpy.ndarray, mode: Literal["L", "RGB"],
                 size: Sequence[int], mean: Sequence[float], std: Sequence[float], augmentation: Augmentation = NOTHING,
                 *, balanced: bool = False) -> None:  # fmt: skip
        self.paths, self.labels, self.mean, self.std = tuple(paths), labels, mean, std
        self.pixels = Pixels(self.paths, mode, size)
        self.augmentation, self.balanced = augmentation, balanced

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, labels = self.read_batch([index], lambda k: None)
        return images[0], labels[0]

    def read_batch(self, indices: Sequence[int], seed: Callable[[int], None]) -> tuple[Tensor, Tensor]:
        """Images float32 (B, channels, H, W) and labels (B,) or (B, C). `seed(k)` seeds the generators for the k-th image."""
        pixels, steps = self.pixels.read(indices), self.augmentation  # (B, H, W, channels)
        height, width, channels = self.pixels.shape
        images = numpy.empty((len(indices), channels, height, width), numpy.float32)
        for k, image in enumerate(pixels):
            if steps != NOTHING:
                seed(k)
                image = steps.crop_and_flip(image)
            if steps.transform:
                image = numpy.asarray(steps.transform(_to_pil(image))).reshape(image.shape)
            images[k] = image.transpose(2, 0, 1)
            if steps.erase:
                self._normalise(images[k])
                images[k] = steps.erase(torch.from_numpy(images[k]))
        if not steps.erase:
            self._normalise(images)
        return torch.from_numpy(images), torch.as_tensor(numpy.asarray([self.labels[index] for index in indices]))

    def _normalise(self, images: numpy.ndarray) -> None:
        """From 0..255 to shares of it, less the mean and by the standard deviation, in place: float32 (..., channels, H, W)."""
        images /= numpy.float32(255)
        std = [value or 1.0 for value in self.std]  # a constant channel has no spread to divide by
        images -= numpy.array(self.mean, numpy.float32).reshape(-1, 1, 1)
        images /= numpy.array(std, numpy.float32).reshape(-1, 1, 1)

    def epoch_order(self, seeds: Seeds, epoch: int) -> numpy.ndarray:
        """Which images an epoch of training reads, in which order."""
        if self.balanced:
            return balanced_order([int(label) for label in self.labels], seeds, epoch)
        return seeds.order(len(self), "shuffle", epoch)

    def subset(self, indices: Sequence[int]) -> Images:
        """The data set of these images, in this order."""
        labels: Any = [self.labels[i] for i in indices]
        labels = numpy.asarray(labels) if isinstance(self.labels, numpy.ndarray) else tuple(labels)
        mode, size = self.pixels.mode, self.pixels.size
        return Images([self.paths[i] for i in indices], labels, mode, size, self.mean, self.std, self.augmentation,
                      balanced=self.balanced)  # fmt: skip

    def views(self, n: int) -> list[tuple[str, Crop]]:
        """`n` crops of every image, none augmented, with what each shows: for predictions that are averaged over them."""
        mode, size = self.pixels.mode, self.pixels.size
        return crops(Images(self.paths, self.labels, mode, enlarged(size), self.mean, self.std), size, n)

    def picture(self, index: int) -> numpy.ndarray:
        """The image before augmentation for people to look at: uint8 (H, W) or (H, W, 3)."""
        pixels: numpy.ndarray = self.pixels.read([index])[0]
        return pixels.squeeze(2) if self.pixels.mode == "L" else pixels

    def sample(self, index: int) -> numpy.ndarray:
        """The image as the network sees it, augmented, for people to look at: uint8 (H, W) or (H, W, 3)."""
        return self.shown(self[index][0])

    def shown(self, image: Tensor) -> numpy.ndarray:
        """A normalised image (channels, H, W), or one like it that a network made, for people to look at: uint8 (H, W) or (H, W, 3)."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, [s or 1.0 for s in self.std]))
        pixels = (image * std + mean).clamp(0, 1).permute(1, 2, 0)
        return (pixels * 255).round().to(torch.uint8).squeeze(2).numpy()


def _to_pil(image: numpy.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(numpy.ascontiguousarray(image.squeeze(2) if image.shape[2] == 1 else image))
