"""Splits: a data set divided into train, val and test, or into folds; the same on every machine, recorded in `split.json`.

What is divided never changes: its files are linked, copied or only listed.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diva.data import layouts, staging
from diva.data.layouts.writing import as_yaml
from diva.data.splits import groups, partition
from diva.data.splits.items import Whole, contents_of, digest_of, read_items, source_files, tables
from diva.data.splits.ratios import counted, refuse_empty, shares_of
from diva.errors import DataError, RecordError, UsageError
from diva.records import files, footprint

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence
    from fractions import Fraction

    from diva.data.splits.items import Item

RECORD = "split.json"
SEED = 42
LEAKS_NAMED = 1000  # in split.json

FOLDER = re.compile(r"(fold-\d+/)?(train|val|test)", re.ASCII)

Mode = Literal["link", "copy", "list"]


@dataclass(frozen=True)
class Made:
    """What `split` made or found: the folder, what `split.json` says, whether it was there already, and what to warn of."""

    out: Path
    record: dict[str, Any]
    was_there: bool
    warnings: tuple[str, ...] = ()


def split(
    folder: Path,
    out: Path,
    *,
    ratios: Mapping[str, Fraction | float | str] | None = None,
    seed: int = SEED,
    by: str | None = None,
    kfold: int = 0,
    mode: Mode = "link",
    layout: str | None = None,
    merge: bool = False,
    duplicates_together: bool = True,
    allow_empty: bool = False,
    hashing: Callable[[int, int], None] | None = None,
    placing: Callable[[int, int], None] | None = None,
) -> Made:
    """Divide the samples of `folder` into `out`; the same call again verifies what is there.

    ratios: of train, val and test, summing to 1; a split that is not named has none. by: "class", "group=PATTERN" or
    "group=FILE.csv:COLUMN"; None is class where the samples have one. kfold: K folders fold-0 ..., each with train, val, and the same test.
    Raises UsageError for options that make no sense together, DataError for data that cannot be divided so and for another split in `out`.
    """
    out, folder = Path(out).expanduser().absolute(), Path(folder).expanduser()
    shares = shares_of(ratios, kfold)
    staging.check_place(folder, out)
    taken = footprint_of(folder, hashing)
    whole = read_items(folder, layout, merge)
    contents = contents_of(whole, {entry.path: entry.sha256 for entry in taken.files})
    grouping = groups.parse(by)
    if by == "class" and not any(item.targets for item in whole.items):
        raise UsageError(f"--by class: {whole.layout} have no class to go by; leave it out, or give --by group=PATTERN")
    group_of = grouping.keys([item.name for item in whole.items]) if grouping else None
    same = contents if duplicates_together else None
    members = groups.together([item.name for item in whole.items], group_of, same)
    units = [_unit(whole, group, seed, group_of) for group in members]
    where = _divide(units, shares, whole, bool(grouping), allow_empty)
    parts: dict[str, list[Item]] = {part: [] for part in shares}
    for group, number in zip(members, where, strict=True):
        parts[list(shares)[number]] += [whole.items[i] for i in group]
    refuse_empty(whole, parts, members, shares, bool(grouping), allow_empty)
    options = {
        "allow_empty": allow_empty,
        "by": grouping.record() if grouping else "class" if any(item.targets for item in whole.items) else None,
        "duplicates": "together" if duplicates_together else "anywhere",
        "kfold": kfold,
        "merge": merge,
        "ratios": {part: str(share) for part, share in shares.items()},
        "seed": seed,
    }
    record = _record(whole, parts, options, taken, group_of, contents)
    return _put(whole, record, taken, out, mode, placing)


def like(
    folder: Path,
    out: Path,
    published: Path,
    *,
    mode: Mode = "link",
    allow_changed: bool = False,
    hashing: Callable[[int, int], None] | None = None,
    placing: Callable[[int, int], None] | None = None,
) -> Made:
    """Divide `folder` as the file `published`, a `split.json`, says; `out` gets the same `split.json`.

    Raises DataError when a sample of it is not there, and when the files are not those that were divided, unless `allow_changed`:
    then `split.json` says so.
    """
    out, folder = Path(out).expanduser().absolute(), Path(folder).expanduser()
    record = read_record(published)
    staging.check_place(folder, out)
    taken = footprint_of(folder, hashing)
    whole = read_items(folder, record["source"]["layout"], record["options"]["merge"])
    names = {name for part in record["parts"].values() for name in part["samples"]}
    there = {item.name for item in whole.items}
    if absent := sorted(names - there):
        raise DataError(
            f"{folder}: lacks {counted(len(absent), 'sample')} that {published} names: {files.some_of(absent)}"
        )
    warnings = []
    if more := sorted(there - names):
        warnings.append(
            f"{folder}: {counted(len(more), 'sample')} not in {published}, hence left out: {files.some_of(more)}"
        )
    digest = _digest_of_samples(whole, names, taken)
    if digest != record["source"]["samples"]:
        told = (
            f"{folder}: its samples are {digest}, those of {published} were {record['source']['samples']}: the names are "
            "the same, the content is not"
        )
        if not allow_changed:
            raise DataError(f"{told}. To divide them all the same, and have it recorded: --allow-changed")
        warnings.append(told)
        record = {key: value for key, value in record.items() if key != "digest"}
        record["like"] = {"samples": record["source"]["samples"], "split": read_record(published)["digest"]}
        record["source"] = {
            **record["source"],
            "footprint": taken.digest,
            "n_samples": len(there),
            "name": folder.resolve().name,
            "samples": digest,
        }
        record |= _recounted(whole, record, taken)
        record = staging.sealed(record)
    made = _put(whole, record, taken, out, mode, placing)
    return Made(made.out, made.record, made.was_there, (*warnings, *made.warnings))


def read_record(path: Path) -> dict[str, Any]:
    """What a `split.json` says; RecordError when it is damaged, altered or of a newer diva, or no split at all."""
    record = staging.read_record(path, "split")
    try:
        samples = [name for part in record["parts"].values() for name in part["samples"]]
        ways: list[tuple[Any, Any]] = [
            (record["source"][key], str) for key in ("footprint", "layout", "name", "samples")
        ]
        ways += [(record["options"]["merge"], bool), *((name, str) for name in samples)]
        for checked in (record["checks"]["identical_in_two_parts"], record["checks"]["identical_samples"]):
            ways += [(checked["n"], int), *((name, str) for named in checked["samples"] for name in named)]
        for part in record["parts"].values():
            ways += [(part["n_samples"], int), (part["counts"], dict), (part["groups"], list | None)]
            ways += [(n, int) for n in part["counts"].values()]
        ways += [(record["options"]["seed"], int)]
        known = all(set(parts) <= set(record["parts"]) for parts in record["folders"].values())
        whole = bool(samples) and known and all(isinstance(value, kind) for value, kind in ways)
    except (KeyError, TypeError, AttributeError):
        whole = False
    if not whole or not all(FOLDER.fullmatch(folder) for folder in record["folders"]):
        raise RecordError(
            f"{path}: is no split.json of diva split, or a damaged one; make it anew, or take the original"
        )
    twice = [name for name, n in Counter(samples).items() if n > 1]
    if twice:
        raise RecordError(f"{path}: names samples twice, hence divides nothing: {files.some_of(twice)}")
    return record


def footprint_of(folder: Path, hashing: Callable[[int, int], None] | None) -> footprint.Footprint:
    """The content of the source. Files that a stored footprint knows and nobody touched are not read again; nothing is stored."""
    stored = footprint.location(folder)
    try:
        known = footprint.read(stored) if stored.exists() else None
    except RecordError:
        known = None
    return footprint.take(folder, known=known, deep=False, progress=hashing)


def _unit(whole: Whole, group: Sequence[int], seed: int, group_of: Mapping[str, str] | None) -> partition.Unit:
    items = [whole.items[i] for i in group]
    multi = whole.layout == "multi label"
    found = Counter(target for item in items for target in (item.targets if multi else item.targets or (0,)))
    names = {item.identity if group_of is None else f"group {group_of[item.name]}" for item in items}
    return partition.Unit(min(partition.key_of(seed, name) for name in names), len(items), tuple(sorted(found.items())))


def _divide(
    units: Sequence[partition.Unit], shares: Mapping[str, Fraction], whole: Whole, by_group: bool, may_lack: bool
) -> list[int]:
    ratios = list(shares.values())
    if by_group and len(units) < len(ratios):
        raise DataError(
            f"{whole.folder}: its samples form {counted(len(units), 'group')} without identical files in two; "
            f"{len(ratios)} are needed for {', '.join(shares)}"
        )
    if by_group:
        return partition.grouped(units, ratios)
    if whole.layout == "multi label":
        return partition.iterated(units, ratios)
    return partition.stratified(units, ratios, may_lack)


def _record(
    whole: Whole,
    parts: Mapping[str, Sequence[Item]],
    options: Mapping[str, Any],
    taken: footprint.Footprint,
    group_of: Mapping[str, str] | None,
    contents: Mapping[str, str],
) -> dict[str, Any]:
    everything = {item.name for item in whole.items}
    place = {item.name: number for number, item in enumerate(whole.items)}
    told = {}
    names_of = {part: sorted((item.name for item in items), key=place.__getitem__) for part, items in parts.items()}
    for part, items in parts.items():
        names = names_of[part]
        counts = Counter(whole.classes[target] for item in items for target in item.targets)
        told[part] = {
            "counts": {name: counts[name] for name in whole.classes} if counts else {},
            "groups": sorted({group_of[name] for name in names}) if group_of is not None else None,
            "n_samples": len(names),
            "samples": names,
        }
    return staging.sealed(
        {
            "checks": groups.checks(names_of, group_of, contents, LEAKS_NAMED),
            "classes": list(whole.classes),
            "folders": _folders(list(parts)),
            "kind": "split",
            "options": dict(options),
            "parts": told,
            "schema": staging.SCHEMA,
            "source": {
                "footprint": taken.digest,
                "layout": whole.layout,
                "n_samples": len(everything),
                "name": whole.folder.resolve().name,
                "samples": _digest_of_samples(whole, everything, taken),
            },
        }
    )


def _recounted(whole: Whole, record: Mapping[str, Any], taken: footprint.Footprint) -> dict[str, Any]:
    """The record's checks, classes and counts as these files have them; the groups of the samples are told by names, which are the same."""
    item_of = {item.name: item for item in whole.items}
    parts = {}
    for part, facts in record["parts"].items():
        counts = Counter(whole.classes[target] for name in facts["samples"] for target in item_of[name].targets)
        parts[part] = {**facts, "counts": {name: counts[name] for name in whole.classes} if counts else {}}
    contents = contents_of(whole, {entry.path: entry.sha256 for entry in taken.files})
    names_of = {part: facts["samples"] for part, facts in parts.items()}
    checked = groups.checks(names_of, None, contents, LEAKS_NAMED)
    checked["groups_in_two_parts"] = record["checks"].get("groups_in_two_parts")
    return {"checks": checked, "classes": list(whole.classes), "parts": parts}


def _folders(parts: list[str]) -> dict[str, list[str]]:
    """Which parts each split's folder holds."""
    folds = [part for part in parts if part.startswith("fold-")]
    if not folds:
        return {part: [part] for part in parts}
    found = {}
    for fold in folds:
        found[f"{fold}/train"] = [other for other in folds if other != fold]
        found[f"{fold}/val"] = [fold]
        if "test" in parts:
            found[f"{fold}/test"] = ["test"]
    return found


def _digest_of_samples(whole: Whole, names: Container[str], taken: footprint.Footprint) -> str:
    """The footprint digest over the files of these samples alone: a changed README does not change it."""
    chosen = source_files(whole, names)
    if len(chosen) == taken.n_files:
        return taken.digest
    return footprint.Footprint(tuple(entry for entry in taken.files if entry.path in chosen)).digest


def _put(
    whole: Whole,
    record: dict[str, Any],
    taken: footprint.Footprint,
    out: Path,
    mode: Mode,
    placing: Callable[[int, int], None] | None,
) -> Made:
    warnings = (*groups.warnings(record["checks"], whole), *_unused(whole, taken), *_lacking(record))
    listed = staging.Contents(texts={RECORD: staging.as_bytes(record)})
    if not staging.is_there(out):
        contents = listed if mode == "list" else _contents(whole, record, taken)
        try:
            staging.build(out, contents, "copy" if mode == "copy" else "link", placing)
            return Made(out, record, False, warnings)
        except FileExistsError:
            pass  # another process was first: then it must have made the same
    if _is_listed(out, record, mode):
        staging.refuse_changed(out, listed)
    else:  # whatever the mode is now: what was placed is verified
        contents = _contents(whole, record, taken)
        staging.refuse_changed(out, contents)
        staging.refuse_linked(out, contents, mode)
    return Made(out, record, True, warnings)


def _lacking(record: Mapping[str, Any]) -> tuple[str, ...]:
    """A warning of parts that there are none of."""
    made = {folder.rpartition("/")[2] for folder in record["folders"]}
    lacking = [part for part in layouts.SPLITS if part not in made]
    if not lacking:
        return ()
    flags = " and ".join(f"--{part} 0.2" for part in lacking)
    return (f"no {' and no '.join(lacking)} part is made, and image_classification needs one; to make it: {flags}",)


def _unused(whole: Whole, taken: footprint.Footprint) -> tuple[str, ...]:
    """A warning of files that are in no sample, hence in no split."""
    used = source_files(whole, {item.name for item in whole.items})
    left = layouts.unused_files(whole.folder, used, (entry.path for entry in taken.files))
    if not left:
        return ()
    are = "is" if len(left) == 1 else "are"
    return (f"{whole.folder}: {counted(len(left), 'file')} {are} in no sample: {files.some_of(left)}",)


def _contents(whole: Whole, record: Mapping[str, Any], taken: footprint.Footprint) -> staging.Contents:
    """Everything that the folder is to hold."""
    digests = {entry.path: entry.sha256 for entry in taken.files}
    placed: dict[str, str] = {}
    texts = {RECORD: staging.as_bytes(record)}
    description = description_of(whole, record, "split")
    for folder, parts in record["folders"].items():
        names = {name for part in parts for name in record["parts"][part]["samples"]}
        items = [item for item in whole.items if item.name in names]
        placed |= {f"{folder}/{place}": source for item in items for place, source in item.files}
        texts |= {f"{folder}/{name}": content for name, content in tables(whole, items).items()}
        texts[f"{folder.rpartition('/')[0]}/{layouts.DESCRIPTION}".lstrip("/")] = description
    return staging.Contents(
        {name: os.path.join(whole.folder, source) for name, source in placed.items()},  # noqa: PTH118 - ten times as fast
        {name: digest_of(source, whole.folder, digests) for name, source in placed.items()},
        texts,
    )


def description_of(whole: Whole, record: Mapping[str, Any], key: str) -> bytes:
    """The `dataset.yaml` of the outcome: layout and classes, so that a class that some split lacks keeps its number; the source's notes.

    `key` is what the record's digest is called there. Expectations of the source are left out: they may not hold.
    """
    source = layouts.describe(whole.folder)
    told = {
        **source.about,
        "layout": whole.layout,
        **({"classes": list(whole.classes)} if whole.classes else {}),
        **({"colours": source.colours} if source.colours else {}),
        "source": {"name": record["source"]["name"], "footprint": record["source"]["footprint"], key: record["digest"]},
    }
    return as_yaml(told).encode()


def _is_listed(out: Path, record: Mapping[str, Any], mode: Mode) -> bool:
    """Whether a folder that is there holds the list alone; refuse one that holds another split, or the list where files are wanted."""
    staging.stored_record(out, RECORD, "split")
    stored = read_record(out / RECORD)
    before, after = ({name for part in made["parts"].values() for name in part["samples"]} for made in (stored, record))
    kinds = (("added", after - before), ("removed", before - after))
    told = [f"{counted(len(names), 'sample')} {what}: {files.some_of(sorted(names))}" for what, names in kinds if names]
    staging.refuse_other(out, staging.unlike(stored, record, "; ".join(told)))
    listed = {entry.name for entry in out.iterdir() if not footprint.is_ignored(entry.name)} == {RECORD}
    if listed and mode != "list":
        raise DataError(f"--to {out}: holds the list alone (--mode list); name another folder, or remove this one")
    return listed
