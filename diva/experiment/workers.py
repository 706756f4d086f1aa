"""The workers of one run: processes that each compute some of its virtual shards. Worker 0 is the run itself and alone writes.

`diva` starts the others on this machine. Or all are started from outside by torchrun, or whatever sets the same variables: RANK,
WORLD_SIZE, MASTER_ADDR and MASTER_PORT; then the run's folder and the data lie at the same paths for all of them.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diva
from diva.data.shards import Shards
from diva.errors import DivaError, UsageError
from diva.experiment.launch import Lost
from diva.experiment.launch.local import LocalLauncher
from diva.experiment.recorded import BOOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch
    from torch.distributed import Store  # type: ignore[attr-defined]

    from diva.experiment.launch import Job
    from diva.experiment.options import RunOptions
    from diva.learning.exchange import LostWorkerError
    from diva.learning.loop import Learner
    from diva.learning.task import DataFolder
    from diva.records.run_folder import RunFolder
    from diva.report.console import Console

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PATIENCE = timedelta(minutes=30)  # for a worker that neither answers nor ends
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
POLL_S, GRACE_S = 0.02, 10.0


@dataclass(frozen=True)
class Seat:
    """A worker's place among all, and among those on its machine, as torchrun's variables say it."""

    rank: int
    size: int
    local_rank: int
    local_size: int


def seat() -> Seat | None:
    """This process's place in a run that several processes make; None for a process that was started alone."""
    if any(name not in os.environ for name in NEEDED) or os.environ["WORLD_SIZE"] == "1":
        return None
    try:
        rank, size, port = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
        if not (0 <= rank < size and 0 < port < 65536):  # 0 is no port that others could meet at
            raise ValueError
        return Seat(rank, size, int(os.environ.get("LOCAL_RANK", rank)), int(os.environ.get("LOCAL_WORLD_SIZE", size)))
    except ValueError:
        said = ", ".join(f"{name}={os.environ[name]}" for name in NEEDED)
        raise UsageError(
            f"{said}: workers cannot meet so; start diva with torchrun, as with --standalone, or unset these variables"
        ) from None


def follows() -> bool:
    """Whether this process is a worker that writes nothing, so that it is to call `follow.follow`."""
    found = seat()
    return found is not None and found.rank > 0


def refuse_study() -> None:
    """UsageError in a process that torchrun started: each would begin the study, and its members take themselves for workers."""
    if seat() is not None:
        raise UsageError(
            "a study starts its members itself and torchrun (RANK, WORLD_SIZE) would start it several times; start diva alone, "
            "with --workers-per-run for workers of each member"
        )


def with_workers(options: RunOptions, *, given: bool) -> RunOptions:
    """The options with as many workers as were started from outside, if any; UsageError when their number does not fit.

    given: whether somebody asked for the number that the options have.
    """
    found = seat()
    if found is not None and given and options.workers_per_run != found.size:
        raise UsageError(
            f"--workers-per-run {options.workers_per_run}: but {found.size} workers were started (WORLD_SIZE); leave it out"
        )
    options = options if found is None else replace(options, workers_per_run=found.size)
    check_number(options)
    return options


def check_number(options: RunOptions) -> None:
    """UsageError when so many workers cannot share the shards."""
    shards, workers = options.shards, options.workers_per_run
    if shards < 1 or workers < 1:
        raise UsageError(f"--shards {shards}, --workers-per-run {workers}: both must be at least 1")
    if shards % workers:
        allowed = ", ".join(str(n) for n in range(1, shards + 1) if shards % n == 0)
        raise UsageError(
            f"--workers-per-run {workers}: must divide --shards, which is {shards}; allowed are {allowed}, "
            f"or another experiment with --shards {workers} (shards change bits, workers do not)"
        )


def threads_each(threads: int, options: RunOptions) -> int:
    """How many of this machine's threads each worker may use."""
    found = seat()
    return max(1, threads // (options.workers_per_run if found is None else found.local_size))


def shards_of(options: RunOptions) -> Shards:
    """What this process computes of the run."""
    found = seat()
    return Shards(options.shards, options.workers_per_run, 0 if found is None else found.rank)


@contextmanager
def together(
    run: RunFolder, learner: Learner, options: RunOptions, data: DataFolder | None, console: Console
) -> Iterator[None]:
    """While this lasts, worker 0, whose learner this is, is joined with all others, who know the run; they end when it does.

    Raises DivaError, naming the worker, when one is lost or fails, with the exit code that it ended with.
    """
    if options.workers_per_run == 1:
        yield
        return
    from diva.learning.exchange import LostWorkerError

    with ExitStack() as held:
        others: dict[int, Job] = {}
        logs = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="diva-workers-")))
        if seat() is None:
            console.say(f"workers {options.workers_per_run}, for {options.shards} shards")
            store = held.enter_context(_started(run, options, others, logs))
            _await(store, others, options.workers_per_run, logs)
        else:
            store = outer_store()
        try:
            with joined(store, shards_of(options), learner.device) as device:
                _tell(run, data)
                learner.exchange = exchange_with(learner, device)
                yield
            _see_off(others)
        except LostWorkerError as error:
            raise _mourned(error, others, logs, options.workers_per_run, console) from error


def exchange_with(learner: Learner, device: torch.device) -> Any:
    """How the learner's worker talks to the others; `device` is where they take tensors."""
    from diva.learning.exchange import Together

    return Together(learner.batches["train"].shards, device)


@contextmanager
def _started(run: RunFolder, options: RunOptions, others: dict[int, Job], logs: Path) -> Iterator[Store]:
    """The workers but the first, processes on this machine that end with this one, and the store by which they meet it."""
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    size = options.workers_per_run
    with socket.create_server(("127.0.0.1", 0)) as server, LocalLauncher(options.n_threads) as launcher:
        port = server.getsockname()[1]
        store = TCPStore(
            "127.0.0.1", port, size, is_master=True, timeout=PATIENCE, wait_for_workers=False,
            master_listen_fd=server.detach(),
        )  # fmt: skip
        here = str(Path(diva.__file__).resolve().parent.parent)
        command = [sys.executable, "-B", "-c", BOOT, here, "resume", str(run.path.resolve()), "--quiet"]
        shared = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
        shared |= {"MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", LOOPBACK)}
        try:
            for rank in range(1, size):
                own = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                others[rank] = launcher.start(f"worker {rank}", command, own, _log(logs, rank))
            with _variables({"GLOO_SOCKET_IFNAME": shared["GLOO_SOCKET_IFNAME"]}):
                yield PrefixStore(_attempt(), store)
        finally:
            for job in others.values():
                job.kill()


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _log(logs: Path, rank: int) -> Path:
    return logs / f"{rank}.txt"


def outer_store() -> Store:
    """The store of workers that were started from outside, by torchrun's conventions; an attempt of its own for each restart."""
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    found = seat()
    assert found is not None
    hosts = found.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, found.size, is_master=hosts, timeout=PATIENCE, wait_for_workers=False)
    return PrefixStore(_attempt(), store)


def _attempt() -> str:
    return f"diva/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


@contextmanager
def joined(store: Store, shards: Shards, device: torch.device) -> Iterator[torch.device]:
    """The process group of all workers, while this lasts, and the device on which it takes tensors.

    NCCL between GPUs when every worker of a machine has one of its own, else gloo through the memory of the CPU.
    """
    import torch
    import torch.distributed as dist

    from diva.learning.exchange import answering

    found = seat()
    local = shards.workers if found is None else found.local_size
    if shards.rank == 0:
        own = device.type == "cuda" and torch.cuda.device_count() >= local
        store.set("backend", "cpu:gloo,cuda:nccl" if own else "gloo")
    with answering():
        backend = store.get("backend").decode()
        if "nccl" in backend:
            torch.cuda.set_device(device)
        dist.init_process_group(backend, store=store, rank=shards.rank, world_size=shards.workers, timeout=PATIENCE)
    try:
        yield device if "nccl" in backend else torch.device("cpu")
    finally:
        dist.destroy_process_group()


def _tell(run: RunFolder, data: DataFolder | None) -> None:
    """Tell the other workers which run and which data it is."""
    import torch.distributed as dist

    from diva.learning.exchange import answering

    with answering():
        dist.broadcast_object_list([{"run": run.path.resolve(), "data": None if data is None else asdict(data)}], 0)


def heard() -> dict[str, Any]:
    """What worker 0 says of the run: its folder, and the fields of its data's folder."""
    import torch.distributed as dist

    from diva.learning.exchange import answering

    said: list[Any] = [None]
    with answering():
        dist.broadcast_object_list(said, 0)
    return dict(said[0])


def _await(store: Store, others: Mapping[int, Job], size: int, logs: Path) -> None:
    """Return when all workers are there; DivaError when one ends before."""
    while not store.check([f"here/{rank}" for rank in others]):
        for rank, job in others.items():
            code = _ending(job)
            if code is not None:
                raise _failed(rank, size, code, logs)
        time.sleep(POLL_S)


def _see_off(others: Mapping[int, Job]) -> None:
    """Wait, not for long, until the others have ended by themselves."""
    end = time.monotonic() + GRACE_S
    while any(_ending(job) is None for job in others.values()) and time.monotonic() < end:
        time.sleep(POLL_S)


def _ending(job: Job) -> int | str | None:
    """The exit code of a worker, or why it is lost; None while it runs."""
    try:
        return job.exit_code()
    except Lost as lost:
        return str(lost)


def _mourned(error: LostWorkerError, others: Mapping[int, Job], logs: Path, size: int, console: Console) -> DivaError:
    """The error that says which worker ended, and how; that one is meant which did not itself miss another."""
    end = time.monotonic() + GRACE_S
    while others and time.monotonic() < end:
        for rank, job in others.items():
            code = _ending(job)
            if code is not None and (isinstance(code, str) or _text(logs, rank)):
                failed = _failed(rank, size, code, logs)
                if "Traceback (most recent call last)" in _text(logs, rank):
                    console.warn(f"worker {rank} said:\n{_text(logs, rank)}")
                return failed
        time.sleep(POLL_S)
    return error


def _failed(rank: int, size: int, code: int | str, logs: Path) -> DivaError:
    lines = _text(logs, rank).splitlines()
    said = lines[-1].partition("error: ")[2] or lines[-1] if lines else ""
    why = code if isinstance(code, str) else said or f"exit code {code}"
    way_on = (
        "" if said else ("" if why.endswith("?") else ".") + " Continue at the last whole epoch with: diva resume RUN"
    )
    failed = DivaError(f"worker {rank} of {size} ended: {why}{way_on}")
    if isinstance(code, int) and code in range(2, 7):
        failed.exit_code = code
    return failed


def _text(logs: Path, rank: int) -> str:
    return _log(logs, rank).read_text(encoding="utf-8", errors="replace").strip()
