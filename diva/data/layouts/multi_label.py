"""Multi-label images: `images/<image>` and `labels.csv`, a row per image, a column of 0 and 1 per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diva.data.layouts.listing import class_number, images_under, read_table, relative
from diva.errors import DataError

TABLE = "labels.csv"


@dataclass(frozen=True)
class LabelledImages:
    """The images of one split, each with the numbers of its classes, in the order of their paths' bytes."""

    paths: tuple[Path, ...]
    labels: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...]
    root: Path = Path()

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """`images/<image>`."""
        return relative(self.paths[index], self.root)

    def files(self, index: int) -> tuple[Path, ...]:
        """The image."""
        return (self.paths[index],)

    def targets(self, index: int) -> tuple[int, ...]:
        """Its classes, ascending; () when it has none."""
        return self.labels[index]


def read(folder: Path, classes: tuple[str, ...] | None = None) -> LabelledImages:
    """The images that `labels.csv` lists.

    Raises DataError for a first column that is not `image`, a cell other than 0 or 1, an image that is missing, listed twice or not
    listed, and classes other than those of train.
    """
    table = folder / TABLE
    header, rows = read_table(table)
    if header[0] != "image" or len(header) < 2:
        raise DataError(f"{table}: the header must be image,<class>,<class>..., it is {','.join(header)[:60]}")
    class_number(table, header[1:])
    if classes is not None and header[1:] != classes:
        raise DataError(
            f"{table}: its classes {', '.join(header[1:])[:80]} are not those of train, {', '.join(classes)[:80]}"
        )
    found: dict[str, tuple[int, ...]] = {}
    for number, (name, *cells) in enumerate(rows, 2):
        wrong = [cell for cell in cells if cell.strip() not in ("0", "1")]
        if wrong:
            raise DataError(f"{table}: row {number} has the cell {wrong[0]!r}; allowed: 0, 1")
        if name in found:
            raise DataError(f"{table}: row {number} lists {name} again")
        found[name] = tuple(i for i, cell in enumerate(cells) if cell.strip() == "1")
    there = {relative(path, folder / "images"): path for path in images_under(folder / "images")}
    absent, unlisted = sorted(set(found) - set(there)), sorted(set(there) - set(found))
    if absent:
        raise DataError(f"{table}: lists {absent[0]}, which is not in images/ ({len(absent)} such)")
    if unlisted:
        raise DataError(f"{there[unlisted[0]]}: is not listed in {TABLE} ({len(unlisted)} such)")
    return LabelledImages(tuple(there.values()), tuple(found[name] for name in there), header[1:], folder)
