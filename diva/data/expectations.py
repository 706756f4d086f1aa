"""Expectations: what a card, a `dataset.yaml` or a user says a data set must be like, and which of it is not so.

    expectations:
      layout: class folders
      samples: {train: 1078, val: {min: 300}, test: 359}     # one limit for all, or one per split
      samples_per_class: {train: {min: 100}}                 # one limit for every class, or one per class by its name
      classes: 10                                            # how many, or their names in order
      size: [8, 8]                                           # height and width: a limit each
      mode: L                                                # how images are read: L or RGB
      modes: [L, "1"]                                        # the modes of Pillow that files may have: I;16 is 16 bits deep
      mean: [0.306]
      std: [0.377]
      tolerance: 0.001                                       # of mean and std; 0.001 where it is not said
      codes: [0, 1, 2]                                       # what masks may hold: numbers, or colours as "#ff0000"
      features: [x, y]                                       # the columns of points
      leaks: 0                                               # groups of the same content in several splits
      duplicates: 0                                          # groups of the same content within a split
      unreadable: 0                                          # files

A limit is a number, or a mapping with `min`, `max` or both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diva.data.yaml_files import read_yaml
from diva.errors import DataError, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from diva.data.analysis.workers import Kind

COUNTED = ("layout", "samples", "samples_per_class", "classes")  # no file needs to be opened
MEASURED = (
    "size",
    "mode",
    "modes",
    "mean",
    "std",
    "tolerance",
    "codes",
    "features",
    "leaks",
    "duplicates",
    "unreadable",
)
LISTS = ("size", "modes", "mean", "std", "codes", "features")
TOLERANCE = 1e-3
SPLITS = ("train", "val", "test", "all")

Stated = Sequence[tuple[str, Mapping[str, Any]]]


def stated(folder: Path, card: tuple[str, Mapping[str, Any] | None] | None = None) -> Stated:
    """What is said of a data set, each with the place where it is: in its catalogue card (place, expectations), in its `dataset.yaml`."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    if card is not None and card[1]:
        found.append((card[0], card[1]))
    from diva.data.layouts import DESCRIPTION, describe

    if (folder / DESCRIPTION).is_file() and (said := describe(folder).expectations):
        found.append((DESCRIPTION, said))
    for where, expectations in found:
        validate(expectations, where)
    return found


def read(path: Path) -> Stated:
    """The expectations of a YAML file: either the whole file, or what stands in it under `expectations`."""
    said = read_yaml(path)
    if isinstance(said, dict) and isinstance(said.get("expectations"), dict):
        said = said["expectations"]
    if not isinstance(said, dict):
        raise DataError(f"{path}: must be a mapping, as in `samples: {{train: 1000}}`")
    validate(said, path.name)
    return [(path.name, said)]


def check(
    folder: Path, said: Stated, layout: str | None = None, jobs: int | None = None, kind: Kind = "processes"
) -> None:
    """DataError with all expectations that a data set does not meet. Pixels are looked at only where they are spoken of, and once."""
    if not said:
        return
    from diva.data import analysis

    if any(key in MEASURED for _, expectations in said for key in expectations):
        report = analysis.analyse(folder, layout, jobs, kind=kind)
    else:
        report = analysis.count(folder, layout)
    require(report, said)


def require(report: Mapping[str, Any], said: Stated) -> None:
    """DataError with all expectations that a report does not meet."""
    violated = [f"{message} ({where})" for where, expectations in said for message in violations(report, expectations)]
    if violated:
        what = "this expectation is" if len(violated) == 1 else f"{len(violated)} expectations are"
        raise DataError(
            f"{report['name']}: {what} not met: {'; '.join(violated)}. Mend the data, or say what they really are"
        )


def validate(expectations: Mapping[str, Any], where: str) -> None:
    """DataError for a key that is not known and a value of the wrong kind."""
    for key, value in expectations.items():
        if key not in (*COUNTED, *MEASURED):
            raise DataError(f"{where}: unknown expectation {key!r}; {nearest(str(key), (*COUNTED, *MEASURED))}")
        if key in LISTS and not isinstance(value, list):
            raise DataError(f"{where}: {key} must be a list, as in `{key}: [...]`, it is {value!r}")
        if key in ("mean", "std") and not all(_is_number(item) for item in value):
            raise DataError(f"{where}: {key} must be a list of numbers in [0, 1], it is {value!r}")
        if key == "size" and len(value) != 2:
            raise DataError(f"{where}: size must be [height, width], it is {value!r}")
        if key == "tolerance" and not (_is_number(value) and value >= 0):
            raise DataError(f"{where}: tolerance must be a number from 0 on, it is {value!r}")
        for place, limit in _limits(key, value, where):
            keys = set(limit) if isinstance(limit, Mapping) else {"min"}
            bounds = list(limit.values()) if isinstance(limit, Mapping) else [limit]
            if not keys or keys - {"min", "max"} or not all(_is_number(bound) for bound in bounds):
                raise DataError(
                    f"{where}: {place} must be a number, or a mapping with min, max or both, it is {limit!r}"
                )


def _limits(key: str, value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """(place, limit) of every limit in an expectation."""
    if key in ("leaks", "duplicates", "unreadable") or (key == "classes" and not isinstance(value, list)):
        yield key, value
    elif key == "size":
        yield from (("size", limit) for limit in value)
    elif key in ("samples", "samples_per_class"):
        if not isinstance(value, Mapping) or not set(value) & set(SPLITS):
            yield key, value
            return
        for split, limit in value.items():
            if split not in SPLITS:
                raise DataError(f"{where}: {key}: {split!r} is no split; {nearest(str(split), SPLITS)}")
            if key == "samples_per_class" and isinstance(limit, Mapping) and not set(limit) <= {"min", "max"}:
                yield from ((f"{key}.{split}.{name}", one) for name, one in limit.items())
            else:
                yield f"{key}.{split}", limit


def violations(report: Mapping[str, Any], expectations: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each expectation that a report does not meet: what there is, and what was expected."""
    tolerance = expectations.get("tolerance", TOLERANCE)
    for key, wanted in expectations.items():
        if key == "samples":
            yield from _samples(report, wanted)
        elif key == "samples_per_class":
            yield from _per_class(report, wanted)
        elif key in ("mean", "std"):
            yield from _moments(report, key, wanted, tolerance)
        elif key == "layout" and report["layout"] != wanted:
            yield f"the layout is {report['layout']}, expected {wanted}"
        elif key == "classes":
            yield from _classes(report, wanted)
        elif key == "size":
            yield from _size(report, wanted)
        elif key == "mode" and report.get("mode") != wanted:
            yield f"images are read as {report.get('mode', 'nothing: there are none')}, expected {wanted}"
        elif key in ("modes", "codes"):
            yield from _among(report, key, wanted)
        elif key == "features":
            names = [feature["name"] for feature in report["splits"][report["reference"]].get("features", [])]
            if names != wanted:
                yield f"the features are {_listed(names)}, expected {_listed(wanted)}"
        elif key in ("leaks", "duplicates", "unreadable"):
            yield from _numbers(report, key, wanted)


def _samples(report: Mapping[str, Any], wanted: Any) -> Iterator[str]:
    if not isinstance(wanted, Mapping) or not set(wanted) & set(SPLITS):
        if not _within(report["n_samples"], wanted):
            yield f"there are {report['n_samples']:,} samples, expected {_told(wanted)}"
        return
    for split, limit in wanted.items():
        found = report["splits"].get(split, {}).get("samples")
        if found is None:
            yield f"there is no {split}, expected {_told(limit)} samples in it"
        elif not _within(found, limit):
            yield f"{split} has {found:,} samples, expected {_told(limit)}"


def _per_class(report: Mapping[str, Any], wanted: Any) -> Iterator[str]:
    by_split = (
        wanted if isinstance(wanted, Mapping) and set(wanted) & set(SPLITS) else dict.fromkeys(report["splits"], wanted)
    )
    for split, limit in by_split.items():
        counts = dict(zip(report["classes"], report["class_counts"].get(split, []), strict=False))
        if not counts:
            yield f"there is no {split} with classes, expected {_told(limit)} samples of each"
            continue
        named = isinstance(limit, Mapping) and not set(limit) <= {"min", "max"}
        for name, one in limit.items() if named else ((name, limit) for name in counts):
            if str(name) not in counts:
                yield f"{split} has no class {name}, expected {_told(one)} samples of it"
            elif not _within(counts[str(name)], one):
                yield f"{split} has {counts[str(name)]:,} samples of {name}, expected {_told(one)}"


def _classes(report: Mapping[str, Any], wanted: Any) -> Iterator[str]:
    if isinstance(wanted, list):
        if report["classes"] != [str(name) for name in wanted]:
            yield f"the classes are {_listed(report['classes'])}, expected {_listed(wanted)}"
    elif not _within(len(report["classes"]), wanted):
        yield f"there are {len(report['classes'])} classes, expected {_told(wanted)}"


def _size(report: Mapping[str, Any], wanted: list[Any]) -> Iterator[str]:
    for side, limit in zip(("height", "width"), wanted, strict=True):
        found = report.get(side)
        if not found:
            yield f"there is no image, hence no {side}, expected {_told(limit)}"
        elif not (_within(found["min"], limit) and _within(found["max"], limit)):
            there = f"{found['min']}" if found["min"] == found["max"] else f"{found['min']} to {found['max']}"
            yield f"images have a {side} of {there}, expected {_told(limit)}"


def _moments(report: Mapping[str, Any], key: str, wanted: list[float], tolerance: float) -> Iterator[str]:
    found = report.get(key, [])
    if len(found) != len(wanted):
        yield f"{key} has {len(found)} channels, expected {len(wanted)}"
        return
    for channel, (is_so, should_be) in enumerate(zip(found, wanted, strict=True)):
        if not abs(is_so - should_be) <= tolerance:
            where = f" of channel {channel}" if len(found) > 1 else ""
            yield f"the {key}{where} of {report['reference']} is {is_so:.6f}, expected {should_be} within {tolerance}"


def _among(report: Mapping[str, Any], key: str, wanted: list[Any]) -> Iterator[str]:
    if key not in report:
        yield f"{key} are expected ({_listed([str(item) for item in wanted])}), but {report['layout']} have none"
        return
    allowed = [str(item).lower() if key == "codes" else str(item) for item in wanted]
    strange = [item for item in report.get(key, []) if item not in allowed]
    if strange:
        what = "masks hold the codes" if key == "codes" else "files have the modes"
        yield f"{what} {_listed(strange)}, allowed are {_listed(allowed)}"


def _numbers(report: Mapping[str, Any], key: str, wanted: Any) -> Iterator[str]:
    groups = [group for group in report["duplicates"]["exact"] if group["leak"] == (key == "leaks")]
    found = len(report["unreadable"]) if key == "unreadable" else len(groups)
    if not _within(found, wanted):
        if key == "unreadable":
            example, what = report["unreadable"][0]["path"] if found else "", "files cannot be read"
        else:
            example = " = ".join(groups[0]["samples"][:2]) if found else ""
            what = "groups of the same content lie in " + ("several splits" if key == "leaks" else "one split")
        yield f"{found:,} {what}{f', as {example}' if example else ''}, expected {_told(wanted)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _within(found: int, limit: Any) -> bool:
    if not isinstance(limit, Mapping):
        return bool(found == limit)
    return bool(limit.get("min", -math.inf) <= found <= limit.get("max", math.inf))


def _told(limit: Any) -> str:
    if not isinstance(limit, Mapping):
        return f"{limit:,}"
    parts = [f"{word} {limit[key]:,}" for key, word in (("min", "at least"), ("max", "at most")) if key in limit]
    return " and ".join(parts)


def _listed(names: Any) -> str:
    names = [str(name) for name in names]
    return (", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")) or "none"
