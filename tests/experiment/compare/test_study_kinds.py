"""The cards and the rows of searches and sensitivity studies: their own results, knobs that are really shared, val and not test."""

from __future__ import annotations

import io
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from diva.experiment.card import describe_run
from diva.experiment.listing import runs
from diva.experiment.study.plan import read_plan
from diva.experiment.study.summary import sum_up
from diva.experiment.study_card import describe_study
from diva.records.files import write_json
from diva.records.study_folder import Member, StudyFolder
from diva.report.card import render
from diva.report.console import Console

from .conftest import write_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .conftest import MakeRun, MakeStudy

SPACE = [{"name": "lr", "kind": "float", "choices": [], "low": 0.001, "high": 1.0, "step": 0.0, "log": True}]


def made_a(kind: str, study: StudyFolder, members: Sequence[Member] = (), **changes: Any) -> StudyFolder:
    """The study as one of another kind, with other members where they are given."""
    record = study.record().model_copy(update={"kind": kind, **changes})
    study.study_file.unlink()
    study.seal(record)
    study.list_members(members)
    return study


def section(card: Mapping[str, Any], name: str) -> Any:
    (found,) = (one for one in card["sections"] if one["name"] == name)
    return found.get("table", {}).get("rows") or found.get("rows") or found["code"]


@pytest.fixture
def search(make_study: MakeStudy) -> StudyFolder:
    """Seven trials of two runs; test orders them the other way round than val, trial 6 has a run that failed."""
    trials = {f"trial-{number}": {0: 0.3 + 0.01 * number, 1: 0.4 + 0.01 * number} for number in range(7)}
    study = make_study("20260101-000000-cccccc", trials, failed=["trial-6-seed-1"])
    members = [
        Member(m.name, m.configuration, {"lr": 0.01 * (1 + int(m.configuration[-1])), **m.values})
        for m in study.known_members()
    ]
    for member in study.known_members():
        file = study.member(member.name).result_file
        if file.exists():
            result = json.loads(file.read_text())
            result["metrics"]["test/accuracy"] = 1 - result["metrics"]["val/accuracy"]
            write_json(file, result)
    (study.path / "best.yaml").write_text("task: toy\n")
    return made_a("sweep", study, members, plan={"space": SPACE})


def test_the_card_of_a_search_names_its_best_trial_by_val_alone(search: StudyFolder) -> None:
    card = describe_study(search)
    assert section(card, "Best trial")[:3] == [["trial", "trial-5"], ["val/accuracy", "0.3900"], ["values", "lr 0.06"]]
    ranked = section(card, "The best 5 of 6 trials by val/accuracy")
    assert [row[0] for row in ranked] == [f"trial-{number}" for number in (5, 4, 3, 2, 1)]
    assert ranked[0][2:] == [2, "0.3900", "0.0707"]
    go_on = section(card, "Go on")
    assert f"--config {search.path}/best.yaml" in go_on and "members/trial-5-seed-0" in go_on and "compare" not in go_on
    assert "test/" not in render(card, "text") and "in summary.json" not in render(card, "text")


def test_a_loss_is_best_where_it_is_least(search: StudyFolder) -> None:
    for file in search.members.glob("*/result.json"):
        result = json.loads(file.read_text())
        write_json(file, result | {"metrics": {"val/loss": result["metrics"]["val/accuracy"]}})
    study = made_a("sweep", search, search.known_members(), monitor="val/loss")
    assert section(describe_study(study), "Best trial")[0] == ["trial", "trial-0"]


def test_knobs_that_members_have_of_their_own_are_not_shown_as_shared(search: StudyFolder) -> None:
    card = describe_study(search)
    assert [row[0] for row in section(card, "Knobs that all members share")] == ["monitor"]
    assert section(card, "Varied") == [["lr", "0.001 to 1, on the logarithm"]]


def test_a_search_is_listed_with_its_best_value(search: StudyFolder) -> None:
    (row,) = runs(search.path.parent.parent)
    assert (row["kind"], row["n_members"], row["n_configurations"]) == ("sweep", 14, 7)
    assert (row["metric"], row["value"], row["sd"]) == ("val/accuracy", pytest.approx(0.39), pytest.approx(0.0707107))


@pytest.fixture
def sensitive(make_study: MakeStudy) -> StudyFolder:
    """Seeds 0 and 1, a knob, a stream and threads, whose members were made by hand."""
    factors = [
        {"name": name, "kind": kind, "base": base, "levels": [{"label": str(i), "values": v} for i, v in enumerate(values)]}
        for name, kind, base, values in [
            ("seed", "seed", None, ({"seed": 0}, {"seed": 1})),
            ("lr", "knob", "0", ({}, {"lr": 0.2})),
            ("stream:init", "stream", None, ({"stream": ["init=2"]}, {"stream": ["init=3"]})),
            ("threads", "option", "0", ({}, {"threads": 2})),
        ]
    ]  # fmt: skip
    study = make_study("20260101-000000-cccccc", {"": {0: 0.5}})
    shutil.rmtree(study.members)
    plan = {"factors": factors, "grid": False, "runs": None, "metric": None}
    options = {**study.record().options, "tensorboard": False, "shards": 4}
    made_a("sensitivity", study, plan=plan, options=options)
    members = read_plan(study.record()).members(study, [])
    for place, member in enumerate(members):
        score = 0.5 + 0.01 * place + 0.3 * ("lr" in member.values)
        write_run(study.members / member.name, metrics={"val/accuracy": score, "test/accuracy": score})
    study.list_members(members)
    outcomes = [study.outcome(member) for member in study.known_members()]
    sum_up(study, study.record(), read_plan(study.record()), outcomes, Console(io.StringIO(), io.StringIO()))
    return study


@pytest.mark.parametrize("style", ["text", "markdown", "html", "json"])
def test_the_card_of_a_sensitivity_study_has_what_factors_and_streams_do(sensitive: StudyFolder, style: Any) -> None:
    said = render(describe_study(sensitive), style)
    for expected in (
        "What moves val/accuracy",
        "val/accuracy by factor",
        "all: seed",
        "stream:init 3",
        "diva sensitivity",
    ):
        assert expected in said
    assert "in summary.json" not in said and "diva compare" not in said


def test_the_effects_in_the_card_are_those_of_the_study(sensitive: StudyFolder) -> None:
    card = describe_study(sensitive)
    by_name = {row[0]: row for row in section(card, "val/accuracy by factor")}
    assert set(by_name) == {"lr", "threads"} and by_name["lr"][3:5] == ["0.5050 at 0", "0.8250 at 1"]
    study = dict(section(card, "Study"))
    assert "threads" not in study and study["shards"] == 4


def test_configurations_without_a_common_mean_are_counted(sensitive: StudyFolder) -> None:
    (row,) = runs(sensitive.path.parent.parent)
    assert (row["metric"], row["value"], row["n_members"], row["n_configurations"]) == (None, None, 8, 4)


def test_the_card_of_a_run_has_every_option_that_is_not_at_its_default(make_run: MakeRun) -> None:
    usual = {"device": "cpu", "tf32": False, "workers": 0, "trace": "epoch", "load_skip": []}
    run = make_run("one", options={**usual, "stream": ["init=7"], "shards": 4, "workers_per_run": 2})
    rows = section(describe_run(run), "Run")
    assert rows[-3:] == [["stream", ["init=7"]], ["shards", 4], ["workers per run", 2]]
    assert "init=7" in render(describe_run(run), "text")
    rows = section(describe_run(make_run("two", options=usual)), "Run")
    assert [row[0] for row in rows[-5:]] == ["backend", "device", "threads", "tf32", "workers"]
