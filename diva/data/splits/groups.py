"""Groups: samples that must stay in one split, because they are of one writer or patient, or because their files are identical."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diva.data.layouts.listing import read_table
from diva.errors import DataError, UsageError
from diva.records import files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.data.splits.items import Whole

CSV = re.compile(r"(?P<file>.+\.csv)(:(?P<column>[^:/]+))?", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Grouping:
    """How the group of a sample is told from its name: by a regular expression, or by a column of a CSV file."""

    pattern: str | None = None
    table: Path | None = None
    column: str = "group"

    def keys(self, names: Sequence[str]) -> dict[str, str]:
        """The group of each sample; DataError names a sample that has none."""
        return self._matched(names) if self.pattern is not None else self._listed(names)

    def record(self) -> dict[str, str]:
        """What is recorded of it: no path, but the digest of the file."""
        if self.table is None:
            return {"pattern": self.pattern or ""}
        return {"column": self.column, "file": self.table.name, "sha256": files.sha256_file(self.table)}

    def _matched(self, names: Sequence[str]) -> dict[str, str]:
        pattern = re.compile(self.pattern or "")
        found: dict[str, str] = {}
        for name in names:
            match = pattern.search(name)
            key = match and (
                match["group"] if "group" in pattern.groupindex else match[1] if pattern.groups else match[0]
            )
            if key:
                found[name] = key
        _refuse_ungrouped(names, found, f"--by group={self.pattern}: does not match")
        return found

    def _listed(self, names: Sequence[str]) -> dict[str, str]:
        assert self.table is not None
        header, rows = read_table(self.table)
        if self.column not in header[1:]:
            raise DataError(
                f"{self.table}: has no column {self.column!r} behind the first; it has {', '.join(header)[:80]}"
            )
        column = header.index(self.column, 1)
        found: dict[str, str] = {}
        for number, row in enumerate(rows, 2):
            if found.setdefault(row[0], row[column]) != row[column]:
                raise DataError(
                    f"{self.table}: row {number} puts {row[0]} into {row[column]!r}, an earlier one into {found[row[0]]!r}"
                )
        _refuse_ungrouped(
            names, {name: key for name, key in found.items() if key}, f"{self.table}: has no {self.column} for"
        )
        return {name: found[name] for name in names}


def _refuse_ungrouped(names: Sequence[str], found: Mapping[str, str], what: str) -> None:
    without = [name for name in names if name not in found]
    if without:
        raise DataError(f"{what} {len(without)} of {len(names)} samples: {files.some_of(without)}")


def parse(by: str | None) -> Grouping | None:
    """The grouping that `--by` asks for, None for class; UsageError for anything else, and for a pattern that is none."""
    if by is None or by == "class":
        return None
    kind, equals, wanted = by.partition("=")
    if kind != "group" or not equals or not wanted:
        raise UsageError(f"--by {by}: allowed: class, group=PATTERN, group=FILE.csv:COLUMN")
    if listed := CSV.fullmatch(wanted):
        return Grouping(table=Path(listed["file"]).expanduser(), column=listed["column"] or "group")
    try:
        re.compile(wanted)
    except re.error as error:
        raise UsageError(f"--by {by}: is no regular expression ({error})") from None
    return Grouping(pattern=wanted)


def together(
    names: Sequence[str], group_of: Mapping[str, str] | None, contents: Mapping[str, str] | None
) -> list[list[int]]:
    """Numbers of samples that must stay together: those of one group, those of one content, and whatever these connect."""
    above = list(range(len(names)))

    def top(i: int) -> int:
        while above[i] != i:
            above[i] = above[above[i]]
            i = above[i]
        return i

    for mark in (group_of, contents):
        first: dict[str, int] = {}
        for i, name in enumerate(names if mark is not None else ()):
            a, b = top(first.setdefault((mark or {})[name], i)), top(i)
            above[max(a, b)] = min(a, b)
    found: dict[int, list[int]] = {}
    for i in range(len(names)):
        found.setdefault(top(i), []).append(i)
    return list(found.values())


def checks(
    parts: Mapping[str, Sequence[str]], group_of: Mapping[str, str] | None, contents: Mapping[str, str], most: int
) -> dict[str, Any]:
    """What proves that the parts are disjoint, counted from the parts as they are: names, groups and contents that two of them share."""
    shared = {"names": _shared(parts, None), "groups": _shared(parts, group_of) if group_of is not None else None}
    where: dict[str, list[str]] = {}
    for names in parts.values():
        for name in names:
            where.setdefault(contents[name], []).append(name)
    identical = sorted(sorted(names) for names in where.values() if len(names) > 1)
    part_of = {name: part for part, names in parts.items() for name in names}
    leaks = [names for names in identical if len({part_of[name] for name in names}) > 1]
    return {
        "groups_in_two_parts": shared["groups"],
        "identical_in_two_parts": {"n": len(leaks), "samples": leaks[:most]},
        "identical_samples": {"n": len(identical), "samples": identical[:most]},
        "names_in_two_parts": shared["names"],
    }


def _shared(parts: Mapping[str, Sequence[str]], mark: Mapping[str, str] | None) -> int:
    seen: dict[str, set[str]] = {}
    for part, names in parts.items():
        for name in names:
            seen.setdefault(name if mark is None else mark[name], set()).add(part)
    return sum(len(found) > 1 for found in seen.values())


def warnings(checked: Mapping[str, Any], whole: Whole) -> tuple[str, ...]:
    """What a user should know: identical samples in two splits, and identical samples of different classes."""
    told = []
    leaks, identical = checked["identical_in_two_parts"], checked["identical_samples"]
    if leaks["n"]:
        told.append(
            f"{_sets(leaks['n'])} in more than one split, as {files.some_of(leaks['samples'][0])}: "
            "what is learned by heart counts as known there"
        )
    targets = {item.name: item.targets for item in whole.items}
    unlike = [names for names in identical["samples"] if len({targets.get(name) for name in names}) > 1]
    if unlike:
        told.append(f"{_sets(len(unlike))} of more than one class, as {files.some_of(unlike[0])}")
    return tuple(told)


def _sets(n: int) -> str:
    return f"{n} {'set' if n == 1 else 'sets'} of identical samples {'is' if n == 1 else 'are'}"
