"""The base of a sensitivity study: what all its runs are but for what is varied, from the command line or from a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diva.experiment.code import own_digest, recorded_diva
from diva.experiment.recorded import (
    become_recorded_diva,
    find_data,
    options_with,
    recorded_options,
    recorded_task,
    verify_data,
    verify_record,
)
from diva.experiment.request import Request, with_seed
from diva.seeding import other_seeds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.records.run_folder import RunFolder
    from diva.report.console import Console


def hand_over(run: RunFolder, argv: Sequence[str], console: Console) -> None:
    """Let the diva that made the run do this, so that the base computes as the run did; one that cannot is said.

    Returns where that one is running already, or cannot do it.
    """
    manifest = verify_record(run)
    tree = recorded_diva(run, manifest)
    if tree is not None and (tree / "diva" / "cli" / "sensitivity.py").is_file():
        become_recorded_diva(run, manifest, argv)
    if manifest.diva["digest"] != own_digest():
        why = "was not kept" if tree is None else "has no diva sensitivity yet"
        console.warn(f"the diva that made this run {why}; this one computes the base anew, and its bits may be others")


def base_of_run(run: RunFolder, changes: Mapping[str, Any], argv: tuple[str, ...]) -> Request:
    """What would run this recorded run again: its code, data, knobs and options, but for the options in `changes`.

    RecordError or DataError when code or data are not what they were.
    """
    manifest = verify_record(run)
    given = {"output": Path("runs"), "data_root": Path("data"), **changes}
    options = options_with(recorded_options(manifest), given)
    if options.backend == "exact" and "threads" not in changes:
        options = replace(options, threads=None)  # they change no bits there
    wanted = find_data(run, manifest, changes.get("data"), options.data_root)
    verify_data(run, wanted, options.data_root, deep=options.verify == "deep")
    if manifest.loaded is not None:
        options = replace(options, load=str(run.checkpoints / "loaded.safetensors"))
    found, task, knobs = recorded_task(run, manifest)
    origins = {**manifest.origins, **dict.fromkeys(changes, "command line")}
    return Request(found, task, knobs, replace(options, data=wanted), origins, argv, recorded=run)


def settled(request: Request, *, elsewhere: bool = False) -> Request:
    """The base with its seed and, unless members run elsewhere, the device and the backend that this machine has for it.

    Threads that nobody asked for stay open: the study shares them out as its jobs and its backend allow, a member elsewhere as a run.
    """
    from diva.experiment.run import check_options
    from diva.kernels import backends, stock

    request = with_seed(replace(request, options=check_options(request.options)))
    options = request.options
    other_seeds(options.stream, type(request.task).streams)
    if elsewhere:
        return request
    device = stock.choose_device(options.device)
    backend = backends.choose_backend(options.backend, device)
    return replace(request, options=replace(options, device=str(device), backend=backend))
