"""Processes that say that they run, and wait."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from diva.experiment.launch import Job


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """A named pipe; opening and reading it blocks, so a process that does not come or go fails the test after a minute."""

    def give_up(*_: object) -> None:
        raise TimeoutError("a process did not open or close its end of the pipe")

    os.mkfifo(tmp_path / "pipe")
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield tmp_path / "pipe"
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def ended() -> Callable[[Job], int]:
    """Waits for the end of a job, which some other process has to see first; Lost goes upwards."""

    def wait(job: Job) -> int:
        while (code := job.exit_code()) is None:
            signal.sigtimedwait([], 0.02)  # nothing: other processes have the processor
        return code

    return wait
