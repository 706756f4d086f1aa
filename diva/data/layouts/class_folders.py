"""Class folders: `<class>/**/<image>`; an image's class is the folder it lies in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from diva.data.layouts.listing import IMAGES, folders_by_class, images_under, relative
from diva.errors import DataError
from diva.records.files import printable


@dataclass(frozen=True)
class ImageFolder:
    """The images of one split: paths, their class numbers, and the names of all classes."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    root: Path = Path()

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """`<class>/<image>`."""
        return relative(self.paths[index], self.root)

    def files(self, index: int) -> tuple[Path, ...]:
        """The image."""
        return (self.paths[index],)

    def targets(self, index: int) -> tuple[int, ...]:
        """Its class."""
        return (self.labels[index],)

    def counts(self) -> list[int]:
        """Number of images of each class, (C,)."""
        found = Counter(self.labels)
        return [found[i] for i in range(len(self.classes))]


def read(folder: Path, classes: tuple[str, ...] | None = None) -> ImageFolder:
    """The images of a split's folder; with `classes` (those of train), no other may be there, and one without a folder is allowed.

    Raises DataError for a class folder without an image, and when there is no image at all.
    """
    paths: list[Path] = []
    labels: list[int] = []
    names: tuple[str, ...] = ()
    for label, place, all_classes in folders_by_class(folder, classes, "image"):
        names = all_classes
        images = images_under(place)
        if not images:
            raise DataError(
                f"{place}: holds no image; known kinds are {' '.join(sorted(IMAGES))}. Remove the folder or fill it"
            )
        paths += images
        labels += [label] * len(images)
    return ImageFolder(tuple(paths), tuple(labels), names, folder)


def read_image_folders(folder: Path) -> dict[str, ImageFolder]:
    """The layout `train|val|test/<class>/<image>`; classes are those of `dataset.yaml`, else those of train in the order of their names.

    Raises DataError for a missing split, a class folder without an image, a class that is none of these, and one whose name cannot be
    recorded.
    """
    from diva.data.layouts import read_splits  # which imports this module

    splits = read_splits(folder, "class folders")
    for split, samples in splits.items():
        for name in samples.classes:
            if any("\ud800" <= character <= "\udfff" for character in name):
                raise DataError(
                    f"{folder / split}: the class {printable(name)} has a name that is not UTF-8; rename its folder"
                )
    return {name: samples for name, samples in splits.items() if isinstance(samples, ImageFolder)}
