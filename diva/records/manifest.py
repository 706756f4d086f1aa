"""The manifest: everything needed to run an experiment again. Written once, before the first step; never rewritten."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from diva.errors import RecordError
from diva.records.files import sha256_file

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class TaskRecord(_Record):
    """Which task: `path` is relative to the tree of the snapshot, so is `import_root` of a task given as `module:Class`."""

    name: str
    asked: str
    path: str
    class_name: str
    module: str | None = None
    import_root: str | None = None
    knobs: dict[str, Any]
    origins: dict[str, str]


class DataRecord(_Record):
    """Which data: `path` is relative to the run's folder; `facts` are what the task found out about them."""

    name: str
    path: str
    digest: str
    n_files: int
    n_bytes: int


class LoadedRecord(_Record):
    """Weights that training started from; a copy is in the run's checkpoints."""

    origin: str
    digest: str
    report: str


class Manifest(_Record):
    """One run, sealed. See docs/reference/manifest.md for the meaning of each field."""

    schema_version: int = SCHEMA
    id: str
    created: str
    argv: tuple[str, ...]
    task: TaskRecord
    seed: int
    options: dict[str, Any]
    origins: dict[str, str]
    data: DataRecord | None
    facts: dict[str, Any]
    model: dict[str, Any]
    loaded: LoadedRecord | None
    source: dict[str, Any]
    diva: dict[str, Any]
    environment: dict[str, Any]
    reproduces: dict[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain JSON values; NaN and infinities are strings."""
        return dict(json.loads(self.model_dump_json()))


def read_manifest(path: Path) -> Manifest:
    """Read `manifest.json`; RecordError when it is damaged or of a schema this version does not know."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["schema_version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise RecordError(f"{path}: not a manifest that can be read; the run cannot be used") from None
    if version != SCHEMA:
        raise RecordError(
            f"{path}: written with schema {version}, this diva reads schema {SCHEMA}; use the diva that wrote it"
        )
    try:
        return Manifest(**content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {place}: {first['msg']}; the record was altered or cut off") from None


def manifest_digest(path: Path) -> str:
    """SHA-256 of the file `manifest.json`."""
    return "sha256:" + sha256_file(path)
