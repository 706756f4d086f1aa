"""From an image file to what the network sees: decoding, resizing, augmentation, normalisation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy
import torch
from torch.utils.data import Dataset

from diva import ImageFolder, Pixels, Seeds, balanced_order, import_torchvision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from .task import ImageClassification


@dataclass(frozen=True)
class Augmentation:
    """What happens to an image in training, in this order; every number is drawn from torch's global generator."""

    crop_padding: int = 0
    flip: bool = False
    transform: Callable[[Any], Any] | None = None
    """Of the image, a `PIL.Image`."""
    erase: Callable[[Any], Any] | None = None
    """Of the normalised tensor."""

    def crop_and_flip(self, image: numpy.ndarray) -> numpy.ndarray:
        """The image, uint8 (H, W, channels), surrounded by black and cropped to its old size; mirrored half of the time.

        Draws what `RandomCrop` and `RandomHorizontalFlip` of torchvision draw, so that the outcome is theirs, ten times faster.
        """
        pad = self.crop_padding
        if pad:
            height, width, channels = image.shape
            top, left = (int(torch.randint(0, 2 * pad + 1, ())) for _ in range(2))
            padded = numpy.zeros((height + 2 * pad, width + 2 * pad, channels), numpy.uint8)
            padded[pad:-pad, pad:-pad] = image
            image = padded[top : top + height, left : left + width]
        return image[:, ::-1] if self.flip and float(torch.rand(1)) < 0.5 else image


NOTHING = Augmentation()


class Images(Dataset[tuple["Tensor", int]]):
    """One split as (image, label) pairs: float32 (channels, H, W) and an int. Its `pixels` are what `--cache` keeps in memory."""

    def __init__(self, folder: ImageFolder, mode: Literal["L", "RGB"], size: Sequence[int], mean: Sequence[float], std: Sequence[float],
                 augmentation: Augmentation = NOTHING, *, balanced: bool = False) -> None:  # fmt: skip
        self.folder, self.mean, self.std = folder, mean, std
        self.pixels = Pixels(folder.paths, mode, size)
        self.augmentation, self.balanced = augmentation, balanced

    @property
    def labels(self) -> Sequence[int]:
        """The class of each image: `--subset` keeps the classes in proportion."""
        return self.folder.labels

    def __len__(self) -> int:
        return len(self.folder.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.read_batch([index], lambda k: None)
        return images[0], int(labels[0])

    def read_batch(self, indices: Sequence[int], seed: Callable[[int], None]) -> tuple[Tensor, Tensor]:
        """Images float32 (B, channels, H, W) and labels (B,). `seed(k)` seeds the generators for the k-th image."""
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
        return torch.from_numpy(images), torch.tensor([self.folder.labels[index] for index in indices])

    def _normalise(self, images: numpy.ndarray) -> None:
        """From 0..255 to shares of it, less the mean and by the standard deviation, in place: float32 (..., channels, H, W)."""
        images /= numpy.float32(255)
        std = [value or 1.0 for value in self.std]  # a constant channel has no spread to divide by
        images -= numpy.array(self.mean, numpy.float32).reshape(-1, 1, 1)
        images /= numpy.array(std, numpy.float32).reshape(-1, 1, 1)

    def epoch_order(self, seeds: Seeds, epoch: int) -> numpy.ndarray:
        """Which images an epoch of training reads, in which order."""
        if self.balanced:
            return balanced_order(self.labels, seeds, epoch)
        return seeds.order(len(self), "shuffle", epoch)

    def subset(self, indices: Sequence[int]) -> Images:
        """The data set of these images, in this order."""
        paths, labels = tuple(self.folder.paths[i] for i in indices), tuple(self.folder.labels[i] for i in indices)
        folder = replace(self.folder, paths=paths, labels=labels)
        mode, size = self.pixels.mode, self.pixels.size
        return Images(folder, mode, size, self.mean, self.std, self.augmentation, balanced=self.balanced)

    def picture(self, index: int) -> numpy.ndarray:
        """The image before augmentation for people to look at: uint8 (H, W) or (H, W, 3)."""
        pixels: numpy.ndarray = self.pixels.read([index])[0]
        return pixels.squeeze(2) if self.pixels.mode == "L" else pixels

    def sample(self, index: int) -> numpy.ndarray:
        """The image as the network sees it, augmented, for people to look at: uint8 (H, W) or (H, W, 3)."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, [s or 1.0 for s in self.std]))
        pixels = (self[index][0] * std + mean).clamp(0, 1).permute(1, 2, 0)
        return (pixels * 255).round().to(torch.uint8).squeeze(2).numpy()


def _to_pil(image: numpy.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(numpy.ascontiguousarray(image.squeeze(2) if image.shape[2] == 1 else image))


def build_augmentation(task: ImageClassification) -> Augmentation:
    """What the knobs ask for. Cropping and flipping are done here; the rest is torchvision's, which takes 2 s to import."""
    plain = Augmentation(task.crop_padding, task.flip)
    if not any((task.rotation, task.colour, task.rand_augment, task.erasing)):
        return plain
    import_torchvision()
    from torchvision.transforms import v2

    steps = [
        *([v2.RandomRotation(task.rotation, interpolation=v2.InterpolationMode.BILINEAR)] if task.rotation else []),
        *([v2.ColorJitter(task.colour, task.colour, task.colour, min(0.5, task.colour / 4))] if task.colour else []),
        *([v2.RandAugment(task.rand_augment)] if task.rand_augment else []),
    ]
    erase = v2.RandomErasing(task.erasing) if task.erasing else None
    return replace(plain, transform=v2.Compose(steps) if steps else None, erase=erase)
