"""Pictures of a data set's samples for people to look at: small, few, chosen without a generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy

from diva.data.analysis.inventory import take_inventory
from diva.data.images import decoded, is_grey, opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Picture = NDArray[numpy.uint8]

SIDE = 200  # pixels; what is larger shrinks
MOST_SAMPLES = 32
MOST_AVERAGED = 2000


def spread_over(n: int, most: int) -> list[int]:
    """At most `most` of the numbers 0 to n - 1, evenly spread."""
    return list(range(n)) if n <= most else [i * n // most for i in range(most)]


def picture(path: str) -> Picture:
    """An image, at most 200 pixels long: uint8 (H, W) or (H, W, 3)."""
    from PIL import Image

    with opened(path) as source:
        image = decoded(source, "L" if is_grey(source.mode) else "RGB")
        image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
        return numpy.array(image)


def samples(folder: Path, report: dict[str, Any]) -> tuple[list[Picture], list[str]]:
    """Up to 32 images of the training split, spread over its classes, and the name of the class of each."""
    inventory = take_inventory(folder, report["layout"])
    bad = {item["path"] for item in report["unreadable"]}
    start, stop = inventory.bounds(report["reference"])
    good = [index for index in range(start, stop) if inventory.name(index) not in bad]
    pictures, captions = [], []
    for index in (good[i] for i in spread_over(len(good), MOST_SAMPLES)):
        pictures.append(picture(inventory.image(index)))
        if inventory.many is not None:
            named = [inventory.classes[i] for i in numpy.flatnonzero(inventory.many[index])]
            captions.append(", ".join(named) or "none")
        elif inventory.labels is not None:
            captions.append(inventory.classes[inventory.labels[index]])
        else:
            captions.append(inventory.name(index).rpartition("/")[2])
    return pictures, captions


def means(folder: Path, report: dict[str, Any]) -> tuple[list[Picture], list[str]]:
    """The mean of the training images, all of the same size, then of each class's, up to 31; of at most 2,000 images, evenly spread."""
    inventory = take_inventory(folder, report["layout"])
    bad = {item["path"] for item in report["unreadable"]}
    start, stop = inventory.bounds(report["reference"])
    sums: dict[int, NDArray[numpy.int64]] = {}
    counts: dict[int, int] = {}
    for place in spread_over(stop - start, MOST_AVERAGED):
        index = start + place
        if inventory.name(index) in bad:
            continue
        pixels = picture(inventory.image(index)).astype(numpy.int64)
        if report["mode"] == "RGB" and pixels.ndim == 2:
            pixels = numpy.repeat(pixels[:, :, None], 3, axis=2)
        for group in (-1, *([int(inventory.labels[index])] if inventory.labels is not None else [])):
            sums[group] = sums.get(group, numpy.zeros_like(pixels)) + pixels
            counts[group] = counts.get(group, 0) + 1
    chosen = sorted(sums)[:MOST_SAMPLES]
    pictures = [((2 * sums[group] + counts[group]) // (2 * counts[group])).astype(numpy.uint8) for group in chosen]
    return pictures, [f"all ({counts[-1]:,})" if group < 0 else inventory.classes[group] for group in chosen]


def alike(folder: Path, report: dict[str, Any]) -> tuple[list[Picture], list[str]]:
    """Pairs of equal images, then of those that look alike, leaks first; up to 32 pairs, and the path of each image."""
    found = report["duplicates"]
    groups = [*found["exact"], *(found["similar"] or [])]
    pairs = [group["samples"][:2] for leak in (True, False) for group in groups if bool(group["leak"]) is leak]
    names = [name for pair in pairs[:MOST_SAMPLES] for name in pair]
    return list(_named(folder, report, names)), names


def _named(folder: Path, report: dict[str, Any], names: Sequence[str]) -> Iterator[Picture]:
    if report["layout"] != "clips":
        yield from (picture(str(folder / name)) for name in names)
        return
    inventory = take_inventory(folder, report["layout"])
    places = {inventory.name(index): index for index in range(len(inventory))}
    yield from (picture(inventory.image(places[name])) for name in names)
