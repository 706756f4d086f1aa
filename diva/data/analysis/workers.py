"""Workers: a function over ranges of indices, in forked processes or in threads; what comes back comes in any order."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_connections
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from diva.errors import DivaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
Kind = Literal["processes", "threads"]
MOST_JOBS = 8
AHEAD = 2  # ranges that a worker has at hand, so that it never waits for the next


def default_jobs() -> int:
    """One per core that this process may use, at most 8."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_JOBS, n_cores)


def over_ranges(
    work: Callable[[int, int], T], n: int, most: int, jobs: int | None = None, kind: Kind = "processes"
) -> Iterator[T]:
    """`work(start, stop)` for ranges that cover 0 to n, each at most `most` long, in `jobs` workers; results in any order.

    What `work` raises is raised here. Processes are forked, so `work` may be any closure, and only its results are pickled.
    """
    jobs = min(jobs or default_jobs(), max(1, n))
    size = max(1, min(most, n // (16 * jobs)))
    ranges = iter([(start, min(start + size, n)) for start in range(0, n, size)])
    if jobs == 1:
        return (work(*piece) for piece in ranges)
    return _in_processes(work, ranges, jobs) if kind == "processes" else _in_threads(work, ranges, jobs)


def _in_threads(work: Callable[[int, int], T], ranges: Iterator[tuple[int, int]], jobs: int) -> Iterator[T]:
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(work, *piece) for _, piece in zip(range(AHEAD * jobs), ranges, strict=False)}
        try:
            while waiting:
                done, waiting = wait_for(waiting, return_when=FIRST_COMPLETED)
                waiting |= {pool.submit(work, *piece) for _, piece in zip(done, ranges, strict=False)}
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _in_processes(work: Callable[[int, int], T], ranges: Iterator[tuple[int, int]], jobs: int) -> Iterator[T]:
    context = multiprocessing.get_context("fork")
    processes: list[Any] = []
    ours: list[Connection] = []
    try:
        for _ in range(jobs):
            here, there = context.Pipe()
            ours.append(here)
            process = context.Process(target=_serve, args=(work, there, tuple(ours)), daemon=True)
            process.start()
            there.close()
            processes.append(process)
        busy = dict.fromkeys(ours, 0)
        for connection in list(busy) * AHEAD:
            _hand_over(connection, ranges, busy)
        while any(busy.values()):
            for ready in wait_for_connections([c for c, n_ranges in busy.items() if n_ranges]):
                connection = cast("Connection", ready)
                result = _received(connection)
                busy[connection] -= 1
                _hand_over(connection, ranges, busy)
                yield result
    finally:
        for process in processes:
            process.kill()  # SIGTERM would be lost on a worker that has just begun and still has our handler of it
        for process in processes:
            process.join()
        for connection in ours:
            connection.close()


def _hand_over(connection: Connection, ranges: Iterator[tuple[int, int]], busy: dict[Connection, int]) -> None:
    piece = next(ranges, None)
    if piece is not None:
        with suppress(BrokenPipeError):  # a worker that has gone is noticed where its result is awaited
            connection.send(piece)
        busy[connection] += 1


def _received(connection: Connection) -> Any:
    try:
        result, error = connection.recv()
    except (EOFError, ConnectionError):
        raise DivaError("a worker process was ended from outside, perhaps for want of memory; try --jobs 1") from None
    if error is not None:
        raise error
    return result


def _serve(work: Callable[[int, int], Any], connection: Connection, others: tuple[Connection, ...]) -> None:
    """A worker: ends when it is told to, and when the process that it works for has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Else the end of the main process would go unnoticed: its ends of the pipes would live on here.
    for other in others:
        other.close()
    with suppress(EOFError, ConnectionError):
        while True:
            start, stop = connection.recv()
            try:
                answer: tuple[Any, Exception | None] = work(start, stop), None
            except Exception as error:  # raised again in the main process
                answer = None, error
            connection.send(answer)
