"""`diva` without the seconds that it takes to import the libraries: processes forked from one that has imported them.

Run as a program with --serve this file imports PyTorch, Matplotlib and the rest, but nothing of diva, and waits at a socket. A client
hands it arguments, folder, environment, and its own standard input, output and error; a process is forked that becomes `diva ARGUMENTS`
from there, importing diva anew, and the client gets its exit code. What is forked has the hash seed of its origin: tests that compare
two runs, or are about the interpreter, start a whole one instead.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import functools
import gc
import io
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

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
READ_AT_IMPORT = (
    "OMP_",
    "MKL_",
    "KMP_",
    "TORCH",
    "PYTHON",
    "CUDA",
    "MPL",
    "HOME",
    "XDG_",
)  # variables that libraries read
LIMIT_S = 120


# --- For tests ----------------------------------------------------------------------------------------------------------


def run_diva(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`diva ARGUMENTS` in a process of its own, from `cwd`, without a terminal; Python and libraries see this process's environment."""
    given = [str(a) for a in arguments]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open() as nothing:
        code = _ask(socket_path(), given, cwd or Path.cwd(), [nothing.fileno(), out.fileno(), err.fileno()], LIMIT_S)
        printed, complained = _read(out), _read(err)
    if code is None:
        raise subprocess.TimeoutExpired(given, LIMIT_S, printed, complained)
    return subprocess.CompletedProcess(given, code, printed, complained)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8")


def shell_function() -> str:
    """Bash text: where a `diva` is on the path, call a prepared one instead."""
    return (
        "diva() {\n  type -P diva > /dev/null || { echo 'diva: command not found' >&2; return 127; }\n"
        f'  "{sys.executable}" -S -E "{__file__}" --call "{socket_path()}" "$@"\n}}\n'
    )


def socket_path() -> str:
    """Where the waiting process listens; it is started when first asked for, and again when what libraries read has changed."""
    return _serving(tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(READ_AT_IMPORT))))


@functools.lru_cache(maxsize=1)
def _serving(_: tuple[tuple[str, str], ...]) -> str:
    folder = tempfile.TemporaryDirectory(prefix="diva-")
    path = str(Path(folder.name) / "s")
    process = subprocess.Popen([sys.executable, __file__, "--serve", path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()  # it listens

    def end() -> None:
        process.kill()
        process.wait()
        folder.cleanup()

    atexit.register(end)
    return path


# --- The client ---------------------------------------------------------------------------------------------------------


def _ask(path: str, arguments: list[str], cwd: Path, files: list[int], limit_s: float | None) -> int | None:
    """The exit code of `diva ARGUMENTS`; None when it took too long, and was ended."""
    request = json.dumps({"arguments": arguments, "cwd": str(cwd), "environment": dict(os.environ)}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
        connection.sendmsg([struct.pack("I", len(request))], passed)
        connection.sendall(request)
        if not select.select([connection], [], [], limit_s)[0]:
            return None
        return int(connection.recv(64) or b"-9")


# --- The waiting process ------------------------------------------------------------------------------------------------


def _wait_for_requests(path: str) -> None:
    """Fork for every request; returns in the forked processes alone, which are to become diva."""
    for name in LIBRARIES:
        __import__(name)
    gc.freeze()  # the collector is not to touch, and so copy, what is shared with this process
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(64)
        print("listening", flush=True)
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                break
            connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, passed, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(3 * 4))
    files = array.array("i", passed[0][2])
    text = connection.recv(struct.unpack("I", head)[0], socket.MSG_WAITALL)
    child = os.fork()
    if child == 0:
        connection.close()
        _become(json.loads(text), list(files))
        return
    for file in files:
        os.close(file)
    _watch(child, connection)


def _watch(child: int, connection: socket.socket) -> None:
    """Tell the client how the process ended, or end it when the client goes away."""
    ended = os.pidfd_open(child)
    watched: list[int] = [ended, connection.fileno()]
    ready, _, _ = select.select(watched, [], [])
    if ended not in ready:
        os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):  # it is gone
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(request: dict[str, object], files: list[int]) -> None:
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(str(request["cwd"]))
    environment = request["environment"]
    assert isinstance(environment, dict) and isinstance(request["arguments"], list)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")
    sys.argv[1:] = request["arguments"]
    sys.path[0] = str(request["cwd"])


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
    if sys.argv[1] == "--call":
        answer = _ask(sys.argv[2], sys.argv[3:], Path.cwd(), [0, 1, 2], None)
        sys.exit(128 - answer if answer is not None and answer < 0 else answer)
    _wait_for_requests(sys.argv[2])
    try:
        runpy.run_module("diva", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        _end(int(ended.code or 0))
    _end(0)
