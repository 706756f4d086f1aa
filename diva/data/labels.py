"""Labels: random ones in place of the true ones, to see what a network learns by heart.

Source: Zhang, Bengio, Hardt, Recht and Vinyals 2017, Understanding deep learning requires rethinking generalization.
"""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diva.data import layouts, staging
from diva.data.splits import SEED, Made, description_of, footprint_of
from diva.data.splits.items import Item, Whole, digest_of, items_of, tables
from diva.data.splits.partition import key_of
from diva.data.splits.ratios import fraction_of
from diva.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

RECORD = "labels.json"
KIND = "data set with random labels"

How = Literal["permute", "redraw"]


def shuffle_labels(
    folder: Path,
    out: Path,
    *,
    share: Fraction | float | str = 1,
    seed: int = SEED,
    how: How = "permute",
    mode: staging.Mode = "link",
    layout: str | None = None,
    hashing: Callable[[int, int], None] | None = None,
    placing: Callable[[int, int], None] | None = None,
) -> Made:
    """The data set `folder` in `out` with random labels for a share of the training samples; val and test keep the true ones.

    how: "permute" deals the labels of the chosen samples out among them, so that every class keeps its size; "redraw" draws each anew,
    every class being as likely. A sample may get its own label again. The same call again verifies what is there.
    """
    out, folder = Path(out).expanduser().absolute(), Path(folder).expanduser()
    staging.check_place(folder, out)
    part = _share(share)
    taken = footprint_of(folder, hashing)
    found = layouts.layout_of(folder, layout)
    if found in ("pairs", "images"):
        raise UsageError(f"{folder}: {found} have no label to shuffle")
    if found == "multi label" and how == "redraw":
        raise UsageError("--how redraw: an image with several labels has no one label to draw; allowed: permute")
    splits = {name: _whole(folder, name, samples, found) for name, samples in _splits(folder, found).items()}
    chosen, now = _shuffled(splits["train"], part, seed, how)
    splits["train"] = replace(splits["train"], items=_placed(splits["train"], now))
    true = {item.name: item.targets for item in _whole(folder, "train", _splits(folder, found)["train"], found).items}
    classes = splits["train"].classes
    record = staging.sealed(
        {
            "kind": KIND,
            "labels": {
                name: [[classes[c] for c in true[name]], [classes[c] for c in now[name]]] for name in sorted(chosen)
            },
            "n_changed": sum(now[name] != true[name] for name in chosen),
            "n_chosen": len(chosen),
            "n_train": len(true),
            "options": {"how": how, "seed": seed, "share": str(part)},
            "schema": staging.SCHEMA,
            "source": {"footprint": taken.digest, "layout": found, "name": folder.resolve().name},
        }
    )
    contents = _contents(folder, splits, record, {entry.path: entry.sha256 for entry in taken.files})
    if not staging.is_there(out):
        try:
            staging.build(out, contents, mode, placing)
            return Made(out, record, False)
        except FileExistsError:
            pass  # another process was first: then it must have made the same
    staging.refuse_other(out, staging.unlike(staging.stored_record(out, RECORD, KIND), record))
    staging.refuse_changed(out, contents)
    staging.refuse_linked(out, contents, mode)
    return Made(out, record, True)


def _share(share: Fraction | float | str) -> Fraction:
    try:
        part = fraction_of(share)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--share {str(share)[:60]}: is no number; as in 0.5") from None
    if not 0 < part <= 1:
        raise UsageError(f"--share {share}: more than 0, at most 1")
    return part


def _splits(folder: Path, layout: layouts.Layout) -> dict[str, layouts.Samples]:
    if not layouts.is_split(folder):
        raise DataError(
            f"{folder}: has no train/; only training labels become random. To make the splits: diva split {folder} --to NEW_FOLDER"
        )
    return layouts.read_splits(folder, layout, required=("train",))


def _whole(folder: Path, split: str, samples: layouts.Samples, layout: layouts.Layout) -> Whole:
    items, header = items_of(samples, folder / split, layout, f"{split}/")
    return Whole(folder, layout, samples.classes, tuple(items), header)


def _shuffled(train: Whole, share: Fraction, seed: int, how: How) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """The names of the samples that were chosen, and the classes of every training sample now."""
    now = {item.name: item.targets for item in train.items}
    order = sorted(now, key=lambda name: key_of(seed, f"chosen {name}"))
    chosen = order[: int(share * len(order) + Fraction(1, 2))]
    if how == "permute":
        dealt = sorted(chosen, key=lambda name: key_of(seed, f"label of {name}"))
        return chosen, now | {name: now[giver] for name, giver in zip(chosen, dealt, strict=True)}
    n = len(train.classes)
    return chosen, now | {
        name: (int.from_bytes(key_of(seed, f"label of {name}"), "big") % n,) for name in chosen
    }  # of 2**256 values: no class is favoured


def _placed(train: Whole, now: Mapping[str, Sequence[int]]) -> tuple[Item, ...]:
    """The training samples with their labels now. A file goes to `<label now>/<true class>/...`, so that no two meet; a clip, whose
    folder cannot lie deeper, to `<label now>/<number>-<clip>`."""
    made = []
    for number, item in enumerate(train.items):
        targets = tuple(now[item.name])
        if item.row is not None:
            made.append(replace(item, targets=targets, row=(*item.row[:-1], train.classes[targets[0]])))
        elif train.layout == "multi label":
            made.append(replace(item, targets=targets))
        else:
            label = train.classes[targets[0]]
            places = [
                f"{label}/{number:06}-{place.partition('/')[2]}" if train.layout == "clips" else f"{label}/{place}"
                for place, _ in item.files
            ]
            sources = [source for _, source in item.files]
            made.append(replace(item, targets=targets, files=tuple(zip(places, sources, strict=True))))
    return tuple(made)


def _contents(
    folder: Path, splits: Mapping[str, Whole], record: Mapping[str, Any], digests: Mapping[str, str]
) -> staging.Contents:
    placed: dict[str, str] = {}
    texts = {RECORD: staging.as_bytes(record)}
    for split, whole in splits.items():
        placed |= {f"{split}/{place}": source for item in whole.items for place, source in item.files}
        texts |= {f"{split}/{name}": content for name, content in tables(whole, whole.items).items()}
    texts[layouts.DESCRIPTION] = description_of(splits["train"], record, "labels")
    order = sorted(placed, key=os.fsencode)
    return staging.Contents(
        {name: os.path.join(folder, placed[name]) for name in order},  # noqa: PTH118
        {name: digest_of(placed[name], folder, digests) for name in order},
        texts,
    )
