"""Images without labels: a folder of images at any depth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diva.data.layouts.listing import images_under, relative
from diva.errors import DataError


@dataclass(frozen=True)
class UnlabelledImages:
    """The images of one split, in the order of their paths' bytes."""

    paths: tuple[Path, ...]
    root: Path = Path()
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The path within the folder."""
        return relative(self.paths[index], self.root)

    def files(self, index: int) -> tuple[Path, ...]:
        """The image."""
        return (self.paths[index],)

    def targets(self, index: int) -> tuple[int, ...]:
        """None."""
        return ()


def read(folder: Path, classes: tuple[str, ...] | None = None) -> UnlabelledImages:
    """The images of a folder; DataError when there is none."""
    paths = images_under(folder)
    if not paths:
        raise DataError(f"{folder}: holds no image")
    return UnlabelledImages(tuple(paths), folder)
