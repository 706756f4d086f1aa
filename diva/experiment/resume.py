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
    recorded_options,
    verify_data,
    verify_record,
)
from diva.experiment.reproduce import preview
from diva.experiment.run import check_loaded, computing, locate_data
from diva.kernels import stock
from diva.learning.checkpoints import load_weights
from diva.learning.task import Task
from diva.params import Layers, build

if TYPE_CHECKING:
    from pathlib import Path

    from diva.records.run_folder import RunFolder
    from diva.report.console import Console


def resume(run: RunFolder, data: str | None, data_root: Path, console: Console) -> dict[str, Any]:
    """Train a run to its end from its last checkpoint, with its recorded code, data and options; returns the result."""
    stock.prepare_process()
    if run.result() is not None:
        raise UsageError(f"{run.path}: this run is finished; diva reproduce runs it again")
    manifest = verify_record(run)
    options = recorded_options(manifest)
    wanted = find_data(run, manifest, data, data_root)
    verify_data(run, wanted, data_root, deep=options.verify == "deep")
    device = stock.choose_device(options.device)
    knobs = Layers(dict(manifest.task.knobs), dict(manifest.task.origins))
    with computing(run, options, console), recorded_imports(manifest.task, run) as task_class:
        console.say(f"resuming run {run.path}")
        for found in preview(manifest, {}):
            if found.can_change_bits:
                console.warn(f"{found.what} was {found.then}, is {found.now}: the bits of the rest may be others")
        located = locate_data(wanted, replace(options, data_root=data_root), console)
        weights = None
        if manifest.loaded:
            weights = load_weights(run.checkpoints / "loaded.safetensors")
            check_loaded(manifest, weights)
        task = build(task_class, knobs)
        assert isinstance(task, Task)
        folder = located.folder if located else None
        learner, _ = assemble(task, folder, options.seeds(task_class), options, device, weights, console.say)
        stock.pin(options.n_threads, tf32=options.tf32)
        strange = facts_that_differ(manifest.facts, learner.data.facts)
        if strange:
            raise RecordError(
                f"{run.path}: the data are read otherwise than when the run began, in {', '.join(strange)}; "
                "another image decoder would explain it, see environment/requirements.txt of the run"
            )
        return train(run, learner, options, console)
