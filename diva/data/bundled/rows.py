"""Tables of samples: what the bundled sets of points and of texts share."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from diva.data.formats import deal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def deal_rows(name: str, labels: Sequence[str], val: float = 0.25, test: float = 0.2) -> list[str]:
    """The split of each row, dealt within each class by the hash of its number: about 60, 20 and 20 %."""
    members: dict[str, list[int]] = {}
    for i, label in enumerate(labels):
        members.setdefault(label, []).append(i)
    splits = {i: split for rows in members.values() for i, split in deal(name, rows, val, test).items()}
    return [splits[i] for i in range(len(labels))]


def write_table(
    folder: Path, header: Sequence[str], rows: Sequence[Sequence[str]], splits: Sequence[str], name: str
) -> None:
    """`<split>/<name>` with the rows of each split, in their order; as RFC 4180 says but for line ends, which are line feeds."""
    for split in ("train", "val", "test"):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(row for row, where in zip(rows, splits, strict=True) if where == split)
        (folder / split).mkdir(parents=True)
        (folder / split / name).write_bytes(text.getvalue().encode())
