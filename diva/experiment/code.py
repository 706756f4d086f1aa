"""Which code runs: the snapshot that a run keeps of it, loaded from there, so that what ran is what is kept."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diva
from diva.errors import RecordError
from diva.experiment.find import import_root, imports_from, load_module_task, load_task, project_root
from diva.records import source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diva.experiment.find import FoundTask
    from diva.learning.task import Task
    from diva.records.manifest import Manifest, TaskRecord
    from diva.records.run_folder import RunFolder
    from diva.records.study_folder import StudyFolder, StudyRecord


@dataclass(frozen=True)
class Code:
    """Which code runs: the task, the snapshot of its project, and diva itself, as the manifest holds them."""

    task: TaskRecord
    source: dict[str, Any]
    diva: dict[str, Any]


def record_task(
    found: FoundTask, run: RunFolder | StudyFolder, policy: source.Policy
) -> tuple[dict[str, Any], str | None]:
    """Snapshot the project that holds the task.

    Returns the record, and the folder inside the snapshot from which a task given as module:Class is imported.
    """
    record = source.record(found.path, run.source / "project", policy)
    root, start = project_root(found.path), import_root(found)
    inside = start is not None and record["kind"] == "git" and start.is_relative_to(root)
    return record, start.relative_to(root).as_posix() if start is not None and inside else None


def record_diva(found: FoundTask, run: RunFolder | StudyFolder) -> dict[str, Any]:
    """Which diva runs: version and digest of its files, and a snapshot when it is installed from a checkout.

    `snapshot` names the folder under `source/` that holds it: "project" when the task lives in the same checkout, else "diva".
    """
    own: dict[str, Any] = {"version": diva.__version__, "digest": own_digest(), "snapshot": None, "source": None}
    package = Path(diva.__file__).resolve().parent
    if "site-packages" in package.parts:
        return own
    if project_root(package) == project_root(found.path) and (project_root(package) / ".git").exists():
        return {**own, "snapshot": "project"}
    return {**own, "snapshot": "diva", "source": source.record(package.parent, run.source / "diva", "auto")}


def running_diva(recorded: dict[str, Any]) -> dict[str, Any]:
    """The record of the diva that runs a recorded experiment: the recorded one, or another where that one was not kept."""
    if recorded["digest"] == own_digest():
        return recorded
    return {"version": diva.__version__, "digest": own_digest(), "snapshot": None, "source": None}


def own_digest() -> str:
    """Digest of the files of the diva that is running."""
    return source.package_digest(Path(diva.__file__).parent)


@contextmanager
def recorded_imports(
    task: TaskRecord, run: RunFolder | StudyFolder, project: Path | None = None
) -> Iterator[type[Task]]:
    """The task's class from a run's snapshot, whose modules are imported from there, and nowhere else, while this lasts.

    project: where the snapshot was just taken. A task of an installed package is imported from where it is installed.
    """
    tree = run.source / "project" / "tree"
    first = tree / task.import_root if task.import_root else None
    with imports_from(project or tree, tree, first):
        if task.module is not None:
            yield load_module_task(task.module, task.class_name)
        else:
            yield load_task(tree / task.path, task.class_name)


def verify_code(run: RunFolder | StudyFolder, manifest: Manifest | StudyRecord) -> None:
    """RecordError naming what was altered, added or removed in a run's snapshots since they were taken."""
    source.verify(run.source / "project", manifest.source)
    if manifest.diva["source"]:
        source.verify(run.source / "diva", manifest.diva["source"])


def recorded_diva(run: RunFolder | StudyFolder, manifest: Manifest | StudyRecord) -> Path | None:
    """The tree that holds the diva a run was made with, when it is kept and is not the one running now.

    Raises RecordError when the snapshot does not hold what the manifest says ran.
    """
    if manifest.diva["digest"] == own_digest() or manifest.diva["snapshot"] is None:
        return None
    tree = run.source / str(manifest.diva["snapshot"]) / "tree"
    if source.package_digest(tree / "diva") != manifest.diva["digest"]:
        raise RecordError(f"{tree / 'diva'}: is not the diva that the manifest names; the record was altered")
    return tree


def code_line(record: dict[str, Any]) -> str:
    """What a user is told about the recorded code."""
    n = f"{record['n_files']} files kept in the run"
    if not record["commit"]:
        return f"code {record['name']}: no commit to name; {n}"
    state = "with uncommitted changes" if record["dirty"] else "clean"
    return f"code {record['name']}: commit {record['commit'][:12]} ({record['branch'] or 'detached'}, {state}); {n}"
