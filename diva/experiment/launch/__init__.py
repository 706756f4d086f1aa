"""Launchers: where the processes of a study's members run, and how each of them ended."""

from __future__ import annotations

import os
import signal
from abc import ABC, abstractmethod
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from diva.errors import DivaError, UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LAUNCHERS = ("local", "slurm", "ray")
# A process that ends by one of these is faulty: starting it again ends it again.
OWN_FAULT = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS}
# What a search says to a server of suggestions: for who conducts a study alone.
PRIVATE = ("SIGOPT_API_TOKEN", "SIGOPT_API_URL")
QUOTA = Path("/sys/fs/cgroup/cpu.max")


class Lost(DivaError):
    """A process ended through no fault of its own: its machine, its scheduler or somebody else ended it. Start it again."""


class Job(ABC):
    """A process that a launcher started."""

    @abstractmethod
    def exit_code(self) -> int | None:
        """What the process ended with, as a shell says it (128 + n for signal n); None while it waits or runs. Does not block.

        Raises Lost when something ended it that neither it nor `stop` or `kill` did; the same answer however often it is asked.
        """

    @abstractmethod
    def stop(self) -> None:
        """Ask it to end, as SIGTERM does: it notes where it stands and ends with 143. Nothing happens when it has ended."""

    @abstractmethod
    def kill(self) -> None:
        """End it, and whatever it started, at once. Nothing happens when it has ended."""


class Launcher(ABC):
    """Starts processes somewhere. `threads`: how many threads of the CPU each of them may use there.

    It is a context manager that closes itself.
    """

    threads: int = 1

    @abstractmethod
    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Job:
        """Start `command`, what it says going to the end of the file `log`; where there is no room yet, it waits its turn.

        name: of the member, for lists of jobs. environment: what it has over the environment that is there, without PRIVATE;
        OMP_NUM_THREADS is `threads` where nobody says otherwise.
        """

    @abstractmethod
    def close(self) -> None:
        """End whatever still runs, as `stop` does and after a while as `kill` does, and give back what is held. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_launcher(name: str, jobs: int, options: Mapping[str, str]) -> Launcher:
    """The launcher `name`, for `jobs` members at a time; `options` are its own, as `--launcher-option` gives them.

    Raises UsageError for an unknown launcher or option, and when the library that it needs is not installed.
    """
    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: must be at least 1")
    if name == "local":
        from diva.experiment.launch.local import LocalLauncher

        if options:
            raise UsageError(f"--launcher-option {min(options)}: the local launcher has no options; leave it out")
        return LocalLauncher(share_threads(jobs))
    if name == "slurm":
        from diva.experiment.launch.slurm import SlurmLauncher

        return SlurmLauncher(options)
    if name == "ray":
        from diva.experiment.launch.ray import RayLauncher

        return RayLauncher(jobs, options)
    raise UsageError(f"--launcher {name}: not known; {nearest(name, LAUNCHERS)}")


def needs(library: str, launcher: str) -> Any:
    """A library of the extra `cluster`; UsageError when it is not installed."""
    try:
        return import_module(library)
    except ModuleNotFoundError:
        raise UsageError(
            f"--launcher {launcher} needs {library}; install it with: pip install 'diva[cluster]'"
        ) from None


def share_threads(jobs: int) -> int:
    """How many threads each of `jobs` processes may use so that together they fit this machine; at least 1."""
    return max(1, n_cores() // jobs)


@contextmanager
def withheld() -> Iterator[None]:
    """While this lasts, what is started does not inherit the variables in PRIVATE, nor does a scheduler store them."""
    kept = {name: os.environ.pop(name) for name in PRIVATE if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def n_cores() -> int:
    """The cores that this process may use: those it is bound to, and no more than its control group's share of time pays for."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text(encoding="ascii").split()
    except (OSError, ValueError):  # no Linux, no control groups, or their first version
        return bound
    return bound if quota == "max" else max(1, min(bound, int(quota) // int(period)))


def ending(code: int, *, asked: bool) -> int:
    """The exit code of a process that has ended, from `Popen.returncode`; `asked`: whether we stopped or killed it.

    Raises Lost when somebody else ended it by a signal, even one that it noticed and ended upon in order (130 and 143).
    """
    if code < 0 and -code in OWN_FAULT:
        return 128 - code
    number = -code if code < 0 else code - 128
    if not asked and (code < 0 or code in (128 + signal.SIGINT, 128 + signal.SIGTERM)):
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        why = "; was there too little memory?" if number == signal.SIGKILL else ""
        raise Lost(f"its process was ended by {name}, which nothing here sent{why}")
    return 128 + number if code < 0 else code
