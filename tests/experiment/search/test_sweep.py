"""Sweeps as studies: a launcher that only pretends to train, in every order and interrupted; and one that trains for real."""

from __future__ import annotations

import io
import json
import math
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from diva.errors import DivaError, UsageError
from diva.experiment.launch import Job, Launcher
from diva.experiment.request import resolve
from diva.experiment.search.journal import NAME
from diva.experiment.search.plan import lag_of, plan_sweep
from diva.experiment.search.report import show_search
from diva.experiment.search.space import Dimension
from diva.experiment.study import conduct as conducting
from diva.experiment.study.conduct import conduct, report_failures
from diva.records.files import write_json
from diva.records.manifest import TaskRecord
from diva.records.study_folder import StudyFolder, StudyRecord, open_study
from diva.report.console import Console

SPACE = (Dimension("lr", "float", (), 1e-4, 1.0, 0, True), Dimension("batch_size", "choice", (16, 32)))
N_EPOCHS = 4


def quiet() -> Console:
    return Console(io.StringIO(), io.StringIO())


def planned(
    folder: Path,
    sampler: str = "tpe",
    trials: int | None = 14,
    jobs: int = 2,
    seeds: Sequence[int] = (5,),
    prune_after: int | None = None,
    space: Sequence[Dimension] = SPACE,
) -> StudyFolder:
    """A sweep that was sealed and never started."""
    from dataclasses import replace

    folder.mkdir(parents=True)
    study = StudyFolder(folder)
    plan = plan_sweep(space, sampler, trials, 5, seeds, monitor="val/accuracy", prune_after=prune_after)
    knobs = {"lr": 0.1, "batch_size": 64, "epochs": N_EPOCHS, "momentum": 0.9}
    study.seal(
        StudyRecord(
            id="sweep",
            kind="sweep",
            created="2026-01-01T00:00:00+00:00",
            argv=("diva", "sweep"),
            task=TaskRecord(
                name="t", asked="t", path="t.py", class_name="T", knobs=knobs, origins={"epochs": "command line"}
            ),
            seed=5,
            options={"tensorboard": False, "subset": "100", "data_root": "data", "backend": "exact", "threads": 2},
            origins={"subset": "command line", "data_root": "command line"},
            monitor="val/accuracy",
            plan=replace(plan, lag=lag_of(jobs, len(seeds))).to_json(),
            jobs=jobs,
            data=None,
            source={},
            diva={},
        )
    )
    return study


def accuracy(values: Mapping[str, Any]) -> float:
    """Best at lr 0.01 and batch size 32; the seed adds a little."""
    return (
        0.9
        - 0.1 * (math.log10(values["lr"]) + 2) ** 2
        - 0.05 * (values["batch_size"] == 16)
        + 0.001 * (values["seed"] % 7)
    )


class Pretended(Job):
    """A run that is an epoch further each time somebody asks; `fails`: after the first epoch."""

    def __init__(self, study: StudyFolder, name: str, patience: int, fails: bool) -> None:
        self.study, self.name, self.asks, self.fails = study, name, patience, fails
        self.values = next(m.values for m in study.known_members() if m.name == name)
        self.epoch, self.stopped = -1, False
        folder = study.member(name).path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.jsonl").write_text("")

    def exit_code(self) -> int | None:
        if self.stopped:
            return 143
        if self.asks > 0:
            self.asks -= 1
            return None
        self.epoch += 1
        if self.fails and self.epoch == 2:
            return 1
        value = accuracy(self.values) * (self.epoch + 1) / (N_EPOCHS + 1)
        rows = [("step", "batch/accuracy", 9.0), ("epoch", "train/loss", 1.0), ("epoch", "val/accuracy", value)]
        with self.study.member(self.name).metrics_file.open("a") as file:
            for per, name, number in rows:
                row = {"epoch": self.epoch, "name": name, "per": per, "step": self.epoch, "value": number}
                file.write(json.dumps(row, sort_keys=True) + "\n")
        if self.epoch < N_EPOCHS:
            return None
        write_json(
            self.study.member(self.name).result_file,
            {
                "metrics": {"val/accuracy": value, "test/accuracy": 1 - value},
                "best_epoch": 4,
                "weights_digest": "sha256:0",
            },
        )
        return 0

    def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        self.stopped = True


class Pretender(Launcher):
    """Runs of random length; `fails`: the numbers of trials whose runs fail; `dies`: after how many starts all is lost."""

    def __init__(self, study: StudyFolder, seed: int = 0, fails: Sequence[int] = (), dies: int | None = None) -> None:
        self.study, self.random, self.dies = study, random.Random(seed), dies
        self.fails, self.started = fails, list[str]()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Job:
        if self.dies is not None and len(self.started) >= self.dies:
            raise KeyboardInterrupt
        self.started.append(name)
        log.parent.mkdir(exist_ok=True)
        with log.open("a") as file:
            file.write("diva: error: out of luck\n")
        return Pretended(self.study, name, self.random.randrange(9), int(name.split("-")[1]) in self.fails)

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conducting, "POLL_S", 0.0)
    monkeypatch.setattr(conducting, "PRUNE_EVERY_S", 0.0)
    monkeypatch.setattr("diva.experiment.search.report.draw", lambda *_, **__: iter(()))  # seen to elsewhere


def contents(study: StudyFolder) -> dict[str, bytes]:
    """What must be the same however a sweep came about."""
    return {
        path.name: path.read_bytes()
        for path in sorted([*study.path.glob("trials/*"), study.summary_file, study.path / "best.yaml"])
    }


@pytest.mark.parametrize(
    ("sampler", "prune_after", "seeds"), [("tpe", None, (5,)), ("tpe", 1, (5,)), ("random", 1, (5, 6))]
)
def test_trials_follow_from_the_plan_in_whatever_order_runs_end_and_however_often_the_study_is_killed(
    tmp_path: Path, sampler: str, prune_after: int | None, seeds: tuple[int, ...]
):
    asked: Any = {"sampler": sampler, "trials": 18, "jobs": 3, "prune_after": prune_after, "seeds": seeds}
    whole = planned(tmp_path / "whole", **asked)
    conduct(whole, Pretender(whole, fails=[2, 6]), quiet())
    states = [trial["state"] for trial in whole.summary()["trials"]]
    assert len(states) == 18 and "finished" in states and "failed" in states
    assert ("pruned" in states) is (prune_after is not None)
    for attempt in (1, 2):
        study = planned(tmp_path / str(attempt), **asked)
        for dies in (3, 5, None):
            try:
                conduct(study, Pretender(study, attempt, fails=[2, 6], dies=dies), quiet())
            except KeyboardInterrupt:
                assert dies is not None
        assert contents(study) == contents(whole)


def test_a_trial_written_down_is_tried_even_if_something_else_would_be_suggested_now(tmp_path: Path):
    study = planned(tmp_path / "s", "random", 3)
    with pytest.raises(KeyboardInterrupt):
        conduct(study, Pretender(study, dies=0), quiet())
    write_json(study.path / "trials" / "0001.json", {"number": 1, "point": {"lr": 0.5, "batch_size": 16}})
    shutil.rmtree(study.path / "members", ignore_errors=True)
    (study.path / "members.json").unlink(missing_ok=True)
    summary = conduct(study, Pretender(study), quiet())
    assert summary["trials"][1]["values"] == {"lr": 0.5, "batch_size": 16}


def test_no_trial_is_suggested_before_those_it_follows_from_have_ended(tmp_path: Path):
    study = planned(tmp_path / "s", jobs=3)
    launcher = Pretender(study)
    seen: dict[str, int] = {}
    start = launcher.start

    def watched(name: str, *rest: Any) -> Job:
        seen[name] = sum(study.member(f"trial-{number:04}").result() is not None for number in range(14))
        return start(name, *rest)

    launcher.start = watched  # type: ignore[assignment, method-assign]
    conduct(study, launcher, quiet())
    assert all(seen[f"trial-{number:04}"] >= number - 2 for number in range(10, 14))


def test_a_trial_is_the_mean_of_its_runs_which_have_the_same_seeds_in_every_trial(tmp_path: Path):
    study = planned(
        tmp_path / "s", "grid", None, seeds=(5, 6), space=[SPACE[1], Dimension("lr", "choice", (0.1, 0.01))]
    )
    summary = conduct(study, Pretender(study), quiet())
    assert [m["values"]["seed"] for m in summary["members"]] == [5, 6] * 4
    best = {"lr": 0.01, "batch_size": 32}
    assert summary["best"]["values"] == best
    assert summary["best"]["value"] == pytest.approx(
        math.fsum(accuracy({**best, "seed": s}) for s in (5, 6)) / 2, abs=1e-15
    )


def test_the_best_trial_is_chosen_on_val_and_written_as_a_configuration(tmp_path: Path):
    study = planned(tmp_path / "s")
    summary = conduct(study, Pretender(study), quiet())
    values = [trial["value"] for trial in summary["trials"]]
    best = summary["trials"][values.index(max(values))]
    kept = yaml.safe_load((study.path / "best.yaml").read_text())
    assert kept == {"task": "t", "subset": "100", "epochs": N_EPOCHS, **best["values"], "seed": 5}


def test_failed_trials_are_recorded_and_fail_the_sweep_only_when_nothing_is_left(tmp_path: Path):
    study = planned(tmp_path / "s", "random", 4)
    summary = conduct(study, Pretender(study, fails=[1]), quiet())
    assert [t["state"] for t in summary["trials"]] == ["finished", "failed", "finished", "finished"]
    assert summary["members"][1]["error"] == "out of luck"
    report_failures(study, summary)
    lost = planned(tmp_path / "lost", "random", 3)
    with pytest.raises(DivaError, match="3 of 3 members failed"):
        report_failures(lost, conduct(lost, Pretender(lost, fails=range(3)), quiet()))
    assert not (lost.path / "best.yaml").exists()


def test_optunas_journal_holds_every_trial_also_after_a_crash_that_left_a_lock_and_half_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    acquire = JournalFileSymlinkLock.acquire

    def at_once(lock: Any) -> bool:
        assert not Path(lock._lock_file).is_symlink(), "it would be waited for half a minute"
        return acquire(lock)

    monkeypatch.setattr(JournalFileSymlinkLock, "acquire", at_once)

    study = planned(tmp_path / "s")
    with pytest.raises(KeyboardInterrupt):
        conduct(study, Pretender(study, dies=9), quiet())
    with (study.path / NAME).open("a") as file:
        file.write('{"op_code": 4, "work')
    (study.path / f"{NAME}.lock").symlink_to(study.path / NAME)
    summary = conduct(study, Pretender(study, fails=[11]), quiet())
    found = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(study.path / NAME))))
    assert [t.params["lr"] for t in found.trials] == [t["values"]["lr"] for t in summary["trials"]]
    assert [t.state.name for t in found.trials].count("FAIL") == 1
    assert found.best_value == summary["best"]["value"]
    assert len(found.trials[0].intermediate_values) == N_EPOCHS + 1


def test_without_optuna_a_search_that_does_not_need_it_keeps_no_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "optuna", None)
    study = planned(tmp_path / "s", "random", 3)
    assert conduct(study, Pretender(study), quiet())["best"] is not None
    assert not (study.path / NAME).exists()
    with pytest.raises(UsageError, match=r"needs optuna; install it with: pip install 'diva\[hpo\]'"):
        planned(tmp_path / "tpe", "tpe")


def test_what_is_said_of_a_search_names_no_test_score(tmp_path: Path):
    study, said = planned(tmp_path / "s", "random", 4), io.StringIO()
    show_search(conduct(study, Pretender(study), Console(said, said)), Console(said, said))
    assert "val/accuracy" in said.getvalue() and "4 finished" in said.getvalue()
    assert "test/" not in said.getvalue()


def test_finite_spaces_end_when_all_was_tried():
    small = [Dimension("batch_size", "choice", (16, 32)), Dimension("lr", "choice", (0.1, 0.01))]
    assert plan_sweep(small, "random", 50, 0, [0], monitor="val/loss").trials == 4
    assert plan_sweep(small, "grid", None, 0, [0], monitor="val/loss").trials == 4


@pytest.mark.parametrize(
    ("sampler", "trials", "monitor", "message"),
    [
        ("random", 3, "train/loss", "a metric of val"),
        ("random", 3, "test/accuracy", "a metric of val"),
        ("random", 0, "val/loss", "at least 1"),
        ("grid", None, "val/loss", "can be counted"),
        ("annealing", 3, "val/loss", "allowed: grid"),
    ],
)
def test_what_cannot_be_searched_is_refused(sampler: str, trials: int | None, monitor: str, message: str):
    with pytest.raises(UsageError, match=message):
        plan_sweep(SPACE, sampler, trials, 0, [0], monitor=monitor)


def test_a_grid_is_tried_whole_or_not_at_all():
    with pytest.raises(UsageError, match="the grid has 2 points"):
        plan_sweep(SPACE[1:], "grid", 1, 0, [0], monitor="val/loss")


@pytest.mark.parametrize(("jobs", "n_runs", "lag"), [(1, 1, 1), (4, 1, 4), (2, 3, 2), (1, 5, 1), (8, 2, 5)])
def test_as_many_trials_are_under_way_as_give_every_job_work(jobs: int, n_runs: int, lag: int):
    assert lag_of(jobs, n_runs) == lag


Diva = Callable[..., subprocess.CompletedProcess[str]]


def test_a_sweep_leaves_a_configuration_that_asks_for_what_its_best_trial_was(tmp_path: Path, diva: Diva):
    task = shutil.copy(Path(__file__).parents[2] / "contract" / "users_task.py", tmp_path / "clouds.py")
    over = ("--over", "lr=0.1", "--sampler", "grid", "--seed", "4")
    done = diva("sweep", "--task", task, "--epochs", "1", *over, "--quiet", "--no-tensorboard")
    assert done.returncode == 0, done.stderr
    study = open_study(tmp_path / done.stdout.splitlines()[-1])
    assert {path.name for path in study.figures.glob("*.png")} == {"history.png", "parallel.png"}
    asked, ran = resolve({}, [study.path / "best.yaml"], ("diva", "run")), study.member("trial-0000").manifest()
    assert asked.task.model_dump(mode="json") == ran.task.knobs
    assert (asked.options.seed, asked.task.lr) == (ran.seed, 0.1) == (4, 0.1)
