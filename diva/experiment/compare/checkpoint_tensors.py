"""Tensors of two checkpoints, compared byte by byte as they lie in their safetensors files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def tensors_that_differ(one: Path, two: Path, epoch: int) -> tuple[str, ...] | None:
    """Names of the weights in which two folders of checkpoints differ after `epoch`; None when one has none of it, or none to read."""
    files = one / f"epoch-{epoch:04}.safetensors", two / f"epoch-{epoch:04}.safetensors"
    try:
        left, right = map(_tensors, files)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return tuple(name for name in sorted(left.keys() | right.keys()) if left.get(name) != right.get(name))


def _tensors(file: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Type, shape and bytes by name. The format: 8 bytes of the header's length, the header as JSON, then all bytes."""
    content = memoryview(file.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(bytes(content[8:start]))
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        found[name] = (str(entry["dtype"]), list(entry["shape"]), bytes(content[start + begin : start + end]))
    return found
