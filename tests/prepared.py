"""`python -m diva` without the second that it takes to import the libraries: processes forked from one that has imported them.

Run as a program this file imports PyTorch, Matplotlib and the rest, but nothing of diva, and waits. Each line on standard
input is a request (JSON: arguments, folder, the files for standard output and error); it forks a process that becomes
`python -m diva ARGUMENTS` from there, importing diva anew, and answers with that process's exit code. What is forked has
the hash seed of its origin: tests that compare two runs, or are about the interpreter, start a whole one instead.
"""

from __future__ import annotations

import atexit
import functools
import gc
import io
import json
import os
import runpy
import select
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

LIBRARIES = (
    "torch",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "pydantic",
    "git",
    "yaml",
    "PIL.Image",
    "click",
)
LIMIT_S = 120


def run_diva(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`diva ARGUMENTS` in a process of its own, from `cwd`, without a terminal; Python and libraries see this process's environment."""
    process = _prepared(tuple(sorted((k, v) for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST")))
    assert process.stdin is not None and process.stdout is not None
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place, "out"), Path(place, "err")
        request = {
            "arguments": [str(a) for a in arguments],
            "cwd": str(cwd or Path.cwd()),
            "out": str(out),
            "err": str(err),
        }
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], LIMIT_S)[0]:
            process.kill()
            _prepared.cache_clear()
            raise subprocess.TimeoutExpired(request["arguments"], LIMIT_S, _read(out), _read(err))
        code = int(process.stdout.readline())
        return subprocess.CompletedProcess(request["arguments"], code, _read(out), _read(err))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.lru_cache(maxsize=1)
def _prepared(environment: tuple[tuple[str, str], ...]) -> subprocess.Popen[str]:
    """The waiting process, started when first asked for and again when the environment has changed."""
    process = subprocess.Popen(
        [sys.executable, __file__], env=dict(environment), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    atexit.register(process.kill)
    return process


def _wait_for_requests() -> None:
    """Fork for every request; returns in the forked processes alone, which are to become diva."""
    for name in LIBRARIES:
        __import__(name)
    gc.freeze()  # the collector is not to touch, and so copy, what is shared with this process
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _redirect(request)
            return
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    os._exit(0)


def _redirect(request: dict[str, str]) -> None:
    os.chdir(request["cwd"])
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT),
        (2, request["err"], os.O_WRONLY | os.O_CREAT),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")
    sys.argv[1:] = request["arguments"]
    sys.path[0] = request["cwd"]


def _end(code: int) -> None:
    """What Python does at its end, but for clearing every module: that takes most of a second after a fork, and is no one's promise."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _wait_for_requests()
    try:
        runpy.run_module("diva", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        _end(int(ended.code or 0))
    _end(0)
