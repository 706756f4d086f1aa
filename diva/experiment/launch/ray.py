"""Tasks of a Ray cluster, one per process; without a cluster, of a Ray of our own on this machine."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from diva.errors import DivaError, UsageError, nearest
from diva.experiment.launch import Job, Launcher, Lost, ending, n_cores, needs, withheld
from diva.experiment.launch import node as node_module

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

OPTIONS = ("address", "cpus", "gpus")
LOOPBACK = "127.0.0.1"
STORE_BYTES = 100 << 20  # of our own Ray's object store, into which nothing is put
GRACE_S = 25.0  # more than the node has for it


class RayJob(Job):
    """A task of the cluster, which may wait, run or be over."""

    def __init__(self, ray: Any, task: Any, log: Path) -> None:
        self._ray = ray
        self._task = task
        self._log = log
        self._asked: int = 0
        self._code: int | None = None
        self._lost = ""

    def exit_code(self) -> int | None:
        """See Job. A node that dies is noticed within seconds, one that falls silent within about a minute."""
        if self._code is None and not self._lost and self._ray.wait([self._task], timeout=0)[0]:
            self._read()
        if self._lost:
            raise Lost(self._lost)
        return self._code

    def _read(self) -> None:
        errors = self._ray.exceptions
        try:
            code, _ = self._ray.get(self._task)
            self._code = ending(code, asked=bool(self._asked))
        except Lost as lost:
            self._lost = str(lost)
        except errors.RayTaskError as error:
            if self._asked:
                self._code = 128 + self._asked
                return
            with self._log.open("a", encoding="utf-8") as log:
                log.write(f"diva: error: the node could not start it: {_first_line(error.cause or error)}\n")
            self._code = 1
        except errors.RayError as error:
            if self._asked:
                self._code = 128 + self._asked
            else:
                self._lost = _first_line(error)

    def stop(self) -> None:
        """Cancel it: what waits never begins, what runs has SIGTERM."""
        if not self._asked and self._is_open():
            self._asked = signal.SIGTERM
            self._ray.cancel(self._task, force=False)

    def kill(self) -> None:
        """End the worker that attends to the process, and by its leash the process."""
        if self._asked != signal.SIGKILL and self._is_open():
            self._asked = signal.SIGKILL
            self._ray.cancel(self._task, force=True)

    def end(self, within_s: float) -> None:
        """Wait for it to end, at most so long; then kill it."""
        self._ray.wait([self._task], timeout=max(0.0, within_s))
        self.kill()

    def _is_open(self) -> bool:
        with suppress(Lost):
            return self.exit_code() is None
        return False


class RayLauncher(Launcher):
    """Asks a Ray cluster for a task per process; the cluster sees to where and when."""

    def __init__(self, jobs: int, options: Mapping[str, str]) -> None:
        strange = sorted(options.keys() - set(OPTIONS))
        if strange:
            raise UsageError(f"--launcher-option {strange[0]}: not an option of ray; {nearest(strange[0], OPTIONS)}")
        self._gpus = _amount("gpus", options.get("gpus", "0"))
        self._cpus = _amount("cpus", options.get("cpus", "1"))
        self.threads = max(1, int(self._cpus))
        self._jobs: list[RayJob] = []
        self._ray = _connect(options.get("address") or os.environ.get("RAY_ADDRESS"), self._cpus * jobs)
        self._check_room()
        self._ray.cloudpickle.register_pickle_by_value(node_module)
        # A task that is lost is not Ray's to repeat: who conducts the study knows whether there is anything left to do.
        self._attend = self._ray.remote(max_retries=0)(node_module.attend)

    def _check_room(self) -> None:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(n.get("CPU", 0) >= self._cpus and n.get("GPU", 0) >= self._gpus for n in nodes):
            self.close()
            raise UsageError(
                f"--launcher-option cpus={self._cpus:g}, gpus={self._gpus:g}: no node of the cluster has so many; ask for less"
            )

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> RayJob:
        """See Launcher."""
        task = self._attend.options(num_cpus=self._cpus, num_gpus=self._gpus, name=name)
        threads = {"OMP_NUM_THREADS": str(self.threads)}
        log = log.absolute()
        reference = task.remote(list(command), {**threads, **environment}, str(log), str(Path.cwd()))
        self._jobs.append(RayJob(self._ray, reference, log))
        return self._jobs[-1]

    def close(self) -> None:
        """See Launcher: then leave the cluster, or end our own."""
        for job in self._jobs:
            job.stop()
        end = monotonic() + GRACE_S
        while self._jobs:
            self._jobs.pop().end(end - monotonic())
        self._ray.shutdown()


def _connect(address: str | None, cpus: float) -> Any:
    """Ray, connected to the cluster at `address` (`auto`: the one of this machine), or to one of our own with so many cores.

    Nothing is reported to Ray's makers, no dashboard is opened, and our own cluster listens on the loopback alone.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    loopback = address is None or address.partition(":")[0] in (LOOPBACK, "localhost")
    if loopback:  # or Ray takes the machine's outer address in place of it
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    ray = needs("ray", "ray")
    needs("ray._private.worker", "ray").print_to_stdstream = _hush
    try:
        with _handlers_kept(), withheld():
            _begin(ray, address, cpus, loopback)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"address={address}" if address else "ray"
        raise DivaError(f"--launcher-option {where}: Ray cannot be reached: {_first_line(error)}") from None
    return ray


def _begin(ray: Any, address: str | None, cpus: float, loopback: bool) -> None:
    told = {"logging_level": "CRITICAL", "log_to_driver": False}
    here = {"_node_ip_address": LOOPBACK} if loopback else {}
    if address is None:
        own = {"num_cpus": max(n_cores(), cpus), "object_store_memory": STORE_BYTES, "include_dashboard": False}
        ray.init(**told, **own, **here)
    else:
        ray.init(address=address, **told, **here)


def _hush(data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
    """What Ray wants to tell the driver, as that a node died: its first line on standard error.

    Ray prints it on standard output, which is for results, with twenty lines of its own log, and has no option against that.
    """
    print(f"ray: {_first_line(chr(10).join(data.get('lines', ())))}", file=sys.stderr, flush=True)


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; here it interrupts the study, which stops its members."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            signal.signal(number, handler)


def _amount(name: str, text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount < float("inf"):
        raise UsageError(f"--launcher-option {name}={text}: must be a number, 0 or more")
    return amount


def _first_line(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
