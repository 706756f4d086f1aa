"""Augmentation of images in training: every number is drawn from torch's global generator, which is seeded per sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy
import torch

from diva.torchvision_shim import import_torchvision

if TYPE_CHECKING:
    from collections.abc import Callable


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


def build_augmentation(
    *, crop_padding: int, flip: bool, rotation: float, colour: float, rand_augment: int, erasing: float
) -> Augmentation:
    """What these knobs ask for. Cropping and flipping are done here; the rest is torchvision's, which takes 2 s to import."""
    if not any((rotation, colour, rand_augment, erasing)):
        return Augmentation(crop_padding, flip)
    import_torchvision()
    from torchvision.transforms import v2

    steps = [
        *([v2.RandomRotation(rotation, interpolation=v2.InterpolationMode.BILINEAR)] if rotation else []),
        *([v2.ColorJitter(colour, colour, colour, min(0.5, colour / 4))] if colour else []),
        *([v2.RandAugment(rand_augment)] if rand_augment else []),
    ]
    erase = v2.RandomErasing(erasing) if erasing else None
    return Augmentation(crop_padding, flip, v2.Compose(steps) if steps else None, erase)
