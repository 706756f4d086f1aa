"""Clips: `<class>/<clip>/<frames>`, or `<class>/<clip>.gif|.webp|.tif|.tiff|.png` with the frames in one file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diva.data.layouts.listing import class_names, folders_by_class, images_under, relative
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

ANIMATED = frozenset({".gif", ".webp", ".tif", ".tiff", ".png"})


@dataclass(frozen=True)
class Clips:
    """The clips of one split: the frames' files of each, numbers in names by value, or one file that holds all frames."""

    places: tuple[Path, ...]
    frames: tuple[tuple[Path, ...], ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    root: Path = Path()

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        """`<class>/<clip>`."""
        return relative(self.places[index], self.root)

    def files(self, index: int) -> tuple[Path, ...]:
        """The files of its frames."""
        return self.frames[index]

    def targets(self, index: int) -> tuple[int, ...]:
        """Its class."""
        return (self.labels[index],)


def read(folder: Path, classes: tuple[str, ...] | None = None) -> Clips:
    """The clips of a split's folder; DataError for a class without a clip, and for a still image where a clip should be."""
    clips: list[tuple[Path, tuple[Path, ...], int]] = []
    names: tuple[str, ...] = ()
    for label, place, all_classes in folders_by_class(folder, classes, "clip"):
        names = all_classes
        found = list(_clips_of(place))
        if not found:
            raise DataError(
                f"{place}: holds no clip; expected folders of frames, or {' '.join(sorted(ANIMATED))} files"
            )
        found.sort(key=lambda clip: os.fsencode(clip[0].name))
        clips += [(path, frames, label) for path, frames in found]
    return Clips(tuple(c[0] for c in clips), tuple(c[1] for c in clips), tuple(c[2] for c in clips), names, folder)


def _clips_of(place: Path) -> Iterator[tuple[Path, tuple[Path, ...]]]:
    inside = class_names(place)
    for name in inside:
        frames = tuple(sorted(images_under(place / name), key=lambda path: _in_time(relative(path, place))))
        if not frames:
            raise DataError(f"{place / name}: this clip has no frames")
        yield place / name, frames
    for path in images_under(place):
        if path.parent == place:
            if path.suffix.lower() not in ANIMATED:
                raise DataError(
                    f"{path}: is a still image, not a clip; put the frames of a clip into a folder of their own"
                )
            yield path, (path,)


def _in_time(name: str) -> tuple[list[tuple[bytes, int]], bytes]:
    """Order of frames: numbers in their names by value, so that 10.png comes after 2.png; the rest by bytes."""
    parts = re.findall(r"([^0-9]*)([0-9]*)", name)
    return [(os.fsencode(text), int(digits or -1)) for text, digits in parts], os.fsencode(name)


def frames_of(files: tuple[Path, ...]) -> Iterator[Image.Image]:
    """The frames of a clip, decoded one after the other as RGB; DataError names a file that cannot be read."""
    from PIL import ImageSequence

    from diva.data.images import decoded, opened  # here: numpy is not loaded where nothing is decoded

    for path in files:
        try:
            with opened(path) as source:
                for frame in ImageSequence.Iterator(source):
                    image = decoded(frame, "RGB")
                    yield image.copy() if image is frame else image
        except Exception as error:  # Pillow's decoders raise a dozen kinds
            raise DataError(f"{path}: cannot be read as an image ({error}); mend or remove it") from None
