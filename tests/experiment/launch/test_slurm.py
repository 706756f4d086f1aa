"""Jobs of Slurm: by submitit's own local cluster, and by programs that answer as Slurm's do."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from diva.errors import UsageError
from diva.experiment.launch import Job, Launcher, Lost, open_launcher, slurm

SAYS = "import os; print(os.environ['WORD'], os.environ['OMP_NUM_THREADS']); "
# Holds a named pipe for as long as it runs, and says its parent's process through it: that is who attends to it.
WAITS = (
    "import os, signal, sys; from diva.experiment.launch import leash; leash.hold(); "
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); "
    "pipe = open({0!r}, 'w'); print(os.getppid(), file=pipe, flush=True); signal.pause()"
)
Ended = Callable[[Job], int]


def started(launcher: Launcher, code: str, log: Path) -> Job:
    return launcher.start("seed-1", [sys.executable, "-c", code], {"WORD": "hello"}, log)


def test_a_job_says_into_its_log_and_ends_with_its_own_exit_code(
    tmp_path: Path, ended: Ended, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SIGOPT_API_TOKEN", "for who conducts the study alone")
    with open_launcher("slurm", 1, {"cluster": "local", "cpus_per_task": "3"}) as launcher:
        assert launcher.threads == 3
        job = started(
            launcher, SAYS + "exit(1 if 'SIGOPT_API_TOKEN' in os.environ else 5)", tmp_path / "logs" / "seed-1.txt"
        )
        assert ended(job) == 5
        job.stop()  # nothing happens
        assert job.exit_code() == 5
    assert (tmp_path / "logs" / "seed-1.txt").read_text() == "hello 3\n"


@pytest.mark.parametrize("how", ["stop", "kill", "close"])
def test_a_job_that_is_ended_here_ends_as_by_sigterm(tmp_path: Path, pipe: Path, ended: Ended, how: str):
    with open_launcher("slurm", 1, {"cluster": "local"}) as launcher:
        job = started(launcher, WAITS.format(str(pipe)), tmp_path / "log")
        with pipe.open() as reader:
            reader.readline()
            assert job.exit_code() is None
            getattr(launcher if how == "close" else job, how)()
            assert ended(job) == 143
            assert reader.read() == ""


@pytest.mark.parametrize(
    ("number", "message"), [(signal.SIGKILL, "left no result"), (signal.SIGUSR2, "SIGUSR2: its time was over")]
)
def test_a_job_that_loses_its_node_or_its_time_is_lost_and_takes_its_process_with_it(
    tmp_path: Path, pipe: Path, ended: Ended, number: int, message: str
):
    with open_launcher("slurm", 1, {"cluster": "local"}) as launcher:
        job = started(launcher, WAITS.format(str(pipe)), tmp_path / "log")
        with pipe.open() as reader:
            os.kill(int(reader.readline()), number)
            assert reader.read() == ""  # ends: the process is gone
            for _ in range(2):
                with pytest.raises(Lost, match=message):
                    ended(job)


def test_ctrl_c_ends_a_job_on_this_machine_once_and_through_who_started_it(tmp_path: Path, pipe: Path):
    log = tmp_path / "log"
    said = "signal.signal(signal.SIGTERM, lambda n, _: (print(n), sys.exit(143)))"
    code = WAITS.format(str(pipe)).replace("signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))", said)
    starter = (
        "import sys, signal; from pathlib import Path; from diva.experiment.launch import open_launcher\n"
        "with open_launcher('slurm', 1, {'cluster': 'local'}) as launcher:\n"
        f"    launcher.start('a', [sys.executable, '-c', {code!r}], {{}}, Path({str(log)!r}))\n"
        "    try: signal.pause()\n"
        "    except KeyboardInterrupt: pass"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", starter], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    with pipe.open() as reader:
        reader.readline()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to its whole foreground group
        _, told = process.communicate(timeout=60)
        assert reader.read() == ""
    assert log.read_text() == "15\n"
    assert "KeyboardInterrupt" not in told


SBATCH = """#!/bin/sh
cp "$1" {bin}/script
echo "Submitted batch job {job}"
[ -e {bin}/run ] && SLURM_JOB_ID={job} sh "$1" >{bin}/out 2>&1 &
"""
SRUN = """#!/bin/sh
while [ "${1#--}" != "$1" ]; do case $1 in --output | --error) shift 2 ;; *) shift ;; esac; done
exec "$@"
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A folder of programs that answer as Slurm's do; its `state` is what sacct tells, `run` there makes sbatch run the script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    job = os.getpid() * 1000 + len(request.node.name)  # submitit remembers jobs by their numbers
    programs = {
        "sbatch": SBATCH.format(bin=folder, job=job),
        "srun": SRUN,
        "sacct": f'#!/bin/sh\necho "JobID|State|NodeList"; echo "{job}|$(cat {folder}/state)|n1"\n',
        "scancel": f"#!/bin/sh\necho $@ >{folder}/cancelled; echo 'CANCELLED by 1000' >{folder}/state\n",
    }
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "SETTLE_S", 0.0)
    monkeypatch.setattr(slurm, "LOOK_S", 0.0)
    return folder


def test_slurm_is_asked_for_what_the_options_say_and_for_one_job_of_a_member_at_a_time(
    tmp_path: Path, cluster: Path, ended: Ended
):
    (cluster / "run").touch()
    options = {"partition": "gpu", "time": "90", "cpus_per_task": "2", "exclusive": "true", "setup": "WORD=changed"}
    with open_launcher("slurm", 1, options) as launcher:
        (cluster / "state").write_text("RUNNING")
        job = started(launcher, SAYS, tmp_path / "logs" / "seed-1.txt")
        assert ended(job) == 0
    script = (cluster / "script").read_text()
    asked = dict(re.findall(r"#SBATCH --([a-z-]+)=?(.*)", script))
    assert {n: asked[n] for n in ("partition", "time", "cpus-per-task", "exclusive")} == {
        "partition": "gpu",
        "time": "90",
        "cpus-per-task": "2",
        "exclusive": "",
    }
    assert asked["job-name"].startswith("diva-seed-1-") and asked["dependency"] == "singleton" and "no-requeue" in asked
    assert "wckey" not in asked
    assert "\nWORD=changed\n" in script
    assert (tmp_path / "logs" / "seed-1.txt").read_text() == "hello 2\n"
    assert not (cluster / "cancelled").exists()


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED", "TIMEOUT", "CANCELLED by 0", "OUT_OF_MEMORY"])
def test_a_job_that_slurm_ended_is_lost(tmp_path: Path, cluster: Path, state: str):
    with open_launcher("slurm", 1, {}) as launcher:
        (cluster / "state").write_text(state)
        job = started(launcher, SAYS, tmp_path / "log")
        with pytest.raises(Lost, match=state):
            job.exit_code()


def test_a_job_is_not_looked_at_more_often_than_every_two_seconds(
    tmp_path: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(slurm, "LOOK_S", 2.0)
    now = [1000.0]
    monkeypatch.setattr("diva.experiment.launch.slurm.time.monotonic", lambda: now[0])
    with open_launcher("slurm", 1, {}) as launcher:
        (cluster / "state").write_text("RUNNING")
        job = started(launcher, SAYS, tmp_path / "log")
        assert job.exit_code() is None
        result = job._job.paths.result_pickle  # type: ignore[attr-defined]
        result.parent.mkdir(exist_ok=True, parents=True)
        result.write_bytes(pickle.dumps(("success", (0, []))))
        now[0] += 1.9
        assert job.exit_code() is None
        now[0] += 0.2
        assert job.exit_code() == 0


def test_a_job_that_waits_has_no_exit_code_and_is_cancelled_when_the_launcher_closes(tmp_path: Path, cluster: Path):
    with open_launcher("slurm", 1, {}) as launcher:
        (cluster / "state").write_text("PENDING")
        assert started(launcher, SAYS, tmp_path / "log").exit_code() is None
        number = re.search(r"\d+", (cluster / "sbatch").read_text().split("job ")[1])
    assert number is not None
    assert (cluster / "cancelled").read_text().strip() == number[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partion": "gpu"}, "partion=gpu: not an option of slurm; did you mean partition"),
        ({"time": "1:00"}, "time=1:00: must be a whole number of minutes"),
        ({"cluster": "pbs"}, "cluster=pbs: allowed are slurm and local"),
        ({}, "no srun; start diva on a node"),
    ],
)
def test_options_that_cannot_be_are_refused_in_a_line(
    options: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match=message):
        open_launcher("slurm", 1, options)


@pytest.mark.parametrize(("name", "library"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_library_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch, name: str, library: str):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=rf"{library}; install it with: pip install 'diva\[cluster\]'"):
        open_launcher(name, 1, {})
