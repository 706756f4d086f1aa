"""The run folder: where everything of a run is, how it is made, found and read."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diva.errors import DivaError, RecordError, UsageError
from diva.records.files import read_json, sha256_file, write_atomic, write_sealed_json
from diva.records.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

Status = Literal["finished", "failed", "interrupted", "unfinished"]
NEEDED_BYTES = 64 * 2**20
HIDDEN = "*\n"


@dataclass(frozen=True)
class RunFolder:
    """A run's folder; `manifest.json` in it means sealed, `result.json` ended."""

    path: Path

    @property
    def id(self) -> str:
        """The run's name, unique among all runs: <UTC date>-<time>-<short id>; a member's begins with its study's."""
        parent = self.path.parent
        return f"{parent.parent.name}-{self.path.name}" if parent.name == "members" else self.path.name

    @property
    def manifest_file(self) -> Path:
        """Everything needed to run it again."""
        return self.path / "manifest.json"

    @property
    def seal_file(self) -> Path:
        """The manifest's digest, for `sha256sum -c`."""
        return self.path / "manifest.sha256"

    @property
    def result_file(self) -> Path:
        """How it ended; written last."""
        return self.path / "result.json"

    @property
    def footprint_file(self) -> Path:
        """The copy of the data set's footprint."""
        return self.path / "footprint.json"

    @property
    def trace_file(self) -> Path:
        """The hash chain, an entry per epoch or step."""
        return self.path / "trace.jsonl"

    @property
    def tensors_file(self) -> Path:
        """A digest of each tensor, an entry per epoch or step."""
        return self.path / "tensors.jsonl"

    @property
    def metrics_file(self) -> Path:
        """A row per event that carries numbers."""
        return self.path / "metrics.jsonl"

    @property
    def log_file(self) -> Path:
        """What the console said."""
        return self.path / "log.txt"

    @property
    def command_file(self) -> Path:
        """The command line, ready to run again."""
        return self.path / "command.sh"

    @property
    def source(self) -> Path:
        """Snapshots of the code that ran."""
        return self.path / "source"

    @property
    def environment(self) -> Path:
        """What it ran on and with."""
        return self.path / "environment"

    @property
    def checkpoints(self) -> Path:
        """Last and best."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.path / "tensorboard"

    @property
    def figures(self) -> Path:
        """Every picture that TensorBoard has."""
        return self.path / "figures"

    @property
    def activations(self) -> Path:
        """What layers made of some samples, a file per studied epoch."""
        return self.path / "activations"

    def seal(self, manifest: Manifest) -> None:
        """Write the manifest, once: from here on the run exists."""
        if self.manifest_file.exists():
            raise RecordError(f"{self.manifest_file}: a run is sealed once")
        write_sealed_json(self.manifest_file, manifest.to_json(), self.seal_file)

    def check_seal(self) -> None:
        """RecordError when the manifest is not what was sealed."""
        sealed = self.seal_file.read_text(encoding="utf-8").split() if self.seal_file.is_file() else []
        if sealed[:1] != [sha256_file(self.manifest_file)]:
            raise RecordError(
                f"{self.manifest_file}: was altered after it was sealed; {self.seal_file.name} has another digest"
            )

    def manifest(self) -> Manifest:
        """The sealed manifest."""
        return read_manifest(self.manifest_file)

    def result(self) -> dict[str, Any] | None:
        """The result, None while there is none."""
        if not self.result_file.exists():
            return None
        return dict(read_json(self.result_file))

    def status(self) -> Status:
        """How the run stands; "unfinished" is one that is running, or was killed, which nobody could write down."""
        if self.result_file.exists():
            return "finished"
        stopped = self.path / "stopped.json"
        return read_json(stopped)["status"] if stopped.exists() else "unfinished"

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of `metrics.jsonl`."""
        if self.metrics_file.exists():
            with self.metrics_file.open(encoding="utf-8") as file:
                for line in file:
                    yield json.loads(line)


def create_run_folder(output: Path, task: str, now: datetime | None = None) -> RunFolder:
    """A fresh folder `<output>/<task>/<id>`; DivaError when it cannot be written or the disk is full."""
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%d-%H%M%S")
    parent = output / task
    try:
        _check_space(parent)
        ours = not output.exists() or not any(output.iterdir()) or _hides_itself(output)
        while True:
            folder = parent / f"{stamp}-{secrets.token_hex(3)}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            ignore = (
                output if ours else parent
            ) / ".gitignore"  # a folder with other things in it stays visible to git
            if not ignore.exists():
                write_atomic(ignore, HIDDEN)
            return RunFolder(folder)
    except OSError as error:
        raise DivaError(f"{output}: cannot be written ({error.strerror}); choose another place with --output") from None


def _hides_itself(folder: Path) -> bool:
    """Whether git overlooks the folder because diva wrote so."""
    ignore = folder / ".gitignore"
    return ignore.is_file() and ignore.read_text(encoding="utf-8", errors="replace") == HIDDEN


def _check_space(folder: Path) -> None:
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if free < NEEDED_BYTES:
        raise DivaError(
            f"{folder}: the disk has {free / 2**20:.0f} MiB left, a run needs at least {NEEDED_BYTES / 2**20:.0f}; "
            "free some or choose another place with --output"
        )


def discard(folder: RunFolder) -> None:
    """Remove a folder that was never sealed, and its parents where that leaves them empty."""
    if folder.manifest_file.exists():
        return
    shutil.rmtree(folder.path, ignore_errors=True)
    for parent in (folder.path.parent, folder.path.parent.parent):
        try:
            if _hides_itself(parent) and len(list(parent.iterdir())) == 1:
                (parent / ".gitignore").unlink()
            parent.rmdir()
        except OSError:
            return  # other runs are there


def open_run(path: Path) -> RunFolder:
    """The run in `path`; UsageError when it is no run."""
    folder = RunFolder(path.expanduser())
    if not folder.manifest_file.is_file():
        if (folder.path / "study.json").is_file():
            raise UsageError(f"{path}: is a study, not a run; name one of its members: {path / 'members'}/...")
        what = "no such folder" if not folder.path.exists() else "no run: it has no manifest.json"
        raise UsageError(f"{path}: {what}; diva list runs shows the runs there are")
    return RunFolder(folder.path.resolve())


def find_runs(output: Path) -> list[RunFolder]:
    """All sealed runs below `output`, oldest first."""
    found = [RunFolder(path.parent) for path in output.glob("*/*/manifest.json")]
    return sorted(found, key=lambda run: run.id)


class Journal:
    """A file of JSON lines that only grows; `offset` is where a resumed run cuts it."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        """Open for appending after the first `keep` bytes; what stood behind them is cut off."""
        path.touch()
        if path.stat().st_size < keep:
            raise RecordError(
                f"{path}: is shorter than its last checkpoint says; lines were lost, so the run cannot be resumed"
            )
        self._file = path.open("r+", encoding="utf-8", newline="\n")
        self._file.truncate(keep)
        self._file.seek(keep)

    def write(self, row: dict[str, Any]) -> None:
        """Append one row."""
        self._file.write(json.dumps(row, sort_keys=True) + "\n")

    def offset(self) -> int:
        """Number of bytes written so far, all of them handed to the system."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Write out and close."""
        self._file.close()
