"""From a sealed run back to what it needs: its task, options and data; with its own diva when today's is another."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diva.data.catalogue import locate, names
from diva.errors import DataError, RecordError
from diva.experiment.code import recorded_diva, recorded_imports, verify_code
from diva.experiment.find import FoundTask
from diva.experiment.options import RunOptions
from diva.params import Layers, build, options_of
from diva.records import footprint
from diva.records.manifest import Manifest, manifest_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.learning.task import Task
    from diva.records.run_folder import RunFolder
    from diva.records.study_folder import StudyFolder, StudyRecord

# Runs `diva` from another tree: its path first, no import hook of an editable install before it, and nothing of the current folder.
BOOT = (
    "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'Redirecting' not in type(f).__name__]; "
    "sys.path[:] = [sys.argv.pop(1), *filter(None, sys.path)]; from diva.cli import main; main()"
)


def verify_record(run: RunFolder) -> Manifest:
    """The manifest of a run whose record is whole; RecordError naming what was altered since."""
    run.check_seal()
    manifest, result = run.manifest(), run.result()
    if result is not None and result["manifest_digest"] != manifest_digest(run.manifest_file):
        raise RecordError(f"{run.manifest_file}: was altered after the run ended; its result names another digest")
    if manifest.data is not None and footprint.read(run.footprint_file).digest != manifest.data.digest:
        raise RecordError(f"{run.footprint_file}: is not the footprint that the manifest names; the record was altered")
    verify_code(run, manifest)
    return manifest


def recorded_task(run: RunFolder, manifest: Manifest) -> tuple[FoundTask, Task, Layers]:
    """The task from the snapshot, with the knobs it was run with."""
    record = manifest.task
    path = run.source / "project" / "tree" / record.path
    found = FoundTask(record.asked, record.name, path, record.class_name, record.module)
    knobs = Layers(dict(record.knobs), dict(record.origins))
    with recorded_imports(record, run) as task_class:
        task = build(task_class, knobs)
    return found, task, knobs  # type: ignore[return-value]


def recorded_options(manifest: Manifest | StudyRecord) -> RunOptions:
    """The options a run or study was made with; unknown ones, of another version of diva, are a RecordError."""
    known = {param.name: param for param in options_of(RunOptions)}
    strange = sorted(manifest.options.keys() - known.keys())
    if strange:
        raise RecordError(f"the record has options that this diva does not know: {', '.join(strange)}")
    values: dict[str, Any] = {}
    for name, value in manifest.options.items():
        param = known[name]
        values[name] = tuple(value) if param.listed else Path(value).expanduser() if param.kind == "path" else value
    if values.get("cache") == "on":  # it changes no bits, and this machine may have less memory
        values["cache"] = "auto"
    return replace(RunOptions(**values), seed=manifest.seed)


def find_data(
    run: RunFolder | StudyFolder, manifest: Manifest | StudyRecord, given: str | None, data_root: Path
) -> str | None:
    """The folder of the recorded data: `given`, else where it was seen from the run, else by name; DataError when nowhere."""
    if manifest.data is None:
        return None
    if given is not None:
        return given
    seen = (run.path / manifest.data.path).resolve()
    if seen.is_dir():
        return str(seen)
    if (data_root / manifest.data.name).is_dir():
        return str(data_root / manifest.data.name)
    if manifest.data.name in names():
        return manifest.data.name
    raise DataError(f"the data {manifest.data.name!r} are not at {seen}; say where they are with --data FOLDER")


def verify_data(run: RunFolder, wanted: str | None, data_root: Path, *, deep: bool) -> None:
    """DataError (exit 4) naming the files in which the data differ from those the run was made with."""
    if wanted is None:
        return
    _, path = locate(wanted, data_root)
    then = footprint.read(run.footprint_file)
    now = footprint.take(path, known=then, deep=deep)
    differences = footprint.compare(then, now)
    if differences:
        raise DataError(
            f"{path}: not the data of run {run.id}: {differences.text()}. Restore them, or give others with --data FOLDER"
        )


def facts_that_differ(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of facts about the data that differ; the decoder's version is none of them while it decodes the same pixels."""
    names = (then.keys() | now.keys()) - {"decoder"}
    return sorted(name for name in names if _json(then.get(name)) != _json(now.get(name)))


def _json(value: Any) -> str:
    """One of the two comes from a file, where a tuple has become a list."""
    return json.dumps(value, sort_keys=True, default=str)


def options_with(options: RunOptions, changes: dict[str, Any]) -> RunOptions:
    """The options with those changed that a user gave (None: not given)."""
    return dataclasses.replace(options, **{name: value for name, value in changes.items() if value is not None})


def become_recorded_diva(run: RunFolder | StudyFolder, manifest: Manifest | StudyRecord, argv: Sequence[str]) -> None:
    """Replace this process by the diva that made a run or study, with the arguments `argv`; returns when that one is running already.

    Also returns when it was not kept, as an installed diva is not.
    """
    tree = recorded_diva(run, manifest)
    if tree is None:
        return
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-B", "-c", BOOT, str(tree), *argv], environment)
