"""Continue an interrupted run at its last whole epoch; the outcome has the bits of an uninterrupted one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diva.errors import RecordError, UsageError
from diva.experiment.assemble import assemble
from diva.experiment.code import recorded_imports
from diva.experiment.execute import train
from diva.experiment.recorded import (
    facts_that_differ,
    find_data,
    options_with,
    recorded_options,
    verify_data,
    verify_record,
)
from diva.experiment.reproduce import preview
from diva.experiment.run import check_loaded, computing, locate_data
from diva.experiment.workers import with_workers
from diva.kernels import stock
from diva.learning.checkpoints import load_weights
from diva.learning.task import Task
from diva.params import Layers, build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from diva.experiment.options import RunOptions
    from diva.learning.loop import Learner
    from diva.learning.task import DataFolder
    from diva.records.manifest import Manifest
    from diva.records.run_folder import RunFolder
    from diva.report.console import Console


def resume(
    run: RunFolder, data: str | None, data_root: Path, console: Console, *, workers: int | None = None
) -> dict[str, Any]:
    """Train a run to its end from its last checkpoint, with its recorded code, data and options; returns the result.

    workers: how many share its shards from now on, None for as many as before.
    """
    stock.prepare_process()
    if run.result() is not None:
        raise UsageError(f"{run.path}: this run is finished; diva reproduce runs it again")
    manifest = verify_record(run)
    options = options_with(recorded_options(manifest), {"workers_per_run": workers})
    options = with_workers(options, given=workers is not None)
    wanted = find_data(run, manifest, data, data_root)
    verify_data(run, wanted, data_root, deep=options.verify == "deep")
    device = stock.choose_device(options.device)
    with computing(run, options, console), recorded_imports(manifest.task, run) as task_class:
        console.say(f"resuming run {run.path}")
        for found in preview(manifest, {}):
            if found.can_change_bits:
                console.warn(f"{found.what} was {found.then}, is {found.now}: the bits of the rest may be others")
        located = locate_data(wanted, replace(options, data_root=data_root), console)
        folder = located.folder if located else None
        learner = rebuild(run, manifest, options, folder, device, task_class, console.say)
        return train(run, learner, options, console, folder)


def rebuild(
    run: RunFolder,
    manifest: Manifest,
    options: RunOptions,
    folder: DataFolder | None,
    device: torch.device,
    task_class: type[Task],
    say: Callable[[str], None],
) -> Learner:
    """What learns in a run, as it was before the run's first step."""
    weights = None
    if manifest.loaded:
        weights = load_weights(run.checkpoints / "loaded.safetensors")
        check_loaded(manifest, weights)
    task = build(task_class, Layers(dict(manifest.task.knobs), dict(manifest.task.origins)))
    assert isinstance(task, Task)
    learner, _ = assemble(task, folder, options.seeds(task_class), options, device, weights, say)
    stock.pin(options.n_threads, tf32=options.tf32)
    strange = facts_that_differ(manifest.facts, learner.data.facts)
    if strange:
        raise RecordError(
            f"{run.path}: the data are read otherwise than when the run began, in {', '.join(strange)}; "
            "another image decoder would explain it, see environment/requirements.txt of the run"
        )
    return learner
