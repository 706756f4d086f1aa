"""What experiments on images share: the knobs of size, normalisation and augmentation, and how a folder of images becomes data."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from diva.errors import DataError, UsageError
from diva.learning.task import Data, DataFolder, Task, Unseen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy

Labels = Literal["one", "several", "any"]
_HAVE = {
    "several": "images have any number of labels each (images/ and labels.csv), which --task multi_label learns",
    "none": "images lie in no class folders, so they have no labels",
}
_WANTED = {"one": "train|val|test/<class>/<image>", "several": "images/ and labels.csv in train/, val/ and test/"}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


class ImageTask(Task, ABC):
    """A task on images. `load_images` reads class folders, or images without labels; add the model, the loss and the metrics."""

    image_size: int | None = Field(
        None, ge=1, description="resize images to a square of so many pixels; needed when sizes differ"
    )
    normalize: Literal["train", "imagenet", "none"] = Field(
        "train",
        description="mean and standard deviation that pixels are normalised with: of the training split, of ImageNet, or neither",
    )
    crop_padding: int = Field(
        0, ge=0, description="augmentation: pad by so many pixels, then crop at random to the old size"
    )
    flip: bool = Field(False, description="augmentation: mirror left to right, half of the time")
    rotation: float = Field(0.0, ge=0, le=180, description="augmentation: turn by up to so many degrees")
    colour: float = Field(
        0.0, ge=0, le=1, description="augmentation: strength of changes of brightness, contrast, saturation, hue"
    )
    rand_augment: int = Field(0, ge=0, description="augmentation: RandAugment with so many operations")
    erasing: float = Field(0.0, ge=0, le=1, description="augmentation: probability that a rectangle is erased")

    def load_images(
        self, folder: DataFolder, *, labels: Labels = "one", rgb: bool = False, balanced: bool = False
    ) -> Data:
        """Read `train|val|test/<class>/<image>`, or images in one of the other layouts; statistics come from the training split alone.

        labels: how many an image must have; with "any", class folders, several labels and none are taken, and DataError is raised for
        other data. rgb: grey images become (3, H, W), as torchvision's models want them. balanced: an epoch reads every class equally
        often. Each split is an `Images`. The facts: `classes` ([""] without labels), `class_counts`, `channels`, `input_size` [H, W],
        `mode` and `normalisation`, and what `image_statistics` found.
        """
        from diva.data.augmentation import NOTHING, build_augmentation
        from diva.data.image_set import Images
        from diva.data.images import image_statistics

        splits = _read(folder.path, labels)
        facts = image_statistics(splits, folder.path, folder.digest, folder.statistics_file)
        size = [self.image_size, self.image_size] if self.image_size else facts["size"]
        if size is None:
            raise UsageError("the images differ in size; choose one with --image-size, as in --image-size 64")
        mode: Literal["L", "RGB"] = "RGB" if rgb or self.normalize == "imagenet" else facts["mode"]
        channels = 1 if mode == "L" else 3
        mean, std = {
            "train": ((facts["mean"] * channels)[:channels], (facts["std"] * channels)[:channels]),
            "imagenet": (IMAGENET["mean"], IMAGENET["std"]),
            "none": ([0.0] * channels, [1.0] * channels),
        }[self.normalize]
        steps = build_augmentation(
            crop_padding=self.crop_padding, flip=self.flip, rotation=self.rotation, colour=self.colour,
            rand_augment=self.rand_augment, erasing=self.erasing,
        )  # fmt: skip
        sets = {
            name: Images(found.paths, _labels(found), mode, size, mean, std, steps if name == "train" else NOTHING,
                         balanced=balanced and name == "train")
            for name, found in splits.items()
        }  # fmt: skip
        counts = {name: _counts(found) for name, found in splits.items()}
        classes = list(splits["train"].classes) or [""]
        own = {"classes": classes, "class_counts": counts, "channels": channels, "input_size": size}
        return Data(sets["train"], sets["val"], sets["test"], facts={**facts, **own, "normalisation": [mean, std]})

    def read_unseen(self, folder: Path, data: Data) -> Unseen:
        """Images in class folders, with several labels, or without labels; of the size, mode and normalisation of the training images.

        Batches are those of `load_images`, each label 0. Add `predict`, and the task can be applied.
        """
        from diva.data.image_set import Images
        from diva.data.unseen import find_images

        found = find_images(folder)
        mode: Literal["L", "RGB"] = "L" if data.facts["channels"] == 1 else "RGB"
        mean, std = data.facts["normalisation"]
        images = Images(found.paths, (0,) * len(found.paths), mode, data.facts["input_size"], mean, std)
        return Unseen(images, found.names, found.labels)


def _read(folder: Path, labels: Labels) -> Mapping[str, Any]:
    """The images of each split: of class folders, of several labels each, or without labels."""
    from diva.data.layouts import layout_of, read_splits
    from diva.data.layouts.class_folders import read_image_folders

    layout = layout_of(folder)
    if layout not in ("multi label", "images"):
        return read_image_folders(folder)
    found = "several" if layout == "multi label" else "none"
    if labels not in ("any", found):
        raise DataError(f"{folder}: {_HAVE[found]}; this task takes {_WANTED[labels]}")
    return read_splits(folder, layout)


def _labels(found: Any) -> Any:
    """The class of each image; of several labels, float32 (n, C) of 0 and 1; 0 for all without labels."""
    import numpy

    if not found.classes:
        return (0,) * len(found)
    if not len(found) or isinstance(found.labels[0], int):
        return found.labels
    several: numpy.ndarray = numpy.zeros((len(found), len(found.classes)), numpy.float32)
    for row, labels in enumerate(found.labels):
        several[row, list(labels)] = 1
    return several


def _counts(found: Any) -> list[int]:
    """How many images of each class there are, (C,); of all, without labels."""
    n_classes = len(found.classes)
    if not n_classes:
        return [len(found)]
    counts = [0] * n_classes
    for index in range(len(found)):
        for label in found.targets(index):
            counts[label] += 1
    return counts
