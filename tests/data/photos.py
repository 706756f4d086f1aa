"""A folder of files in classes that can be divided, and what a folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diva.data.splits import Made


def class_folders(root: Path, reverse: bool = False, **counts: int) -> Path:
    """Files of distinct content, written in one order or the other; three in a row are of one writer."""
    names = [(label, i) for label, n in counts.items() for i in range(n)]
    for label, i in reversed(names) if reverse else names:
        path = root / label / f"w{i // 3}" / f"page.{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{label} {i}".encode())
    return root


def tree(root: Path) -> dict[str, Any]:
    """Everything in a folder: content, modification time in ns, kind."""
    return {
        path.relative_to(root).as_posix(): (
            path.stat().st_mtime_ns, path.is_symlink(), path.read_bytes() if path.is_file() else None
        )
        for path in sorted(root.rglob("*"))
    }  # fmt: skip


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def names(made: Made, part: str) -> set[str]:
    return set(made.record["parts"][part]["samples"])


def counts(made: Made) -> dict[str, list[int]]:
    return {part: list(facts["counts"].values()) for part, facts in made.record["parts"].items()}
