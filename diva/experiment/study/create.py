"""A new study: code, data and machine are looked at once, before anything runs; what fails here leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from diva.errors import UsageError
from diva.experiment.launch import n_cores, share_threads
from diva.experiment.recorded import recorded_options
from diva.experiment.request import with_seed
from diva.experiment.run import (
    check_request,
    command_script,
    data_record,
    locate_data,
    plain,
    read_weights,
    record_code,
    with_computer,
    with_drawn_seed,
)
from diva.kernels import stock
from diva.learning.checkpoints import save_tensors
from diva.records.files import hide_home, write_atomic
from diva.records.run_folder import RunFolder, create_run_folder, discard
from diva.records.study_folder import StudyFolder, StudyRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diva.experiment.options import RunOptions
    from diva.experiment.request import Request
    from diva.records.study_folder import Kind
    from diva.report.console import Console


def create_study(
    request: Request, kind: Kind, plan: Mapping[str, Any], jobs: int, console: Console, *, elsewhere: bool = False
) -> StudyFolder:
    """Snapshot the code, check the data, and seal what is to run: every member's options and knobs but for those the plan varies.

    request: what a single run would be asked for; one without a seed gets one, which is recorded. jobs: how many members at a time.
    elsewhere: whether members run on other machines, where they choose device, backend and threads as a single run does.
    """
    stock.prepare_process()
    options = check_request(request)
    if not elsewhere:
        options = with_share(options, jobs)
    request = with_seed(replace(request, options=options))
    options = request.options
    if request.origins["seed"] == "drawn":
        console.say(f"seed {options.seed} (drawn)")
    wanted = request.task.default_data if options.data is None else options.data
    located = locate_data(wanted, options, console)
    study = StudyFolder(create_run_folder(options.output, request.found.name).path)
    try:
        code = record_code(study, request, console)
        if options.load is not None:
            save_tensors(study.loaded_file, read_weights(options.load))
        assert options.seed is not None
        record = StudyRecord(
            id=study.id,
            kind=kind,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            argv=tuple(hide_home(argument) for argument in request.argv),
            task=code.task,
            seed=options.seed,
            options=plain(options),
            origins=dict(request.origins),
            monitor=request.task.monitor,
            plan=dict(plan),
            jobs=jobs,
            data=data_record(study.path, located) if located else None,
            source=code.source,
            diva=code.diva,
        )
        write_atomic(study.path / "command.sh", command_script(with_drawn_seed(request.argv, request)))
        (study.path / "command.sh").chmod(0o755)
        study.seal(record)
    finally:
        if not study.study_file.exists():
            discard(RunFolder(study.path))
    console.say(f"study {study.path}")
    return study


def with_share(options: RunOptions, jobs: int) -> RunOptions:
    """The options with this machine's device, and with a share of its cores where the number of threads changes no bits."""
    chosen = with_computer(options, stock.choose_device(options.device))
    share = options.threads is None and chosen.backend == "exact"
    return replace(chosen, threads=share_threads(jobs * options.workers_per_run)) if share else chosen


def choose_jobs(asked: int | None, launcher: str, options: RunOptions, n: int | None) -> int:
    """How many members run at a time: as asked; else as many as there are cores for, or GPUs. A cluster takes them all.

    On one GPU that is named, as cuda:1, they take turns. n: how many there are, where that is known.
    """
    if asked is not None and asked < 1:
        raise UsageError(f"--jobs {asked}: must be at least 1")
    if asked is not None:
        return asked
    if launcher != "local" and n is not None:
        return n
    device = stock.choose_device(options.device)
    if device.type != "cpu":
        if device.index:  # the first is also what `auto` came to in a recorded run
            return 1
        return max(1, min(n or 1, stock.n_gpus() // options.workers_per_run))
    threads = (options.threads or 1) * options.workers_per_run
    return max(1, min(n or n_cores(), n_cores() // threads))


def jobs_again(asked: int | None, launcher: str, record: StudyRecord) -> int:
    """How many members of a recorded study run at a time from now on: as asked; else as many as it was planned for.

    On this machine no more than it has room for: the study may have been planned for a cluster, or for a larger one.
    """
    options = recorded_options(record)
    if options.device.startswith("cuda"):
        options = replace(options, device="auto")  # nobody needs the GPU who only wants to see what is finished
    n = choose_jobs(asked, launcher, options, record.jobs)
    return n if asked is not None else min(record.jobs, n)
