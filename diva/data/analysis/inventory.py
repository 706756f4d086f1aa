"""Inventories: which samples a data set holds, split by split, in little memory; the layouts say what counts."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

import numpy

from diva.data.analysis.statistics import Files
from diva.data.analysis.texts import MeasuredTexts
from diva.data.layouts import READERS, SPLITS, describe, is_split, layout_of
from diva.data.layouts.listing import IMAGES, folders_by_class, walk_files
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from diva.data.layouts import Layout, Samples

WHOLE = "all"  # stands for the name of a split where data are not split


@final
@dataclass(frozen=True)
class Inventory:
    """The samples of a data set: the splits behind one another, each in the order of its names' bytes.

    `samples` is empty for class folders and unlabelled images, of which there may be millions: `files` has their images.
    """

    folder: Path
    layout: Layout
    classes: tuple[str, ...]
    splits: dict[str, int]  # how many samples, in the order train, val, test; or {"all": n}
    labels: NDArray[numpy.int32] | None  # (N,) class numbers
    many: NDArray[numpy.bool_] | None = None  # (N, classes), multi label
    files: Files | None = None  # the image of each sample
    samples: dict[str, Samples] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)  # folders that cannot be listed, `a/b/`, and why

    def __len__(self) -> int:
        return sum(self.splits.values())

    @property
    def reference(self) -> str:
        """The split whose statistics a model may know: train, or everything where data are not split."""
        return next(iter(self.splits))

    def bounds(self, split: str) -> tuple[int, int]:
        """The first sample of a split, and the first one behind it."""
        start = 0
        for name, n in self.splits.items():
            if name == split:
                return start, start + n
            start += n
        raise KeyError(split)

    def split_of(self, index: int) -> str:
        """The split that a sample is in."""
        return next(name for name in self.splits if index < self.bounds(name)[1])

    def name(self, index: int) -> str:
        """What names a sample: a POSIX path below the data set's folder, or `<split>/<table>:<row>`."""
        if self.files is not None:
            return self.files.name(index)
        split = self.split_of(index)
        own = self.samples[split].name(index - self.bounds(split)[0])
        return own if split == WHOLE else f"{split}/{own}"

    def image(self, index: int) -> str:
        """The path of a sample's image, or of the first file of a clip."""
        if self.files is not None:
            return self.files.path(index)
        split = self.split_of(index)
        return os.fspath(self.samples[split].files(index - self.bounds(split)[0])[0])

    def counts(self, split: str) -> list[int]:
        """The number of samples of each class, (classes,)."""
        start, stop = self.bounds(split)
        if self.many is not None:
            return [int(n) for n in self.many[start:stop].sum(0)]
        if self.labels is None:
            return [0] * len(self.classes)
        return [int(n) for n in numpy.bincount(self.labels[start:stop], minlength=len(self.classes))]


def take_inventory(folder: Path, layout: str | None = None) -> Inventory:
    """List a data set, split or not. DataError for what its layout refuses; a split needs a train/, the others may be missing."""
    chosen = layout_of(folder, layout)
    parts = (
        {name: folder / name for name in SPLITS if (folder / name).is_dir()} if is_split(folder) else {WHOLE: folder}
    )
    classes = describe(folder).classes
    if chosen in ("class folders", "images"):
        return _stream(folder, chosen, parts, classes)
    samples: dict[str, Samples] = {}
    problems: list[tuple[str, str]] = []
    for name, place in parts.items():
        if chosen == "texts":
            samples[name] = MeasuredTexts(place, classes, "" if name == WHOLE else f"{name}/", problems)
        else:
            samples[name] = READERS[chosen](place, classes)
        classes = classes or samples[name].classes or None
    splits = {name: len(part) for name, part in samples.items()}
    known = classes or ()
    if chosen == "pairs":
        return Inventory(folder, chosen, known, splits, None, files=_files(folder, samples, 0), samples=samples)
    if chosen == "multi label":
        many = numpy.zeros((sum(splits.values()), len(known)), numpy.bool_)
        for index, targets in enumerate(_targets(samples)):
            many[index, list(targets)] = True
        return Inventory(folder, chosen, known, splits, None, many, _files(folder, samples, 0), samples)
    labels = numpy.array([targets[0] for targets in _targets(samples)], numpy.int32)
    return Inventory(folder, chosen, known, splits, labels, samples=samples, problems=problems)


def masks_of(inventory: Inventory) -> Files:
    """The mask of each pair."""
    return _files(inventory.folder, inventory.samples, 1)


def _targets(samples: dict[str, Samples]) -> Iterator[tuple[int, ...]]:
    for part in samples.values():
        yield from (part.targets(i) for i in range(len(part)))


def _files(folder: Path, samples: dict[str, Samples], which: int) -> Files:
    top = len(os.path.join(folder, ""))  # noqa: PTH118
    return Files(folder, (str(part.files(i)[which])[top:] for part in samples.values() for i in range(len(part))))


def _stream(folder: Path, layout: Layout, parts: dict[str, Path], classes: tuple[str, ...] | None) -> Inventory:
    """Class folders and unlabelled images: no object per image is ever made."""
    labels = array("i")
    splits: dict[str, int] = {}
    problems: list[tuple[str, str]] = []

    def names() -> Iterator[str]:
        nonlocal classes
        for split, place in parts.items():
            before = len(labels)
            prefix = "" if split == WHOLE else f"{split}/"
            if layout == "images":
                for name in walk_files(os.fspath(place), prefix, problems, IMAGES):
                    labels.append(-1)
                    yield name
            else:
                found = classes
                for label, inside, all_classes in folders_by_class(place, classes, "image"):
                    found, before_class = all_classes, (len(labels), len(problems))
                    for name in walk_files(os.fspath(inside), f"{prefix}{inside.name}/", problems, IMAGES):
                        labels.append(label)
                        yield name
                    if (len(labels), len(problems)) == before_class:
                        raise DataError(f"{inside}: holds no image; remove the folder or fill it")
                classes = found
            splits[split] = len(labels) - before
            if not splits[split]:
                raise DataError(f"{place}: holds no image")

    files = Files(folder, names())
    numbers = None if layout == "images" else numpy.array(labels, numpy.int32)
    return Inventory(folder, layout, classes or (), splits, numbers, files=files, problems=problems)
