"""Processes on this machine: on a leash, in a session of their own, so that Ctrl-C reaches them once, through who started them."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from diva.experiment.launch import Job, Launcher, ending, withheld
from diva.experiment.launch.leash import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

GRACE_S = 10.0  # from asking a process to end to killing it


class LocalJob(Job):
    """A child process, the leader of its own group."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._asked = False

    def exit_code(self) -> int | None:
        """See Job."""
        code = self._process.poll()
        if code is None:
            return None
        self._let_go()
        return ending(code, asked=self._asked)

    def stop(self) -> None:
        """SIGTERM to the process alone: it is the one to end its helpers."""
        if self._process.poll() is None:
            self._asked = True
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the process and its helpers; returns when it is gone."""
        if self._process.poll() is None:
            self._asked = True
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def end(self, within_s: float) -> None:
        """Wait for it to end, at most so long; then kill it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, within_s))
        self.kill()
        self._let_go()

    def _let_go(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()


class LocalLauncher(Launcher):
    """Starts every process at once: who calls it sees to how many there are."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._jobs: list[LocalJob] = []

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> LocalJob:
        """See Launcher."""
        log.parent.mkdir(parents=True, exist_ok=True)
        threads = {"OMP_NUM_THREADS": str(self.threads)}
        with log.open("ab") as output, withheld():
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**threads, **os.environ, **environment, VARIABLE: "stdin"},
                start_new_session=True,
            )
        job = LocalJob(process)
        self._jobs = [other for other in self._jobs if other.runs()] + [job]
        return job

    def close(self) -> None:
        """See Launcher."""
        for job in self._jobs:
            job.stop()
        end = monotonic() + GRACE_S
        while self._jobs:
            self._jobs.pop().end(end - monotonic())
