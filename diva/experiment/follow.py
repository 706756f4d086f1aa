"""A worker of a run that another process leads: it makes the same steps on its own shards, and writes nothing."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from diva.data.shards import Shards
from diva.errors import DataError
from diva.experiment import workers
from diva.experiment.code import recorded_imports
from diva.experiment.execute import train
from diva.experiment.launch import leash
from diva.experiment.recorded import recorded_options, verify_record
from diva.experiment.resume import rebuild
from diva.kernels import backends, stock
from diva.learning.exchange import LostWorkerError
from diva.learning.task import DataFolder
from diva.records import footprint
from diva.records.run_folder import open_run
from diva.report.console import Console
from diva.seeding import preserved_generators

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

    from diva.experiment.workers import Seat


def follow() -> None:
    """Join the workers whose worker 0 is a run, and help it to its end. When worker 0 is gone this process ends, without a word."""
    leash.hold()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is worker 0's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    stock.prepare_process()
    seat = workers.seat()
    assert seat is not None
    store = workers.outer_store()
    store.set(f"here/{seat.rank}", "yes")
    try:
        _help(store, seat)
    except LostWorkerError:
        sys.exit(1)


def _help(store: Store, seat: Seat) -> None:
    shards = Shards(seat.size, seat.size, seat.rank)  # how many shards there are, the run will say
    own = torch.device("cuda", seat.local_rank) if torch.cuda.device_count() > seat.local_rank else torch.device("cpu")
    with workers.joined(store, shards, own) as device, open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123
        said = workers.heard()
        run, folder = open_run(said["run"]), None if said["data"] is None else DataFolder(**said["data"])
        manifest = verify_record(run)
        options = replace(recorded_options(manifest), workers_per_run=seat.size)
        _check_data(folder, seat)
        used = stock.choose_device(options.device)
        used = own if device.type == "cuda" else used
        with (
            preserved_generators(),
            backends.computing(options.backend, options.n_threads, tf32=options.tf32),
            recorded_imports(manifest.task, run) as task_class,
        ):
            learner = rebuild(run, manifest, options, folder, used, task_class, lambda line: None)
            learner.exchange = workers.exchange_with(learner, device)
            train(run, learner, options, Console(nowhere, nowhere, quiet=True))


def _check_data(folder: DataFolder | None, seat: Seat) -> None:
    """DataError when the data on another machine are not those of worker 0; one worker looks on each machine."""
    if folder is None or seat.local_rank > 0:
        return
    taken, _ = footprint.check(folder.path, deep=False)
    if taken.digest != folder.digest:
        raise DataError(f"{folder.path}: on {os.uname().nodename} these are not the data of worker 0; copy them anew")
