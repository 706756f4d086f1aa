"""Processes on this machine: what they end with, what ends them, and that none outlives who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from diva.errors import UsageError
from diva.experiment import launch
from diva.experiment.launch import Launcher, Lost, ending, n_cores, open_launcher, share_threads
from diva.experiment.launch.local import LocalJob, LocalLauncher

# Says that it runs through the named pipe {0}, which stays open until the last process that has it is gone; then it waits.
WAITS = "import signal; pipe = open({0!r}, 'w'); print('here', file=pipe, flush=True); signal.pause()"
HELPED = "import os; os.fork(); " + WAITS
HELD = "from diva.experiment.launch import leash; leash.hold(); "
SAYS = (
    "import signal, sys\n"
    "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, lambda n, _: (print(n), sys.exit(128 + n)))\n"
)


def started(launcher: Launcher, code: str, log: Path, **environment: str) -> LocalJob:
    job = launcher.start("seed-1", [sys.executable, "-c", code], environment, log)
    assert isinstance(job, LocalJob)
    return job


def code_of(job: LocalJob) -> int | None:
    """What it ends with, when it ends on its own."""
    job._process.wait(60)
    return job.exit_code()


def test_what_a_process_says_on_both_streams_is_added_to_its_log_and_its_exit_code_told(tmp_path: Path):
    log = tmp_path / "logs" / "seed-1.txt"
    code = "import os, sys; print(os.environ['WORD'], flush=True); sys.exit('no ' + os.environ['OMP_NUM_THREADS'])"
    with open_launcher("local", 1, {}) as launcher:
        assert code_of(started(launcher, code, log, WORD="one", OMP_NUM_THREADS="3")) == 1
        assert code_of(started(launcher, code, log, WORD="two", OMP_NUM_THREADS="4")) == 1
    assert log.read_text() == "one\nno 3\ntwo\nno 4\n"


def test_threads_are_set_where_nobody_sets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    with LocalLauncher(threads=5) as launcher:
        code_of(started(launcher, "import os; print(os.environ['OMP_NUM_THREADS'])", tmp_path / "log"))
    assert (tmp_path / "log").read_text() == "5\n"


def test_a_process_that_runs_has_no_exit_code_and_one_that_is_asked_to_stop_ends_as_it_likes(
    tmp_path: Path, pipe: Path
):
    with LocalLauncher(1) as launcher:
        job = started(launcher, SAYS + WAITS.format(str(pipe)), tmp_path / "log")
        with pipe.open() as reader:
            reader.readline()
            assert job.exit_code() is None
            job.stop()
            assert code_of(job) == 143
            job.stop()  # nothing happens
            job.kill()
    assert (tmp_path / "log").read_text() == "15\n"


def test_a_stop_before_the_process_is_ready_for_it_ends_it_too(tmp_path: Path):
    with LocalLauncher(1) as launcher:
        job = started(launcher, "import signal; signal.pause()", tmp_path / "log")
        job.stop()
        assert code_of(job) == 143


def test_kill_ends_the_process_and_its_helpers(tmp_path: Path, pipe: Path):
    with LocalLauncher(1) as launcher:
        job = started(launcher, HELPED.format(str(pipe)), tmp_path / "log")
        with pipe.open() as reader:
            reader.readline()
            job.kill()
            assert job.exit_code() == 137
            assert reader.read() in ("", "here\n")  # ends: nobody has the pipe any more


def test_close_ends_what_still_runs(tmp_path: Path, pipe: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("diva.experiment.launch.local.GRACE_S", 0.1)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAITS.format(str(pipe))
    with LocalLauncher(1) as launcher:
        job = started(launcher, deaf, tmp_path / "log")
        with pipe.open() as reader:
            reader.readline()
            launcher.close()
            assert job.exit_code() == 137


@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"])
def test_a_process_that_somebody_else_ends_is_lost(tmp_path: Path, signal_name: str):
    code = (
        f"import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.{signal_name})"
    )
    with LocalLauncher(1) as launcher:
        job = started(launcher, code, tmp_path / "log")
        job._process.wait(60)
        for _ in range(2):
            with pytest.raises(Lost, match=signal_name):
                job.exit_code()


def test_one_that_notices_that_it_was_ended_is_lost_too_but_not_one_that_is_faulty():
    with pytest.raises(Lost, match="SIGTERM"):
        ending(143, asked=False)
    with pytest.raises(Lost, match="memory"):
        ending(-9, asked=False)
    assert ending(-signal.SIGSEGV, asked=False) == 139
    assert [ending(code, asked=True) for code in (0, 5, 143, -15)] == [0, 5, 143, 143]


def test_what_is_on_the_leash_ends_with_its_helpers_when_its_starter_is_killed(tmp_path: Path, pipe: Path):
    starter = (
        "import sys, signal; from pathlib import Path; from diva.experiment.launch.local import LocalLauncher; "
        f"launcher = LocalLauncher(1); command = [sys.executable, '-c', {HELD + HELPED.format(str(pipe))!r}]; "
        f"jobs = [launcher.start(n, command, {{}}, Path({str(tmp_path / 'log')!r})) for n in 'ab']; signal.pause()"
    )
    process = subprocess.Popen([sys.executable, "-c", starter])
    with pipe.open() as reader:
        assert reader.readline() == "here\n"
        process.kill()
        process.wait()
        assert set(reader.read().split()) <= {"here"}  # ends: of four processes none has the pipe any more


def test_what_is_on_the_leash_has_an_empty_input_and_its_own_children_are_not_on_it(tmp_path: Path):
    code = HELD + "import os, sys; print(repr(sys.stdin.read()), 'DIVA_LEASH' in os.environ)"
    with LocalLauncher(1) as launcher:
        assert code_of(started(launcher, code, tmp_path / "log")) == 0
    assert (tmp_path / "log").read_text() == "'' False\n"


def test_ctrl_c_reaches_a_process_once_and_through_who_started_it(tmp_path: Path, pipe: Path):
    log = tmp_path / "log"
    starter = (
        "import sys, signal; from pathlib import Path; from diva.experiment.launch.local import LocalLauncher\n"
        f"with LocalLauncher(1) as launcher:\n"
        f"    launcher.start('a', [sys.executable, '-c', {SAYS + WAITS.format(str(pipe))!r}], {{}}, Path({str(log)!r}))\n"
        "    signal.pause()"
    )
    process = subprocess.Popen([sys.executable, "-c", starter], start_new_session=True, stderr=subprocess.DEVNULL)
    with pipe.open() as reader:
        reader.readline()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to its whole foreground group
        process.wait(60)
    assert log.read_text() == "15\n"


def test_threads_are_shared_so_that_the_jobs_fit_the_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(launch, "n_cores", lambda: 8)
    assert [share_threads(jobs) for jobs in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 6), ("150000 100000", 1), ("400000 100000", 4), ("", 6)])
def test_cores_are_those_that_may_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int):
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(launch, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert n_cores() == cores


@pytest.mark.parametrize(
    ("name", "jobs", "options", "message"),
    [
        ("slrum", 1, {}, "did you mean slurm"),
        ("local", 0, {}, "--jobs 0"),
        ("local", 1, {"partition": "gpu"}, "partition: the local launcher has no options"),
    ],
)
def test_a_launcher_that_cannot_be_opened_is_refused_in_a_line(
    name: str, jobs: int, options: dict[str, str], message: str
):
    with pytest.raises(UsageError, match=message):
        open_launcher(name, jobs, options)
