"""Who is compared with whom: the base, the names of a sweep's trials, and what is not comparable at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from diva.cli import cli
from diva.errors import UsageError
from diva.experiment.compare import compare
from diva.experiment.compare.groups import chosen_metrics, compare_pairs
from diva.experiment.compare.subjects import open_subjects

if TYPE_CHECKING:
    from pathlib import Path

    from diva.records.study_folder import StudyFolder

    from .conftest import MakeRun, MakeStudy

METRIC = "test/accuracy"
VALUES = {
    "trial-0000": {"lr": 0.1, "width": 4},
    "trial-0001": {"lr": 1 / 3, "width": 4},
    "trial-0002": {"lr": 0.1, "width": 8},
}
SCORES = {"trial-0000": {0: 0.5, 1: 0.6}, "trial-0001": {0: 0.8, 1: 0.9}, "trial-0002": {0: 0.7, 1: 0.9}}


@pytest.fixture
def sweep(make_study: MakeStudy) -> StudyFolder:
    return make_study("search", SCORES, kind="sweep", values=VALUES)


def pairs(paths: list[Path], base: str = "") -> list[tuple[str, str]]:
    return [(one.one, one.two) for one in compare_pairs(open_subjects(paths, base), [METRIC])]


def table(card: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(next(section for section in card["sections"] if section["name"].startswith(name))["table"])


def test_all_trials_of_a_sweep_are_compared_with_the_best_and_named_by_their_values(sweep: StudyFolder) -> None:
    assert pairs([sweep.path]) == [("B", "A"), ("B", "C")]
    subjects = open_subjects([sweep.path])
    assert [one.name for one in subjects] == [
        "search lr=0.3333 width=4",
        "search lr=0.1 width=4",
        "search lr=0.1 width=8",
    ]


def test_a_smaller_loss_is_the_better_trial(make_study: MakeStudy) -> None:
    knobs = {"monitor": "val/error"}
    study = make_study("search", SCORES, kind="sweep", values=VALUES, knobs=knobs)
    for member in study.known_members():
        file = study.member(member.name).result_file
        result = json.loads(file.read_text())
        result["metrics"]["val/error"] = 1 - result["metrics"]["val/accuracy"]
        file.write_text(json.dumps(result))
    assert open_subjects([study.path])[0].configuration == "trial-0001"


@pytest.mark.parametrize(
    "values", [{}, {"trial-0000": {"lr": 0.1}, "trial-0001": {"lr": 0.1}, "trial-0002": {"lr": 0.2}}]
)
def test_trials_that_their_values_do_not_tell_apart_keep_their_numbers(
    make_study: MakeStudy, values: dict[str, dict[str, float]]
) -> None:
    study = make_study("search", SCORES, kind="sweep", values=values)
    assert {one.name for one in open_subjects([study.path])} == {f"search {name}" for name in SCORES}


def test_all_are_compared_with_the_base_of_a_sensitivity_study(make_study: MakeStudy) -> None:
    study = make_study(
        "one", {"lr=1": {0: 0.5, 1: 0.6}, "base": {0: 0.4, 1: 0.5}, "lr=2": {0: 0.1, 1: 0.2}}, kind="sensitivity"
    )
    assert pairs([study.path]) == [("B", "A"), ("B", "C")]


def test_the_base_is_named_by_label_configuration_values_or_path(sweep: StudyFolder, make_study: MakeStudy) -> None:
    again = make_study("again", {"": {0: 0.8, 1: 0.9}})
    member = sweep.members / "trial-0002-seed-1"
    for base in ("C", "trial-0002", "lr=0.1 width=8", str(member)):
        assert pairs([sweep.path, again.path], base) == [("C", "A"), ("C", "B"), ("C", "D")]
    assert pairs([again.path, sweep.path]) == [("A", "B"), ("A", "C"), ("A", "D")]  # the first that is named
    assert pairs([again.path, sweep.path], str(sweep.path)) == [("C", "A"), ("C", "B"), ("C", "D")]
    with pytest.raises(UsageError, match=r"--base trial-0003: none of what is compared.*did you mean trial-000"):
        open_subjects([sweep.path, again.path], "trial-0003")


def test_a_base_that_is_not_among_the_named_joins_them(sweep: StudyFolder, make_study: MakeStudy) -> None:
    again = make_study("again", {"": {0: 0.8, 1: 0.9}})
    assert open_subjects([sweep.path], str(again.path))[0].name == "again"
    done = CliRunner().invoke(cli, ["compare", str(sweep.path), "--base", str(again.path), "--format", "json"])
    assert json.loads(done.output)["comparison"]["base"] == "A"


def test_a_sweep_is_compared_on_val_unless_test_is_asked_for(sweep: StudyFolder, make_study: MakeStudy) -> None:
    subjects = open_subjects([make_study("one", {"": {0: 0.8}}).path, sweep.path])
    assert chosen_metrics(subjects, []) == ["val/accuracy"]
    assert chosen_metrics(subjects, [METRIC]) == [METRIC]


@pytest.mark.parametrize(
    ("other", "why"),
    [({"task": "clouds"}, "task differs (toy, clouds)"), ({"data": {"b.png": "b"}}, "data differ (shades sha256:")],
)
def test_there_is_no_verdict_between_tasks_or_data(make_study: MakeStudy, other: dict[str, Any], why: str) -> None:
    scores = {"": {0: 0.8, 1: 0.9, 2: 0.85}}
    one, two, three = make_study("one", scores), make_study("two", scores, **other), make_study("three", scores)
    card = compare(open_subjects([one.path, two.path]), figures=True)
    assert card["status"].startswith(f"not comparable: {why}") and not card["comparison"]["tests"]
    assert not any(section["name"].startswith(("Differences", "Figures")) for section in card["sections"])
    assert table(card, "test/accuracy by seed")["headers"] == ["seed", "A", "B"]
    (verdict,) = (section["rows"] for section in card["sections"] if section["name"] == "Verdict")
    assert [row[0] for row in verdict] == ["not comparable"]
    mixed = compare(open_subjects([one.path, two.path, three.path]))
    assert mixed["status"].startswith(f"not comparable: B: {why}") and list(mixed["comparison"]["not_comparable"]) == [
        "B"
    ]
    assert [test["pair"] for test in mixed["comparison"]["tests"]] == [["A", "C"]]


def test_metrics_of_runs_of_different_tasks_are_shown_and_not_ranked(make_run: MakeRun) -> None:
    card = compare(open_subjects([make_run("one").path, make_run("two", task="clouds").path]))
    assert "metrics are not comparable: task differs (toy, clouds)" in card["status"]
    assert table(card, "Metrics")["headers"] == ["metric", "A", "B"]


def test_one_run_on_a_side_has_no_effect_size_and_the_row_that_decides_is_marked(
    make_study: MakeStudy, make_run: MakeRun
) -> None:
    run = make_run("two", seed=9, metrics={METRIC: 0.5})
    card = compare(open_subjects([make_study("one", {"": {0: 0.8, 1: 0.9, 2: 0.85}}).path, run.path]))
    assert table(card, "Differences")["headers"][3] == "p, decides"
    (row,) = table(card, "Other tests and effect sizes, which decide nothing")["rows"]
    assert row[4:6] == ["-", "-"]


def test_p_is_the_same_in_words_and_in_tables(make_study: MakeStudy) -> None:
    scores = {seed: 0.8 + 0.01 * seed for seed in range(4)}
    more = {seed: 0.9 + 0.02 * seed for seed in range(4)}
    card = compare(open_subjects([make_study("one", {"": scores}).path, make_study("two", {"": more}).path]))
    assert table(card, "Differences")["rows"][0][3] == "0.13"  # 2 of 16 sign flips
    assert "p = 0.13, sign flips" in card["comparison"]["tests"][0]["verdict"]
