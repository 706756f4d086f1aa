"""The trace: a hash chain of what a run computed. Each entry digests the one before, so two runs compare in one line."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from diva.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

START = "sha256:" + "0" * 64


def entry(previous: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The next entry: `content` (epoch, step and digests by name), the digest of the entry before, and its own digest."""
    body = {**content, "previous": previous}
    return {**body, "digest": _digest(body)}


def _digest(body: Mapping[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def read_trace(path: Path) -> list[dict[str, Any]]:
    """The entries of `trace.jsonl`; RecordError names the first that does not follow from the one before."""
    entries: list[dict[str, Any]] = []
    previous = START
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise RecordError(f"{path}: missing; the run left no trace to compare") from None
    except UnicodeDecodeError:
        raise RecordError(f"{path}: not text; the trace was altered") from None
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
            body = {name: value for name, value in found.items() if name != "digest"}
            whole = body["previous"] == previous and found["digest"] == _digest(body)
        except (ValueError, KeyError, AttributeError):
            whole = False
        if not whole:
            raise RecordError(f"{path}:{number}: the chain is broken here; the trace was altered or cut off")
        entries.append(found)
        previous = found["digest"]
    return entries


class Parting(NamedTuple):
    """Where two traces part: the first entry that differs, and the names of what differs in it, in the order of computation."""

    epoch: int
    step: int
    names: tuple[str, ...]


ORDER = ("order", "losses", "weights", "optimizer", "metrics")


def first_difference(one: Sequence[Mapping[str, Any]], two: Sequence[Mapping[str, Any]]) -> Parting | None:
    """The first entry at which two traces part, found by bisection of the chains; None when they are the same."""
    low, high = 0, min(len(one), len(two))
    while low < high:
        middle = (low + high) // 2
        if one[middle]["digest"] == two[middle]["digest"]:
            low = middle + 1
        else:
            high = middle
    if low == len(one) == len(two):
        return None
    if low == min(len(one), len(two)):
        longer = one if len(one) > len(two) else two
        return Parting(longer[low]["epoch"], longer[low]["step"], ("length",))
    left, right = one[low], two[low]
    names = tuple(name for name in ORDER if left.get(name) != right.get(name))
    return Parting(left["epoch"], left["step"], names or ("entry",))


def comparable(
    one: Sequence[Mapping[str, Any]], two: Sequence[Mapping[str, Any]]
) -> tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]:
    """The traces as they are where both have entries per step or neither has; else the entries of whole epochs, chained anew."""
    if _has_steps(one) == _has_steps(two):
        return one, two
    return _epochs(one), _epochs(two)


def _has_steps(entries: Sequence[Mapping[str, Any]]) -> bool:
    return any("metrics" not in found for found in entries)


def _epochs(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The entries of whole epochs, which alone have metrics, in a chain of their own."""
    chain: list[dict[str, Any]] = []
    previous = START
    for found in entries:
        if "metrics" in found:
            chain.append(entry(previous, {k: v for k, v in found.items() if k not in ("digest", "previous")}))
            previous = chain[-1]["digest"]
    return chain
