"""Reading back: whether what was written is a data set as its card says, before it gets its name. Files are counted, none is decoded."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from diva.data import expectations
from diva.data.layouts import READERS, SPLITS
from diva.data.layouts.listing import class_names
from diva.errors import DataError
from diva.records.files import some_of

if TYPE_CHECKING:
    from pathlib import Path

    from diva.data.catalogue import Card


def check_card(card: Card) -> None:
    """DataError for expectations of a card that are none; to be called before gigabytes are fetched."""
    expectations.validate(card.expectations or {}, f"{card.name}: expectations")


def check(card: Card, folder: Path) -> None:
    """DataError when the splits in `folder` cannot be read in the card's layout, hold nothing, or are not as the card expects.

    Classes are the card's, or those of any split: some sets are tested with classes that they were not trained with. Expectations
    of pixels are not looked at: `diva analyze` and `diva run` do.
    """
    counts: dict[str, Counter[str]] = {}
    samples: dict[str, int] = {}
    for split in SPLITS:
        if (folder / split).is_dir():
            samples[split], counts[split] = _read(card, folder, split)
    if not any(samples.values()):
        raise DataError(
            f"{card.name}: no sample came of its files, neither in train nor in val nor in test; they are not what its card "
            "describes, or its card says too little: see `format:` and `options:`"
        )
    if card.expectations:
        expectations.require(
            _report(card, samples, counts),
            [("its card", {key: value for key, value in card.expectations.items() if key in expectations.COUNTED})],
        )


def _read(card: Card, folder: Path, split: str) -> tuple[int, Counter[str]]:
    """How many samples a split has, and how many of each class."""
    place = folder / split
    if card.layout in ("class folders", "clips") and card.classes:
        strange = [name for name in class_names(place) if name not in card.classes]
        if strange:
            raise DataError(
                f"{card.name}: {split} has the classes {some_of(strange)}, which its card does not name; "
                f"its `classes:` are {some_of(card.classes)}"
            )
    try:
        found = READERS[card.layout](place, tuple(card.classes) if card.classes else None)
    except DataError as error:
        told = str(error).replace(f"{folder}/", "")
        raise DataError(
            f"{card.name}: what was made of its files cannot be read as {card.layout}: {told}. "
            "Are `layout:`, `classes:` and `options:` of its card right?"
        ) from None
    classes = found.classes
    counted = Counter(dict.fromkeys(classes, 0))
    counted.update(classes[target] for index in range(len(found)) for target in found.targets(index))
    return len(found), counted


def _report(card: Card, samples: dict[str, int], counts: dict[str, Counter[str]]) -> dict[str, Any]:
    """What `expectations` must know, as an analysis tells it."""
    classes = card.classes or list(dict.fromkeys(name for split in counts.values() for name in split))
    labelled = card.layout not in ("images", "pairs")
    return {
        "name": card.name,
        "layout": card.layout,
        "n_samples": sum(samples.values()),
        "splits": {split: {"samples": n} for split, n in samples.items()},
        "classes": classes,
        "class_counts": {split: [found[name] for name in classes] for split, found in counts.items()}
        if labelled
        else {},
    }
