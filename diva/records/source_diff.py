"""What differs between the snapshots that two runs keep of their code: which files, by how many lines, and the lines themselves."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, NamedTuple

from diva.errors import RecordError
from diva.records.source import SUMS, TREE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LARGEST_BYTES = 1_000_000  # of a file whose lines are compared
CONTEXT_LINES = 3


class FileChange(NamedTuple):
    """One file that differs: `added` and `removed` count lines, None for a file that is no text, or too large to look into."""

    path: str
    kind: str
    added: int | None
    removed: int | None
    diff: str


def compare_snapshots(one: Path, two: Path) -> list[FileChange]:
    """The files in which two snapshots (`source/project` or `source/diva` of two runs) differ, in the order of their paths.

    kind: "changed", "removed" (only `one` has it) or "added". Raises RecordError where a snapshot has no list of its files.
    """
    left, right = _sums(one), _sums(two)
    paths = sorted(path for path in left.keys() | right.keys() if left.get(path) != right.get(path))
    return [_change(path, one, two, path in left, path in right) for path in paths]


def patch_of(changes: Sequence[FileChange]) -> str:
    """The unified diff of all changes; files that are no text in a line each."""
    return "".join(c.diff or f"{c.kind}: {c.path}, no text\n" for c in changes)


def _sums(snapshot: Path) -> dict[str, bytes]:
    """The checksum of each file by its path within the tree, as `SHA256SUMS` lists them; links by where they lead."""
    listing = snapshot / SUMS
    try:
        lines = listing.read_bytes().splitlines()
    except OSError:
        raise RecordError(f"{listing}: missing; the run keeps no snapshot that could be compared") from None
    found = {}
    for line in lines:
        digest, _, path = line.rpartition(b"  ")
        found[path.decode("utf-8", "surrogateescape").removeprefix(f"{TREE}/")] = digest
    return found


def _change(path: str, one: Path, two: Path, in_one: bool, in_two: bool) -> FileChange:
    kind = "changed" if in_one and in_two else "removed" if in_one else "added"
    before = _lines(one / TREE / path) if in_one else []
    after = _lines(two / TREE / path) if in_two else []
    if before is None or after is None:
        return FileChange(path, kind, None, None, "")
    names = (f"a/{path}" if in_one else "/dev/null", f"b/{path}" if in_two else "/dev/null")
    lines = list(difflib.unified_diff(before, after, *names, n=CONTEXT_LINES))
    added = sum(line.startswith("+") for line in lines[2:])
    removed = sum(line.startswith("-") for line in lines[2:])
    return FileChange(
        path, kind, added, removed, "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
    )


def _lines(file: Path) -> list[str] | None:
    """The lines of a file of text; None for any other, for a link and for one that is too large or gone."""
    try:
        if file.is_symlink() or file.stat().st_size > LARGEST_BYTES:
            return None
        return file.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        return None
