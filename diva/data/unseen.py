"""Images that a finished run is applied to: class folders, several labels per image, or images without labels, at any depth."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from diva.data.layouts import SPLITS, describe, detect, read_whole
from diva.data.layouts.listing import images_under, relative
from diva.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

SEVERAL = "|"  # between the names of several labels


class Found(NamedTuple):
    """Images in the order of their names' bytes; labels: the names of their classes, () without labels."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    labels: tuple[str, ...]


def find_images(folder: Path) -> Found:
    """The images of a folder, whatever classes there are. DataError when there is none.

    `<class>/**/<image>` is labelled by the class's folder; when an image lies in no folder, or `dataset.yaml` says `layout: images`, none
    is labelled.
    Of `images/` and `labels.csv` an image has the names of all its classes, joined by "|".
    """
    said = describe(folder).layout or (describe(folder.parent).layout if folder.name in SPLITS else None)
    layout = said or detect(folder)
    if layout == "multi label":
        return _several_labels(folder)
    if layout == "pairs":
        raise DataError(
            f"{folder}: holds data/ and gt/, pairs of images; give the folder of the images: {folder / 'data'}"
        )
    paths = images_under(folder)
    if not paths:
        raise DataError(f"{folder}: holds no image")
    names = [relative(path, folder) for path in paths]
    order = sorted(range(len(names)), key=lambda i: os.fsencode(names[i]))
    labelled = layout != "images" and all("/" in name for name in names)
    return Found(
        tuple(paths[i] for i in order),
        tuple(names[i] for i in order),
        tuple(names[i].partition("/")[0] for i in order) if labelled else (),
    )


def _several_labels(folder: Path) -> Found:
    samples = read_whole(folder, "multi label")
    order = sorted(range(len(samples)), key=lambda i: os.fsencode(samples.name(i)))
    return Found(
        tuple(samples.files(i)[0] for i in order),
        tuple(samples.name(i) for i in order),
        tuple(SEVERAL.join(samples.classes[label] for label in samples.targets(i)) for i in order),
    )
