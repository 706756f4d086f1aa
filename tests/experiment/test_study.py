"""Studies: members that run for real in two tests, and for the many ways in which members end, a launcher that only pretends."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

import diva
from diva.errors import DataError, DivaError, RecordError, UsageError
from diva.experiment.launch import Job, Launcher, Lost
from diva.experiment.options import RunOptions
from diva.experiment.recorded import BOOT
from diva.experiment.study import conduct as conducting
from diva.experiment.study import create as creating
from diva.experiment.study.conduct import conduct, free_gpu, report_failures, visible_gpus
from diva.experiment.study.member import find_member
from diva.experiment.study.multi_run import MultiRun, derived_seeds, given_seeds
from diva.experiment.study.summary import show
from diva.experiment.study.values import listed
from diva.kernels.backends import Backend
from diva.records import files, footprint
from diva.records.files import write_json
from diva.records.manifest import DataRecord, TaskRecord
from diva.records.study_folder import Member, StudyFolder, StudyRecord, locked, open_study
from diva.report.console import Console

TASK = Path(__file__).parents[1] / "contract" / "users_task.py"


def quiet() -> Console:
    return Console(io.StringIO(), io.StringIO())


def planned(
    folder: Path, seeds: Sequence[int] = (3, 1, 2), jobs: int = 2, data: DataRecord | None = None
) -> StudyFolder:
    """A study that was sealed and never started."""
    folder.mkdir(parents=True)
    study = StudyFolder(folder)
    study.seal(
        StudyRecord(
            id=study.id,
            kind="runs",
            created="2026-01-01T00:00:00+00:00",
            argv=("diva", "run"),
            task=TaskRecord(name="t", asked="t", path="t.py", class_name="T", knobs={}, origins={}),
            seed=0,
            options={"tensorboard": False},
            origins={},
            monitor="val/accuracy",
            plan={"seeds": list(seeds)},
            jobs=jobs,
            data=data,
            source={},
            diva={},
        )
    )
    return study


class Pretended(Job):
    """Ends when it was asked so often, in the way its script says: a score, an exit code, or an exception."""

    def __init__(self, ending: float | int | BaseException, asked: int, finish: Callable[[float], None]) -> None:
        self.ending, self.asked, self.finish, self.stopped = ending, asked, finish, False

    def exit_code(self) -> int | None:
        self.asked -= 1
        if self.stopped:
            return 143
        if self.asked > 0:
            return None
        if isinstance(self.ending, BaseException):
            raise self.ending
        if isinstance(self.ending, float):
            self.finish(self.ending)
            return 0
        return self.ending

    def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        self.stopped = True


class Pretender(Launcher):
    """Starts nothing. `script`: of each member its endings, one per start; by default its seed is its score, in hundredths."""

    def __init__(
        self, study: StudyFolder, script: Mapping[str, list[float | int | BaseException]] | None = None
    ) -> None:
        self.study, self.script = study, {name: list(endings) for name, endings in (script or {}).items()}
        self.started: list[str] = []
        self.command: list[str] = []
        self.says = f"diva: error: {study.path}/data: is empty"

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Job:
        self.started.append(name)
        log.parent.mkdir(exist_ok=True)
        self.command = list(command)
        with log.open("a") as file:
            file.write(self.says + "\n")
        endings = self.script.get(name) or [int(name.partition("-")[2]) / 100]
        return Pretended(endings.pop(0), 1 + len(self.started) % 3, lambda score: self.finish(name, score))

    def finish(self, name: str, score: float) -> None:
        folder = self.study.member(name).path
        folder.mkdir(parents=True, exist_ok=True)
        metrics = {"val/accuracy": score, "test/accuracy": score / 2}
        write_json(
            folder / "result.json",
            {"metrics": metrics, "best_epoch": 1, "weights_digest": "sha256:0", "seconds": time.time()},
        )

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conducting, "POLL_S", 0.0)
    monkeypatch.setattr(conducting, "PRUNE_EVERY_S", 0.0)


def test_the_summary_has_every_member_in_the_order_of_the_plan_and_the_statistics_of_their_metrics(tmp_path: Path):
    study = planned(tmp_path / "s")
    summary = conduct(study, Pretender(study), quiet())
    assert [row["name"] for row in summary["members"]] == ["seed-3", "seed-1", "seed-2"]
    assert summary["statistics"][""]["val/accuracy"]["mean"] == pytest.approx(0.02, abs=1e-15)
    assert summary["statistics"][""]["val/accuracy"]["n"] == 3
    assert json.loads(study.summary_file.read_text()) == json.loads(json.dumps(summary))


def test_the_summary_has_the_same_bytes_for_any_number_of_jobs(tmp_path: Path):
    written = set()
    for jobs in (1, 2, 3):
        study = planned(tmp_path / str(jobs), jobs=jobs)
        conduct(study, Pretender(study), quiet())
        written.add(study.summary_file.read_bytes())
    assert len(written) == 1


def test_no_more_members_run_than_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    study = planned(tmp_path / "s", seeds=range(7), jobs=2)
    seen = []
    start = conducting.Crew.start_more

    def counted(crew: conducting.Crew, members: Sequence[Member]) -> None:
        start(crew, members)
        seen.append(len(crew.running))

    monkeypatch.setattr(conducting.Crew, "start_more", counted)
    conduct(study, Pretender(study), quiet())
    assert max(seen) == 2


def test_a_failure_is_written_down_without_the_place_of_the_study_and_the_others_go_on(tmp_path: Path):
    study = planned(tmp_path / "s")
    summary = conduct(study, Pretender(study, {"seed-1": [4]}), quiet())
    assert [row["status"] for row in summary["members"]] == ["finished", "failed", "finished"]
    assert summary["members"][1]["error"] == "data: is empty"
    assert summary["statistics"][""]["val/accuracy"]["n"] == 2
    with pytest.raises(DivaError, match=r"1 of 3 members failed; seed-1: data: is empty; .*diva resume .* --retry"):
        report_failures(study, summary)


def test_a_failed_member_runs_again_only_on_request(tmp_path: Path):
    study = planned(tmp_path / "s")
    conduct(study, Pretender(study, {"seed-1": [4]}), quiet())
    launcher = Pretender(study)
    assert conduct(study, launcher, quiet())["members"][1]["status"] == "failed"
    assert launcher.started == []
    assert conduct(study, launcher, quiet(), retry=True)["members"][1]["status"] == "finished"
    assert launcher.started == ["seed-1"]


def test_a_lost_member_is_started_again_and_only_so_often(tmp_path: Path):
    study = planned(tmp_path / "s")
    launcher = Pretender(study, {"seed-1": [Lost("gone"), 0.5], "seed-2": [Lost("gone")] * 9})
    summary = conduct(study, launcher, quiet())
    assert [row["status"] for row in summary["members"]] == ["finished", "finished", "failed"]
    assert launcher.started.count("seed-1") == 2
    assert launcher.started.count("seed-2") == 1 + conducting.MOST_LOSSES


def test_a_member_that_comes_further_each_time_may_be_lost_any_number_of_times(tmp_path: Path):
    study = planned(tmp_path / "s", seeds=(1,))
    launcher = Pretender(study, {"seed-1": [*[Lost("time is over")] * 9, 0.5]})
    begin = launcher.start

    def start(name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Job:
        study.member(name).checkpoints.mkdir(parents=True, exist_ok=True)
        write_json(study.member(name).checkpoints / "state.json", {"epoch": len(launcher.started)})
        return begin(name, command, environment, log)

    launcher.start = start  # type: ignore[method-assign]
    assert [row["status"] for row in conduct(study, launcher, quiet())["members"]] == ["finished"]


@pytest.mark.parametrize(("backend", "threads"), [("exact", 3), ("torch", 1)])
def test_members_share_the_cores_only_where_the_number_of_threads_changes_no_bits(
    monkeypatch: pytest.MonkeyPatch, backend: Backend, threads: int
):
    monkeypatch.setattr(creating, "share_threads", lambda jobs: 6 // jobs)
    assert creating.with_share(RunOptions(device="cpu", backend=backend), jobs=2).threads == threads
    assert creating.with_share(RunOptions(device="cpu", backend=backend, threads=5), jobs=2).threads == 5


def test_a_study_goes_on_where_it_stopped(tmp_path: Path):
    whole, study = planned(tmp_path / "whole"), planned(tmp_path / "s")
    conduct(whole, Pretender(whole), quiet())
    with pytest.raises(KeyboardInterrupt):
        conduct(study, Pretender(study, {"seed-2": [KeyboardInterrupt()]}), quiet())
    launcher = Pretender(study)
    conduct(study, launcher, quiet())
    assert "seed-2" in launcher.started and "seed-3" not in launcher.started
    assert study.summary_file.read_bytes() == whole.summary_file.read_bytes()


def test_a_member_that_finished_before_it_could_be_pruned_is_pruned_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def slow(self: MultiRun, study: StudyFolder, running: Sequence[Member]) -> dict[str, str]:
        return {member.name: "behind" for member in running if member.name == "seed-1"}

    monkeypatch.setattr(MultiRun, "to_prune", slow)
    early, late = planned(tmp_path / "early"), planned(tmp_path / "late")
    late_launcher = Pretender(late)
    late_launcher.finish("seed-1", 0.5)  # and killed before anyone wrote down that it did not count
    for study in (early, late):
        conduct(study, Pretender(study), quiet())
    assert early.summary()["members"][1]["status"] == "pruned"
    assert early.summary_file.read_bytes() == late.summary_file.read_bytes()


def test_members_are_spread_over_gpus_and_have_no_choice_of_one():
    assert free_gpu([], ["0"]) is None
    three = visible_gpus(None, 3)
    assert [free_gpu(taken, three) for taken in ([], ["0"], ["0", "1"], three, ["1", "2"])] == ["0", "1", "2", "0", "0"]
    assert visible_gpus("5, GPU-7", 2) == ["5", "GPU-7"]


def test_a_member_that_fails_again_is_reported_with_its_new_error(tmp_path: Path):
    study = planned(tmp_path / "s")
    conduct(study, Pretender(study, {"seed-1": [4]}), quiet())
    launcher = Pretender(study, {"seed-1": [-11]})
    launcher.says = "epoch 1\nSegmentation fault"
    summary = conduct(study, launcher, quiet(), retry=True)
    assert summary["members"][1]["error"] == "exit code -11: Segmentation fault"


def test_a_member_that_was_lost_too_often_says_to_what(tmp_path: Path):
    study = planned(tmp_path / "s")
    summary = conduct(study, Pretender(study, {"seed-1": [Lost("ended by SIGKILL")] * 9}), quiet())
    assert summary["members"][1]["error"] == "ended by SIGKILL"


def test_altered_members_are_refused(tmp_path: Path):
    study = planned(tmp_path / "s")
    conduct(study, Pretender(study), quiet())
    listed = study.path / "members.json"
    listed.write_text(listed.read_text().replace('"seed": 1', '"seed": 99'))
    with pytest.raises(RecordError, match=r"members\.json: is not what the plan says"):
        conduct(study, Pretender(study), quiet())


def test_there_is_no_summary_while_members_run_again(tmp_path: Path):
    study = planned(tmp_path / "s")
    conduct(study, Pretender(study, {"seed-1": [4]}), quiet())
    with pytest.raises(KeyboardInterrupt):
        conduct(study, Pretender(study, {"seed-1": [KeyboardInterrupt()]}), quiet(), retry=True)
    with pytest.raises(UsageError, match="is not over"):
        study.summary()


def test_a_study_whose_data_changed_is_refused_before_anything_runs(tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "a").write_text("1")
    taken, _ = footprint.check(data)
    study = planned(
        tmp_path / "s", data=DataRecord(name="data", path="../data", digest=taken.digest, n_files=1, n_bytes=1)
    )
    conduct(study, Pretender(study, {"seed-1": [4]}), quiet())
    launcher = Pretender(study)
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(DataError, match="say where they are with --data"):
        conduct(study, launcher, quiet(), retry=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a").write_text("2")
    with pytest.raises(DataError, match="not the data that the study began with"):
        conduct(study, launcher, quiet(), data=str(tmp_path / "other"))
    assert launcher.started == []
    conduct(study, launcher, quiet(), data=str(tmp_path / "moved"))
    assert launcher.started == ["seed-1"]
    assert launcher.command[-2:] == ["--data", str(tmp_path / "moved")]


def test_a_member_imports_nothing_from_the_folder_in_which_the_study_was_started(tmp_path: Path):
    (tmp_path / "click.py").write_text("raise RuntimeError('shadowed')")
    root = str(Path(diva.__file__).parents[1])
    command = [sys.executable, "-c", BOOT, root, "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("diva "), done.stderr


def test_nothing_is_sealed_before_its_seal_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[str] = []
    real = files.write_atomic

    def noted(path: Path, content: bytes | str) -> None:
        written.append(path.name)
        real(path, content)

    monkeypatch.setattr(files, "write_atomic", noted)
    planned(tmp_path / "s").record()
    assert written == ["study.sha256", "study.json"]


def test_one_process_at_a_time_conducts_a_study(tmp_path: Path):
    study = planned(tmp_path / "s")
    opened = f"StudyFolder(Path({str(study.path)!r}))"
    program = f"from diva.records.study_folder import *\nwith locked({opened}): print(1)"
    with locked(study):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "another process works on this study" in done.stderr


def test_an_altered_plan_is_refused(tmp_path: Path):
    study = planned(tmp_path / "s")
    study.study_file.write_text(study.study_file.read_text().replace("3", "4", 1))
    with pytest.raises(RecordError, match="altered after it was sealed"):
        study.record()


def test_the_tables_name_members_metrics_and_intervals(tmp_path: Path):
    study, said = planned(tmp_path / "s"), io.StringIO()
    show(conduct(study, Pretender(study), quiet()), Console(said, io.StringIO()))
    assert "seed-3" in said.getvalue() and "test/accuracy" in said.getvalue() and " to " in said.getvalue()


def test_more_runs_keep_the_seeds_of_fewer_and_all_are_different():
    assert derived_seeds(42, 20)[:6] == derived_seeds(42, 6)
    assert len(set(derived_seeds(42, 500))) == 500
    assert derived_seeds(42, 3) != derived_seeds(43, 3)
    with pytest.raises(UsageError, match="at least 1"):
        derived_seeds(42, 0)


@pytest.mark.parametrize(
    ("text", "values"),
    [("1,2,3", ["1", "2", "3"]), ("0:4", ["0", "1", "2", "3"]), ("0.1:0.4:0.1", ["0.1", "0.2", "0.3"]), ("sgd,adam", ["sgd", "adam"])],
)  # fmt: skip
def test_lists_and_ranges_of_values(text: str, values: list[str]):
    assert listed(text, "--over") == values


@pytest.mark.parametrize("text", ["", "1,,2", "4:0", "1,1", "-1", "x", "1.5", str(2**63), "1,01"])
def test_what_is_no_list_of_seeds_is_refused(text: str):
    with pytest.raises(UsageError):
        given_seeds(text)


def test_an_unknown_member_and_a_folder_that_is_no_study_are_refused(tmp_path: Path):
    study = planned(tmp_path / "s")
    conduct(study, Pretender(study), quiet())
    with pytest.raises(UsageError, match="has no member 'seed-9'"):
        find_member(study, "seed-9")
    with pytest.raises(UsageError, match="no study"):
        open_study(tmp_path)


Diva = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return Path(shutil.copy(TASK, tmp_path / "clouds.py"))


def test_a_member_is_an_ordinary_run_with_the_bits_of_a_single_one(tmp_path: Path, task: Path, diva: Diva):
    done = diva("run", "--task", task, "--seeds", "5,9", "--jobs", "2", "--epochs", "1", "--no-tensorboard")
    assert done.returncode == 0, done.stderr
    study = open_study(tmp_path / done.stdout.splitlines()[-1])
    single = json.loads(
        diva("run", "--task", task, "--seed", "9", "--epochs", "1", "--no-tensorboard", "--json").stdout.splitlines()[
            -1
        ]
    )
    member = study.member("seed-9")
    assert [row["weights_digest"] for row in study.summary()["members"]][1] == single["weights_digest"]
    assert member.manifest().argv[:2] == ("diva", "run") and "--seed=9" in member.manifest().argv
    assert (member.source / "project" / "tree" / "clouds.py").is_file()
    assert member.manifest().options["threads"] >= 1


def test_an_interrupted_study_stops_its_members_and_says_how_to_go_on(tmp_path: Path, task: Path):
    command = [
        sys.executable,
        "-m",
        "diva",
        "run",
        "--task",
        str(task),
        "--seeds",
        "5",
        "--epochs",
        "3000",
        "--no-tensorboard",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    trace = None
    while process.poll() is None and trace is None:
        trace = next((p for p in tmp_path.glob("runs/*/*/members/seed-5/checkpoints/state.json")), None)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "continue with: diva resume" in said
    study = next(tmp_path.glob("runs/*/*/study.json")).parent
    assert json.loads((study / "members" / "seed-5" / "stopped.json").read_text())["status"] == "interrupted"
    assert not (study / "ended").exists()
