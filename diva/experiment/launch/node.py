"""What a cluster runs on one of its nodes: a process on a leash, and who waits for it.

A scheduler carries this module to the node by its content, so it needs Python alone there: no diva of this version, and no torch.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOOK_S = 0.2  # how soon a signal to end is passed on
GRACE_S = 20.0  # from asking the process to end to killing it; less than Slurm's KillWait, 30 s


def attend(
    command: Sequence[str], environment: Mapping[str, str], log: str, folder: str, warnings: Sequence[int] = ()
) -> tuple[int, list[str]]:
    """Run `command` in `folder` to its end; returns what `Popen.returncode` says of it, and the signals that ended it before its time.

    warnings: signals by which the scheduler says that the time on this node is over, besides SIGTERM; then, and when this function is
    left by an exception, the process is asked to end as SIGTERM does, and killed if it does not. SIGTERM is heeded only if there are any.
    What it says is added to `log`.
    """
    received: list[str] = []

    def note(number: int, frame: object) -> None:
        received.append(signal.Signals(number).name)

    for number in warnings:
        signal.signal(number, signal.SIG_IGN)  # some schedulers send it to the process too, which it would end at once
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with Path(log).open("ab") as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment, "DIVA_LEASH": "stdin"},
            cwd=folder,
            start_new_session=True,
        )
    try:
        for number in (*warnings, signal.SIGTERM) if warnings else ():
            signal.signal(number, note)
        while not received:
            try:
                return process.wait(LOOK_S), received
            except subprocess.TimeoutExpired:
                continue
        return _end(process), received
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> int:
    """Ask the process to end, and kill it and its helpers when it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    if process.stdin is not None:
        process.stdin.close()
    return code
