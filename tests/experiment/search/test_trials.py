"""Trials: what came of one, and the curves of its runs while they grow."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from diva.experiment.search.samplers import Told
from diva.experiment.search.space import Dimension
from diva.experiment.search.trials import MonitorReader, Trial, best_of, read_trials, tell, write_trial
from diva.records.run_folder import RunFolder
from diva.records.study_folder import Member, Outcome, StudyFolder

TRIAL = Trial(3, {"lr": 0.1})


def outcome(status: str, value: float = 0.5) -> Outcome:
    result = {"metrics": {"val/accuracy": value, "test/accuracy": 1.0}} if status == "finished" else None
    return Outcome(Member("m", TRIAL.name, {}), status, result)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcomes", "state", "value"),
    [
        ([], "running", None),
        ([outcome("finished")], "running", None),  # one of two
        ([outcome("finished"), outcome("waiting")], "running", None),
        ([outcome("finished", 0.1), outcome("finished", 0.2)], "finished", (0.1 + 0.2) / 2),
        ([outcome("finished"), outcome("failed")], "failed", None),
        ([outcome("finished"), outcome("pruned")], "pruned", None),
        ([outcome("failed"), outcome("pruned")], "pruned", None),
        ([outcome("finished"), outcome("finished", math.nan)], "failed", None),
        ([outcome("finished"), outcome("finished", math.inf)], "failed", None),
    ],
)
def test_a_trial_has_a_value_when_all_its_runs_have_one(outcomes: list[Outcome], state: str, value: float | None):
    told = tell(TRIAL, outcomes, 2, "val/accuracy")
    assert (told.state, told.value) == (state, value)


def test_the_first_of_equals_is_the_best():
    told = [Told(n, {}, "finished", value) for n, value in enumerate((0.1, 0.9, 0.9, 0.2))] + [Told(4, {}, "failed")]
    best, least = best_of(told, less=False), best_of(told, less=True)
    assert best is not None and best.number == 1
    assert least is not None and least.number == 0
    assert best_of(told[4:], less=True) is None


def test_trials_are_read_back_as_they_were_written(tmp_path: Path):
    study = StudyFolder(tmp_path)
    space = (Dimension("layers", "choice", ((16, 8), ())), Dimension("lr", "float", (), 0, 1))
    trials = [Trial(0, {"layers": (16, 8), "lr": 0.1}), Trial(1, {"layers": (), "lr": 0.2}, "s7")]
    for trial in trials:
        write_trial(study, trial)
    assert read_trials(study, space) == trials
    assert [list(trial.point) for trial in read_trials(study, space)] == [["layers", "lr"]] * 2
    assert json.dumps(trials[0].members([5])[0].values) == '{"layers": [16, 8], "lr": 0.1, "seed": 5}'


def row(epoch: int, value: float | str, name: str = "val/loss", per: str = "epoch") -> str:
    return (
        json.dumps({"per": per, "epoch": epoch, "step": 5 * epoch, "name": name, "value": value}, sort_keys=True) + "\n"
    )


def test_a_curve_is_read_while_it_grows_without_a_line_that_is_not_whole_and_after_it_was_cut(tmp_path: Path):
    run, reader = RunFolder(tmp_path), MonitorReader("val/loss")
    assert reader.read(run) == []
    rows = [
        row(0, 2.0),
        row(1, 9.0, "batch/loss", per="step"),
        row(1, 8.0, "val/loss_of_another"),
        row(1, 1.0),
        row(2, 0.5),
    ]
    run.metrics_file.write_text("".join(rows)[:-4])
    assert reader.read(run) == [2.0, 1.0]
    with run.metrics_file.open("a") as file:
        file.write(rows[-1][-4:] + row(3, "nan"))
    assert reader.read(run)[:3] == [2.0, 1.0, 0.5] and math.isnan(reader.read(run)[3])
    run.metrics_file.write_text("".join(rows[:4]))  # a resumed run begins after its last checkpoint
    assert reader.read(run) == [2.0, 1.0]
    run.metrics_file.write_text("".join(rows))
    assert reader.read(run) == [2.0, 1.0, 0.5]
    run.metrics_file.write_text("".join(row(epoch, 2 / (epoch + 1)) for epoch in range(8)))  # cut, and grown beyond
    assert reader.read(run) == [2 / (epoch + 1) for epoch in range(8)]
