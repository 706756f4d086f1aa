"""`diva sensitivity` as it is typed: what is asked for without sense is refused, and nothing is made before anything can run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from diva.cli import cli
from diva.errors import UsageError
from diva.records.study_folder import StudyFolder
from tests.experiment.test_study import planned

BASE = ("--task", "points_2d", "--seed", "1", "--threads", "1")


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Types the command in an empty folder, which it leaves empty."""
    monkeypatch.chdir(tmp_path)

    def typed(*arguments: object) -> Result:
        done = CliRunner().invoke(cli, ["sensitivity", *map(str, arguments)], standalone_mode=False)
        assert not (tmp_path / "runs").exists()
        return done

    return typed


def test_a_dry_run_shows_the_runs_of_every_factor(invoke) -> None:
    done = invoke(*BASE, "--vary", "seed=0:3", "--vary", "batch_size=8,16,32", "--vary", "stream:init=0:5", "--dry-run")
    assert done.exception is None
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    assert rows == [["seed", "0,1,2", "3"], ["batch_size", "8,16,32", "9"], ["stream:init", "0,1,2,3,4", "5"]]
    assert "14 runs" in done.stderr
    grid = invoke(
        *BASE, "--vary", "seed=0:3", "--vary", "batch_size=8,16,32", "--vary", "lr=0.1,0.01", "--grid", "--dry-run"
    )
    assert "18 runs of a grid" in grid.stderr


def test_a_cluster_takes_all_runs_at_a_time_unless_a_number_is_asked_for(invoke) -> None:
    asked = ("--task", "points_2d", "--seed", "1", "--vary", "seed=0:40", "--vary", "lr=0.1,0.2", "--dry-run")
    assert "120 runs, 120 at a time" in invoke(*asked, "--launcher", "slurm").stderr
    assert "120 runs, 3 at a time" in invoke(*asked, "--launcher", "ray", "--jobs", "3").stderr
    assert "120 runs, 1 at a time" in invoke(*asked[:6], "--vary", "threads=1,2,4", "--dry-run").stderr


def test_a_base_may_have_knobs_of_its_own(invoke) -> None:
    done = invoke(*BASE, "--batch-size", "8", "--vary", "batch_size=8,16", "--vary", "seed=0:2", "--dry-run")
    assert done.stdout.splitlines()[3].split() == ["batch_size", "8,16", "4"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (BASE, "nothing is varied"),
        ((*BASE, "--vary", "epochs=x,1"), "epochs is 'x'"),
        ((*BASE, "--vary", "nothing=1,2"), "has this name"),
        (("--vary", "lr=0.1,0.2"), "no task is named"),
        (("nowhere", "--vary", "lr=0.1,0.2"), "no such folder"),
        ((*BASE, "--vary", "lr=0.1,0.2", "--runs", "9"), "allowed are 1 to 6"),
        ((*BASE, "--vary", "freeze=nothing.*"), "--freeze nothing.*: no parameter of the model has such a name"),
        ((*BASE, "--vary", "subset=0.5,100000"), "--subset 100000: the training split has"),
        ((*BASE, "--vary", "lr=0.1,0.2", "--jobs", "0"), "--jobs 0: must be at least 1"),
        ((*BASE, "--vary", "lr=0.1,0.2", "--stream", "rain=1"), "no stream is called 'rain'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(invoke, arguments, words: str) -> None:
    error = invoke(*arguments).exception
    assert words in getattr(error, "message", str(error))


def test_a_run_brings_its_own_task(invoke, tmp_path: Path) -> None:
    error = invoke(tmp_path, *BASE, "--vary", "lr=0.1,0.2").exception
    assert "exclude each other" in error.message


def test_a_study_of_another_kind_is_no_base(invoke, tmp_path: Path) -> None:
    study = planned(tmp_path / "other")
    error = invoke(study.path).exception
    assert isinstance(error, UsageError) and "is a study, not a run" in str(error)


def test_a_finished_study_shows_its_tables_again_for_another_metric(invoke, tmp_path: Path) -> None:
    study = planned(tmp_path / "s")
    study = StudyFolder(study.path)
    study.seal(study.record().model_copy(update={"kind": "sensitivity"}))
    assert "is not over" in str(invoke(study.path).exception)
    spread = {"name": "seed", "n": 2, **dict.fromkeys(("mean", "low", "high", "range", "sd"), 0.5), "ci_sd": [0.1, 0.9]}
    metrics = {name: {"spread": [spread], "shares": None, "effects": []} for name in ("val/loss", "test/loss")}
    report = {"metric": "val/loss", "level": 0.95, "metrics": metrics}
    study.summary_file.write_text(json.dumps({"sensitivity": report, "members": [{"status": "finished"}] * 2}))
    assert invoke(study.path).stdout.startswith("val/loss of 2 runs")
    assert invoke(study.path, "--metric", "test/loss").stdout.startswith("test/loss of 2 runs")
    assert "did you mean test/loss" in str(invoke(study.path, "--metric", "test/los").exception)
