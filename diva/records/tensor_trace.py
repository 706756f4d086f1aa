"""The tensor trace: a digest of each tensor after every epoch or step, so that the first one in which two runs part has a name.

`tensors.jsonl` has two kinds of lines. `{"names": [...]}` lists tensors in the order in which they are computed; it holds until the next of
its kind. `{"epoch": e, "step": s, "digests": "..."}` has 16 hex digits for each of them. It stands beside the hash chain of `trace.jsonl`,
which proves; this only names.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, final

from diva.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

DIGITS = 16  # of a SHA-256, per tensor: 64 bits tell any two apart that are not made to collide


class TensorEntry(NamedTuple):
    """What the tensors held after a step: their digests by name, in the order of computation; step 0 is before training."""

    epoch: int
    step: int
    digests: Mapping[str, str]


@final
class TensorJournal:
    """A tensor trace that is being written. What stands behind the last whole epoch `done` is cut off, as a resumed run makes it anew."""

    def __init__(self, path: Path, done: int) -> None:
        path.touch()
        keep, self._names = _kept(path, done)
        self._file = path.open("r+", encoding="utf-8", newline="\n")
        self._file.truncate(keep)
        self._file.seek(keep)

    def write(self, epoch: int, step: int, digests: Mapping[str, str]) -> None:
        """Append an entry."""
        names = list(digests)
        if names != self._names:
            self._file.write(json.dumps({"names": names}) + "\n")
            self._names = names
        line = {"epoch": epoch, "step": step, "digests": "".join(digests.values())}
        self._file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        """Hand what was written to the system, so that it outlives this process."""
        self._file.flush()

    def close(self) -> None:
        """Write out and close."""
        self._file.close()


def read_tensor_trace(path: Path) -> Iterator[TensorEntry]:
    """The entries of `tensors.jsonl`, one after the other; none where the file is missing. RecordError names a line that is none."""
    return (entry.opened() for entry in _packed_entries(path))


def first_tensors_that_differ(one: Path, two: Path) -> tuple[TensorEntry, tuple[str, ...]] | None:
    """The first step that both tensor traces have and at which a tensor that both name differs, and the names of all such tensors then,
    in the order of computation; None when there is none. The entry is that of the first trace."""
    left, right = _packed_entries(one), _packed_entries(two)
    a, b = next(left, None), next(right, None)
    while a is not None and b is not None:
        if a.step == b.step and (a.digests != b.digests or a.names != b.names):
            entry, other = a.opened(), b.opened().digests
            names = tuple(name for name, digest in entry.digests.items() if other.get(name, digest) != digest)
            if names:
                return entry, names
        behind = a.step - b.step
        if behind <= 0:
            a = next(left, None)
        if behind >= 0:
            b = next(right, None)
    return None


class _Packed(NamedTuple):
    """An entry as its line has it: all digests in one string, which compares as fast as memory."""

    epoch: int
    step: int
    names: Sequence[str]
    digests: str

    def opened(self) -> TensorEntry:
        """With the digests by name."""
        by_name = {name: self.digests[DIGITS * i : DIGITS * (i + 1)] for i, name in enumerate(self.names)}
        return TensorEntry(self.epoch, self.step, by_name)


def _packed_entries(path: Path) -> Iterator[_Packed]:
    if not path.is_file():
        return
    names: Sequence[str] = ()
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                found = _parsed(line)
                if "names" in found:
                    names = found["names"]
                    continue
                entry = _Packed(found["epoch"], found["step"], names, found["digests"])
                if len(entry.digests) != DIGITS * len(names):
                    raise ValueError("as many digests as names")
            except (ValueError, KeyError, TypeError, AttributeError):
                raise RecordError(
                    f"{path}:{number}: not an entry of a tensor trace; it was altered or cut off"
                ) from None
            yield entry


def _parsed(line: bytes) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise ValueError("cut off")
    return dict(json.loads(line))


def _kept(path: Path, done: int) -> tuple[int, list[str] | None]:
    """How many bytes hold the entries up to epoch `done`, and which names are in force there."""
    kept: tuple[int, list[str] | None] = (0, None)
    names: list[str] | None = None
    at = 0
    with path.open("rb") as file:
        for line in file:
            at += len(line)
            try:
                found = _parsed(line)
                if "names" in found:
                    names = list(found["names"])
                elif found["epoch"] > done:
                    break
                else:
                    kept = (at, names)
            except (ValueError, KeyError, TypeError):
                break
    return kept
