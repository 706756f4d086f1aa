"""Curves: the numbers of `metrics.jsonl`, a curve per name, read fast, and while the file grows only what is new."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Chunk = tuple[NDArray[np.int64], NDArray[np.float64]]

BLOCK_BYTES = 4 * 2**20
TAIL_BYTES = 256
WORTH_PROCESSES = 64 * 2**20
N_QUOTES = 14  # of {"epoch": 1, "name": "batch/loss", "per": "step", "step": 1, "value": 2.5}
NEWLINE, QUOTE, SPACE = 10, 34, 32
# Quotes i and j of such a row are so far apart: the keys' own lengths, and the signs between a key and a text.
DISTANCES = ((0, 1, 6), (2, 3, 5), (3, 4, 3), (5, 6, 3), (6, 7, 4), (7, 8, 3), (9, 10, 3), (10, 11, 5), (12, 13, 6))


@dataclass(frozen=True)
class Curve:
    """A number over the steps of training: steps int64 (T,), strictly increasing; values float64 (T,), NaN and infinities as they were."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]


@final
class CurveReader:
    """Reads the curves of one run, again and again while it goes on.

    A row that was written to the end of its line counts, a piece of one does not yet. Where a name has a step twice, the later row
    counts. A file that was cut, as that of a run that was resumed is, or in which other rows stand where the reader had stopped, is
    read from its beginning.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._offset = 0
        self._tail = b""
        self._chunks: dict[str, list[Chunk]] = {}

    def read(self) -> bool:
        """Take what is new in the file; whether there was anything, or less than before. A file that is not there has no rows."""
        if not self.file.exists():
            changed = bool(self._offset)
            self._forget()
            return changed
        with self.file.open("rb") as file:
            changed = self._offset > 0 and not self._stands_where_it_was(file)
            if changed:
                self._forget()
            file.seek(self._offset)
            rest = b""
            while block := file.read(BLOCK_BYTES):
                block = rest + block
                end = block.rfind(b"\n") + 1
                rest = block[end:]
                if end:
                    self._take(block[:end])
                    changed = True
        return changed

    def waiting(self) -> int:
        """How many bytes of the file have not been read."""
        return max(self.file.stat().st_size - self._offset, 0) if self.file.exists() else 0

    def curves(self) -> dict[str, Curve]:
        """The curves read so far, in the order in which their names first came."""
        return {name: self._curve(name) for name in self._chunks}

    def _stands_where_it_was(self, file: object) -> bool:
        file.seek(self._offset - len(self._tail))  # type: ignore[attr-defined]
        return bool(file.read(len(self._tail)) == self._tail)  # type: ignore[attr-defined]

    def _take(self, lines: bytes) -> None:
        self._offset += len(lines)
        self._tail = (self._tail + lines[-TAIL_BYTES:])[-TAIL_BYTES:]
        for name, chunk in rows_of(lines).items():
            self._chunks.setdefault(name, []).append(chunk)

    def _forget(self) -> None:
        self._offset, self._tail, self._chunks = 0, b"", {}

    def _curve(self, name: str) -> Curve:
        chunks = self._chunks[name]
        steps = np.concatenate([steps for steps, _ in chunks])
        values = np.concatenate([values for _, values in chunks])
        if (np.diff(steps) <= 0).any():
            order = np.argsort(steps, kind="stable")
            last = order[np.append(np.diff(steps[order]) > 0, True)]
            steps, values = steps[last], values[last]
        self._chunks[name] = [(steps, values)]
        return Curve(steps, values)


def read_all(readers: Sequence[CurveReader]) -> tuple[list[CurveReader], bool]:
    """Read what is new in many files, on all cores where it is much; returns the readers, as they are then, and whether anything was."""
    if sum(reader.waiting() for reader in readers) < WORTH_PROCESSES:
        changed = [reader.read() for reader in readers]
        return list(readers), any(changed)
    from diva.data.analysis.workers import over_ranges

    def work(start: int, stop: int) -> list[tuple[int, CurveReader, bool]]:
        return [(i, readers[i], readers[i].read()) for i in range(start, stop)]

    done = sorted((part for parts in over_ranges(work, len(readers), 4) for part in parts), key=lambda part: part[0])
    return [reader for _, reader, _ in done], any(changed for _, _, changed in done)


def read_curves(file: Path) -> dict[str, Curve]:
    """All curves of a `metrics.jsonl`."""
    reader = CurveReader(file)
    reader.read()
    return reader.curves()


def rows_of(lines: bytes) -> dict[str, Chunk]:
    """Steps and values of each name in whole lines of `metrics.jsonl`, in their order.

    Rows as diva writes them are taken apart by NumPy, many abreast, about 0.4 us each where `json.loads` needs 2; all others, such as
    those whose value is the text "nan", one by one. Raises ValueError for a line that is no row.
    """
    text = np.frombuffer(lines, np.uint8)
    ends = np.flatnonzero(text == NEWLINE)
    quotes = np.flatnonzero(text == QUOTE)
    upto = np.searchsorted(quotes, ends)
    first = np.append(0, upto[:-1])
    plain = upto - first == N_QUOTES
    if not plain.any():
        return _joined(_one_by_one(lines.splitlines(), np.arange(len(ends))))
    places = quotes[first[plain][:, None] + np.arange(N_QUOTES)]  # (rows, 14)
    fits = np.ones(len(places), bool)
    for i, j, distance in DISTANCES:
        fits &= places[:, j] - places[:, i] == distance
    lying = np.flatnonzero(plain)
    plain[lying[~fits]] = False
    places, lying = places[fits], lying[fits]
    found: list[tuple[str, NDArray[np.int64], Chunk]] = []
    if len(lying):
        steps = _numbers(text, places[:, 11] + 3, places[:, 12] - 2, np.int64)
        values = _numbers(text, places[:, 13] + 3, ends[lying] - 1, np.float64)
        names, codes = _names(text, places[:, 4] + 1, places[:, 5])
        order = np.argsort(codes, kind="stable")
        for name, which in zip(names, np.split(order, np.cumsum(np.bincount(codes))[:-1]), strict=True):
            found.append((name, lying[which], (steps[which], values[which])))
    if not plain.all():
        starts = np.append(0, ends[:-1] + 1)
        others = np.flatnonzero(~plain)
        found += _one_by_one([lines[starts[i] : ends[i]] for i in others], others)
    return _joined(found)


def _numbers(text: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], kind: type) -> NDArray:  # type: ignore[type-arg]
    """The numbers written in text[start:end]."""
    return np.fromstring(_cut_out(text, starts, ends, 1, SPACE).tobytes(), dtype=kind, sep=" ", count=len(starts))


def _names(
    text: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[list[str], NDArray[np.int64]]:
    """The different texts in text[start:end] in the order in which they first come, and of each row which of them it has."""
    keys = _cut_out(text, starts, ends, 8, 0).view(np.uint64)  # (rows, words)
    mixed = np.zeros(len(keys), np.uint64)
    for column in keys.T:
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    _, first, codes = np.unique(mixed, return_index=True, return_inverse=True)
    if not (keys == keys[first][codes]).all():  # two names of one hash, which nobody will live to see
        _, first, codes = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    names = [json.loads(b'"%b"' % text[starts[row] : ends[row]].tobytes()) for row in np.sort(first)]
    return names, rank[codes.ravel()]


def _cut_out(
    text: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], word: int, filler: int
) -> NDArray[np.uint8]:
    """The bytes text[start:end] as rows of one width, a multiple of `word`, longer than the longest; filled up behind."""
    lengths = ends - starts
    width = (int(lengths.max()) // word + 1) * word
    padded = np.append(text[: int(ends.max())], np.zeros(width, np.uint8))
    rows = np.lib.stride_tricks.sliding_window_view(padded, width)[starts]
    rows[np.arange(width) >= lengths[:, None]] = filler
    return rows


def _one_by_one(rows: list[bytes], places: NDArray[np.int64]) -> list[tuple[str, NDArray[np.int64], Chunk]]:
    found: dict[str, list[tuple[int, int, float]]] = {}
    for row, place in zip(json.loads(b"[%b]" % b",".join(rows)), places.tolist(), strict=True):
        found.setdefault(row["name"], []).append((place, int(row["step"]), float(row["value"])))
    return [
        (
            name,
            np.array([p for p, _, _ in rows_]),
            (np.array([s for _, s, _ in rows_]), np.array([v for _, _, v in rows_])),
        )
        for name, rows_ in found.items()
    ]


def _joined(found: list[tuple[str, NDArray[np.int64], Chunk]]) -> dict[str, Chunk]:
    """Parts of the same name put together in the order of their lines; names in the order in which they first come."""
    parts: dict[str, list[tuple[NDArray[np.int64], Chunk]]] = {}
    for name, places, chunk in sorted(found, key=lambda part: int(part[1][0])):
        parts.setdefault(name, []).append((places, chunk))
    return {name: _in_order(rows) for name, rows in parts.items()}


def _in_order(rows: list[tuple[NDArray[np.int64], Chunk]]) -> Chunk:
    if len(rows) == 1:
        return rows[0][1]
    order = np.argsort(np.concatenate([places for places, _ in rows]), kind="stable")
    steps = np.concatenate([steps for _, (steps, _) in rows])
    values = np.concatenate([values for _, (_, values) in rows])
    return steps[order], values[order]
