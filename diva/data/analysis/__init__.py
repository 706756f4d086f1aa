"""Analysis: what a data set is like, of whatever kind, as one report that JSON can hold; kept beside it for its footprint."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from diva import __version__
from diva.data.analysis import duplicates, kinds
from diva.data.analysis.inventory import WHOLE, masks_of, take_inventory
from diva.data.analysis.statistics import Way, measure
from diva.data.images import decoder
from diva.data.layouts import describe, layout_of
from diva.data.masks import colour_codes, shown
from diva.errors import DataError, RecordError
from diva.records import footprint
from diva.records.files import read_json, sha256_bytes, some_of, write_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from diva.data.analysis.inventory import Inventory
    from diva.data.analysis.statistics import Measured
    from diva.data.analysis.workers import Kind

SCHEMA = 1
SUFFIX = ".analysis.json"
MOST_SIZES = 1000  # different sizes that a report lists, the most frequent first
BINS = 12
LEAST_SIDE = 16  # pixels; with fewer, images of the same thing are alike without being the same


def analyse(
    folder: Path,
    layout: str | None = None,
    jobs: int | None = None,
    similar: bool = True,
    progress: Callable[[int, int], None] | None = None,
    kind: Kind = "processes",
) -> dict[str, Any]:
    """The report on a data set, split or not; see docs/how-to/analyze.md for what it holds. Nothing is written into the folder.

    The same for any number of jobs, in any place and on any machine with the same decoder. It is kept beside the folder, or in the
    user's cache where nothing can be written, for the footprint, the layout and the decoder; so it is never that of other data.
    similar: also look for images that look alike. `progress` gets (files done, files). DataError: what the layout refuses.
    """
    chosen = layout_of(folder, layout)
    digest, warnings = _footprint(folder, jobs)
    key = {
        "footprint": digest,
        "decoder": decoder(),
        "layout": chosen,
        "similar": similar,
        "schema": SCHEMA,
        "diva": __version__,
    }
    report = _kept(folder, key) if digest else None
    if report is None:
        report = {**_compute(folder, chosen, Way(jobs, kind, similar), progress), "footprint": digest, "schema": SCHEMA}
        if digest:
            _keep(folder, {"key": key, "report": report, "sha256": _digest(report)})
    return {**report, "name": folder.resolve().name, "warnings": [*warnings, *report["warnings"]]}


def count(folder: Path, layout: str | None = None) -> dict[str, Any]:
    """The part of the report that needs no image to be opened: samples per split and class."""
    return {**_counted(take_inventory(folder, layout)), "name": folder.resolve().name}


def _footprint(folder: Path, jobs: int | None) -> tuple[str | None, list[str]]:
    """The digest of the folder as it is now; None, and a warning, where it cannot be taken: an unreadable file is to be told, not fatal."""
    try:
        now, _, changed = footprint.inspect(folder, jobs=jobs)
    except DataError as error:
        return None, [
            f"without a footprint, so this report is not kept: {str(error).replace(str(folder), folder.name)}"
        ]
    told = f"changed since its footprint was taken: {changed.text()}; to accept it: diva verify {folder.name} --update"
    return now.digest, [told] if changed else []


def places(folder: Path) -> tuple[Path, Path]:
    """Where a report is kept: beside the folder, else in the user's cache."""
    real = folder.resolve()
    cache = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    key = sha256_bytes(os.fsencode(real))[:16]
    return real.with_name(real.name + SUFFIX), root / "diva" / "analyses" / f"{key}-{real.name}{SUFFIX}"


def _kept(folder: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    for place in places(folder):
        with suppress(RecordError, KeyError):
            stored = read_json(place)
            if (
                isinstance(stored, dict)
                and stored.get("key") == key
                and stored.get("sha256") == _digest(stored["report"])
            ):
                return dict(stored["report"])
    return None


def _digest(report: dict[str, Any]) -> str:
    """Tells a report from what somebody made of it."""
    return sha256_bytes(json.dumps(report, sort_keys=True).encode())


def _keep(folder: Path, document: dict[str, Any]) -> None:
    beside, cached = places(folder)
    try:
        write_json(beside, document)
    except OSError:
        with suppress(OSError):  # a kept report is a convenience: without one it is computed again
            cached.parent.mkdir(parents=True, exist_ok=True)
            write_json(cached, document)


def _compute(folder: Path, layout: str, way: Way, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
    inventory = take_inventory(folder, layout)
    total, done = len(inventory) * (2 if layout == "pairs" else 1), 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(done, total)

    report = _counted(inventory)
    if layout == "texts":
        report |= _texts(inventory)
    elif layout == "points":
        report |= _points(inventory)
    elif layout == "clips":
        found = kinds.measure_clips(inventory.samples, way, advance)
        report |= _images(inventory, found, way)
        report["frames"] = kinds.spread(found.rows["n_frames"][found.rows["readable"]])
    else:
        assert inventory.files is not None
        groups = list(inventory.splits.values())
        found = measure(inventory.files, groups, way, progress=advance)
        report |= _images(inventory, found, way)
        if layout == "pairs":
            report |= _masks(inventory, found, way, advance, report)
    report["warnings"] = _warnings(report)
    return report


def _counted(inventory: Inventory) -> dict[str, Any]:
    """What needs no file to be opened: samples per split and class, and class weights from the reference split."""
    counts = {split: inventory.counts(split) for split in inventory.splits}
    reference = counts[inventory.reference]
    if inventory.many is not None:
        n = inventory.splits[inventory.reference]
        weights: list[float | None] = [(n - count) / count if count else None for count in reference]
        per_image = numpy.bincount(inventory.many.sum(1)).tolist()
    else:
        weights, per_image = inverse_frequency(reference), None
    has_classes = inventory.layout not in ("images", "pairs")
    return {
        "layout": inventory.layout,
        "reference": inventory.reference,
        "n_samples": len(inventory),
        "splits": {split: {"samples": n} for split, n in inventory.splits.items()},
        "classes": list(inventory.classes),
        "class_counts": counts if has_classes else {},
        "class_weights": weights if has_classes else [],
        "labels_per_image": per_image,
        "unreadable": _told(inventory, []),
    }


def _told(inventory: Inventory, found: list[tuple[str, str]]) -> list[dict[str, str]]:
    """The files that cannot be read, then the folders that cannot be listed."""
    return [{"path": path, "reason": reason} for path, reason in (*found, *inventory.problems)]


def inverse_frequency(counts: list[int]) -> list[float | None]:
    """The weight of each class by its inverse frequency, 1 on average over the samples; None for a class that has none."""
    n, n_present = sum(counts), sum(count > 0 for count in counts)
    return [n / (n_present * count) if count else None for count in counts]


def _images(inventory: Inventory, found: Measured, way: Way) -> dict[str, Any]:
    mode = found.mode
    mean, std = found.moments([0], mode).mean_and_std()
    sizes = found.sizes()
    readable = found.rows["readable"].astype(numpy.bool_)
    height, width = found.rows["height"][readable], found.rows["width"][readable]
    common = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    splits = {}
    for group, split in enumerate(inventory.splits):
        start, stop = inventory.bounds(split)
        split_mean, split_std = found.moments([group], mode).mean_and_std()
        part = found.rows[start:stop]
        splits[split] = {
            "samples": stop - start,
            "unreadable": int((~part["readable"]).sum()),
            "bytes": int(part["n_bytes"].sum()),
            "pixels": found.moments([group], mode).n_pixels,
            "mean": split_mean,
            "std": split_std,
        }
    return {
        "splits": splits,
        "mode": mode,
        "mean": mean,
        "std": std,
        "size": list(common[0][0]) if len(common) == 1 else None,
        "sizes": [[height, width, n] for (height, width), n in common[:MOST_SIZES]],
        "n_sizes": len(common),
        "height": kinds.spread(height),
        "width": kinds.spread(width),
        "histograms": {"height": _histogram(height), "width": _histogram(width)},
        "values": found.moments([0], mode).counts.tolist(),
        "formats": found.tally("format"),
        "modes": found.tally("mode"),
        "decoder": decoder(),
        "unreadable": _told(inventory, [(inventory.name(index), reason) for index, reason in found.unreadable]),
        "duplicates": _duplicates(inventory, found, way),
    }


def _histogram(values: NDArray[Any], among: NDArray[Any] | None = None) -> dict[str, list[int]]:
    """Counts in at most 12 bins of the same whole width, which cover all of `among` (None: the values); `edges` has one more."""
    among = values if among is None else among
    if not len(among):
        return {"edges": [], "counts": []}
    low, high = int(among.min()), int(among.max())
    width = -(-(high - low + 1) // BINS)
    n_bins = (high - low) // width + 1
    counts = numpy.bincount((values.astype(numpy.int64) - low) // width, minlength=n_bins)
    return {"edges": [low + width * i for i in range(n_bins + 1)], "counts": counts.tolist()}


def _duplicates(inventory: Inventory, found: Measured, way: Way) -> dict[str, Any]:
    readable = found.rows["readable"].astype(numpy.bool_)
    groups = duplicates.exact_groups(found.rows["sha256"], readable)
    large = readable & (numpy.minimum(found.rows["height"], found.rows["width"]) >= LEAST_SIDE)
    large[[index for group in groups for index in group[1:]]] = False  # the first of the same content stands for all
    pairs = duplicates.similar_pairs(found.rows["rows"], found.rows["columns"], large) if way.similar else []
    complete = len(pairs) < duplicates.MOST_CANDIDATES
    candidates = [
        {"samples": [inventory.name(one), inventory.name(two)], "bits": bits, "leak": _leaks(inventory, [one, two])}
        for bits, one, two in duplicates.confirmed(pairs, found.rows["grid"])
    ]
    return {
        **_exact(inventory, groups),
        "similar": candidates if way.similar else None,
        "similar_leaks": sum(bool(pair["leak"]) for pair in candidates) if way.similar else None,
        "similar_complete": complete if way.similar else None,
    }


def _exact(inventory: Inventory, groups: list[list[int]]) -> dict[str, Any]:
    """The groups of the same content, and how many samples outside the reference split occur in it."""
    told = []
    n_leaked = 0
    for group in groups:
        leak = _leaks(inventory, group)
        if leak and inventory.split_of(group[0]) == inventory.reference:
            n_leaked += sum(inventory.split_of(index) != inventory.reference for index in group)
        told.append(
            {
                "samples": [inventory.name(index) for index in group],
                "same": "files" if _same_files(inventory, group) else "content",
                "leak": leak,
                "labels_differ": _labels_differ(inventory, group),
            }
        )
    return {"exact": told, "leaks": sum(group["leak"] for group in told), "leaked_samples": n_leaked}


def _leaks(inventory: Inventory, group: list[int]) -> bool:
    return len({inventory.split_of(index) for index in group}) > 1


def _same_files(inventory: Inventory, group: list[int]) -> bool:
    if inventory.files is None:
        return False
    seen = set()
    for index in group:
        with open(inventory.files.path(index), "rb") as file:  # noqa: PTH123
            seen.add(hashlib.file_digest(file, "sha256").digest())
    return len(seen) == 1


def _labels_differ(inventory: Inventory, group: list[int]) -> bool:
    if inventory.many is not None:
        return bool((inventory.many[group] != inventory.many[group[0]]).any())
    return inventory.labels is not None and len(set(inventory.labels[group].tolist())) > 1


def _masks(
    inventory: Inventory, found: Measured, way: Way, advance: Callable[[int], None], report: dict[str, Any]
) -> dict[str, Any]:
    """Codes of the masks: pixels and masks with each, per split, and weights of the reference split, 1 on average over pixels."""
    masks = masks_of(inventory)
    sizes = [(int(row["height"]), int(row["width"])) for row in found.rows]
    groups = list(inventory.splits.values())
    pixels, seen, bad = kinds.count_codes(masks, sizes, groups, way, advance)
    codes = sorted(set().union(*pixels), key=kinds.code_order)
    counts = {split: [pixels[group][code] for code in codes] for group, split in enumerate(inventory.splits)}
    reference = counts[inventory.reference]
    return {
        "codes": codes,
        "code_names": _code_names(inventory, codes),
        "code_pixels": counts,
        "code_masks": {split: [seen[g][code] for code in codes] for g, split in enumerate(inventory.splits)},
        "code_weights": inverse_frequency(reference),
        "unreadable": sorted(
            [*report["unreadable"], *({"path": masks.name(index), "reason": reason} for index, reason in bad)],
            key=lambda item: os.fsencode(item["path"]),
        ),
    }


def _code_names(inventory: Inventory, codes: list[str]) -> list[str | None]:
    """What dataset.yaml calls the codes: the class of a colour in `colours:`, else `classes:` by number; None where it says nothing."""
    colours = describe(inventory.folder).colours
    classes = inventory.classes or tuple(colours)
    named = {shown(code, "colour"): classes[n] for code, n in colour_codes(colours, classes).items()} if colours else {}
    named |= {str(number): name for number, name in enumerate(inventory.classes)}
    return [named.get(code) for code in codes]


def _texts(inventory: Inventory) -> dict[str, Any]:
    parts: Any = inventory.samples
    exact, loose = map(numpy.concatenate, zip(*(part.digests() for part in parts.values()), strict=True))
    everyone = numpy.ones(len(inventory), numpy.bool_)
    lengths = {split: numpy.array(part.characters, numpy.int64) for split, part in parts.items()}
    groups = duplicates.exact_groups(exact, everyone)
    known = {index: number for number, group in enumerate(groups) for index in group}
    alike = [
        group
        for group in duplicates.exact_groups(loose, everyone)
        if len({known.get(index, -1 - index) for index in group}) > 1
    ]
    candidates = [
        {"samples": [inventory.name(i) for i in group], "bits": 0, "leak": _leaks(inventory, group)} for group in alike
    ]
    return {
        "splits": {split: {"samples": len(part), **part.describe()} for split, part in parts.items()},
        "histograms": {
            split: {"characters": _histogram(lengths[split], numpy.concatenate(list(lengths.values())))}
            for split in parts
        },
        "duplicates": {
            **_exact(inventory, groups),
            "similar": candidates,
            "similar_leaks": sum(bool(group["leak"]) for group in candidates),
            "similar_complete": True,
        },
    }


def _points(inventory: Inventory) -> dict[str, Any]:
    parts: Any = inventory.samples
    groups = duplicates.exact_groups(kinds.point_digests(parts.values()), numpy.ones(len(inventory), numpy.bool_))
    return {
        "splits": {
            split: {"samples": len(part), "features": kinds.describe_points(part)} for split, part in parts.items()
        },
        "duplicates": {**_exact(inventory, groups), "similar": None, "similar_leaks": None, "similar_complete": None},
    }


def _warnings(report: dict[str, Any]) -> list[str]:
    """What a user should look at, a sentence each."""
    told = []
    split = report["reference"]
    where = "the data" if split == WHOLE else split
    absent = [c for c, weight in zip(report["classes"], report["class_weights"], strict=False) if weight is None]
    if absent:
        told.append(f"{len(absent)} of {len(report['classes'])} classes never occur in {where}: {some_of(absent)}")
    if report["unreadable"]:
        told.append(
            f"{len(report['unreadable'])} files cannot be read: {some_of([u['path'] for u in report['unreadable']])}"
        )
    found = report["duplicates"]
    if found["leaks"]:
        told.append(f"{found['leaks']} groups of the same content lie in several splits: a score on them says nothing")
    if found["similar_leaks"]:
        told.append(f"{found['similar_leaks']} pairs in different splits look alike: look at them")
    if found["similar_complete"] is False:
        told.append("very many images look alike: only the closest 10,000 pairs were looked at")
    n_labels = sum(bool(group["labels_differ"]) for group in found["exact"])
    if n_labels:
        told.append(f"{n_labels} groups of the same content have different labels")
    return told
