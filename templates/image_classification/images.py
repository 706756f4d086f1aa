"""From an image file to what the network sees: decoding, resizing, augmentation, normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch.utils.data import Dataset

from diva import ImageFolder, import_torchvision, open_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL import Image
    from torch import Tensor

    from .task import ImageClassification


class Images(Dataset[tuple["Tensor", int]]):
    """One split as (image, label) pairs: float32 (channels, H, W) and an int."""

    def __init__(self, folder: ImageFolder, mode: str, size: Sequence[int], mean: Sequence[float], std: Sequence[float],
                 augment: Callable[[Any], Any] | None = None, erase: Callable[[Any], Any] | None = None) -> None:  # fmt: skip
        self.folder, self.mode, self.size, self.augment, self.erase = folder, mode, size, augment, erase
        self.mean = torch.tensor(mean).view(-1, 1, 1)
        self.std = torch.tensor([s or 1.0 for s in std]).view(-1, 1, 1)  # a constant channel has no spread to divide by

    def __len__(self) -> int:
        return len(self.folder.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.decode(index)
        if self.augment is not None:
            image = self.augment(image)
        pixels = torch.from_numpy(numpy.array(image)).view(*self.size, -1).permute(2, 0, 1)  # (channels, H, W)
        normalised = (pixels / 255 - self.mean) / self.std
        return (self.erase(normalised) if self.erase else normalised), self.folder.labels[index]

    def decode(self, index: int) -> Image.Image:
        """The image before augmentation, resized (Pillow's bilinear filter) when its size is another."""
        image = open_image(self.folder.paths[index], "L" if self.mode == "L" else "RGB")
        height, width = self.size
        return image if image.size == (width, height) else image.resize((width, height), 2)

    def picture(self, index: int) -> numpy.ndarray:
        """The image before augmentation for people to look at: uint8 (H, W) or (H, W, 3)."""
        return numpy.asarray(self.decode(index))

    def sample(self, index: int) -> numpy.ndarray:
        """The image as the network sees it, augmented, for people to look at: uint8 (H, W) or (H, W, 3)."""
        pixels = (self[index][0] * self.std + self.mean).clamp(0, 1).permute(1, 2, 0)
        return (pixels * 255).round().to(torch.uint8).squeeze(2).numpy()


def build_augmentation(task: ImageClassification, size: Sequence[int]) -> tuple[Any, Any]:
    """What the knobs ask for: a transform of the decoded image, and one of the normalised tensor; None where there is nothing to do."""
    wanted = (task.crop_padding, task.flip, task.rotation, task.colour, task.rand_augment, task.erasing)
    if not any(wanted):
        return None, None  # torchvision takes 2 s to import
    import_torchvision()
    from torchvision.transforms import v2

    steps = [
        *([v2.RandomCrop(tuple(size), padding=task.crop_padding)] if task.crop_padding else []),
        *([v2.RandomHorizontalFlip()] if task.flip else []),
        *([v2.RandomRotation(task.rotation, interpolation=v2.InterpolationMode.BILINEAR)] if task.rotation else []),
        *([v2.ColorJitter(task.colour, task.colour, task.colour, min(0.5, task.colour / 4))] if task.colour else []),
        *([v2.RandAugment(task.rand_augment)] if task.rand_augment else []),
    ]
    return (v2.Compose(steps) if steps else None), (v2.RandomErasing(task.erasing) if task.erasing else None)
