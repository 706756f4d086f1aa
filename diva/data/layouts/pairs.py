"""Pairs for segmentation: `data/<name>.<suffix>` and `gt/<name>.<suffix>`, an image and its mask with the same stem."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diva.data.layouts.listing import images_under, relative
from diva.errors import DataError


@dataclass(frozen=True)
class ImagePairs:
    """The images of one split and their masks; `classes` are the names that `dataset.yaml` gives to the masks' codes, or ()."""

    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    classes: tuple[str, ...] = ()
    root: Path = Path()

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        """`data/<image>`."""
        return relative(self.images[index], self.root)

    def files(self, index: int) -> tuple[Path, ...]:
        """The image and its mask."""
        return self.images[index], self.masks[index]

    def targets(self, index: int) -> tuple[int, ...]:
        """None: the mask has them."""
        return ()


def read(folder: Path, classes: tuple[str, ...] | None = None) -> ImagePairs:
    """The pairs of a split's folder; DataError names an image without mask, a mask without image, and a stem that occurs twice."""
    data, gt = _by_stem(folder / "data"), _by_stem(folder / "gt")
    for here, there, what in ((data, gt, "image has no mask"), (gt, data, "mask has no image")):
        alone = [path for stem, path in here.items() if stem not in there]
        if alone:
            other = "gt" if here is data else "data"
            raise DataError(f"{alone[0]}: this {what} of the same name in {other}/ ({len(alone)} such)")
    if not data:
        raise DataError(f"{folder}: holds no image in data/; expected pairs, data/<name>.png and gt/<name>.png")
    return ImagePairs(tuple(data.values()), tuple(gt[stem] for stem in data), classes or (), folder)


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in images_under(folder):
        stem = relative(path.with_suffix(""), folder)
        if stem in found:
            raise DataError(f"{path}: {found[stem].name} has the same stem; which one is the pair cannot be told")
        found[stem] = path
    return found
