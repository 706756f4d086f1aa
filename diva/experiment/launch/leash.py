"""The leash: a process that was started by another ends when that one does, even when that one is killed.

Its standard input is a pipe that nobody writes into and whose other end the starter alone holds. When the starter ends in whatever way,
the system closes that end, and a thread here reads the end of the file. Needs no signal, no polling and nothing of one system.
"""

from __future__ import annotations

import os
import signal
import threading

VARIABLE = "DIVA_LEASH"  # set by who starts a process and holds the other end of its standard input


def hold() -> None:
    """Hold on to the process that started this one, if it said that it wants that; call it first of all, once.

    When that process ends, this one and whatever it started in its process group are killed: a run can be killed at any time, and
    whoever continues it shall not find it at work. From here on the standard input is empty.
    """
    if os.environ.pop(VARIABLE, None) is None:
        return
    line = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_watch, args=(line,), name="leash", daemon=True).start()


def _watch(line: int) -> None:
    while os.read(line, 1):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
