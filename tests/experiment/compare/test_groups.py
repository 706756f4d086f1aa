"""Studies compared by their numbers: who is paired with whom, what counts, and what is said of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy
import pytest

from diva.errors import UsageError
from diva.experiment.compare import compare
from diva.experiment.compare.groups import chosen_metrics, compare_pairs, paired_seeds
from diva.experiment.compare.subjects import open_subjects
from diva.statistics import holm

if TYPE_CHECKING:
    from .conftest import MakeRun, MakeStudy

METRIC = "test/accuracy"
LOW = {seed: 0.90 + 0.001 * seed for seed in range(8)}
HIGH = {seed: 0.93 + 0.0015 * seed for seed in range(8)}


def test_runs_of_the_same_seeds_are_paired(make_study: MakeStudy) -> None:
    one, two = make_study("one", {"": LOW}), make_study("two", {"": dict(reversed(HIGH.items()))})
    (found,) = compare_pairs(open_subjects([one.path, two.path]), [METRIC])
    assert found.found.design == "paired" and found.seeds == tuple(range(8))
    differences = [LOW[seed] - HIGH[seed] for seed in LOW]
    assert found.found.difference == pytest.approx(numpy.mean(differences), rel=1e-12)
    assert found.found.effect == pytest.approx(numpy.mean(differences) / numpy.std(differences, ddof=1), rel=1e-9)
    assert found.found.p_permutation == 2 / 2**8
    assert "B is better than A by" in found.words and "8 pairs of seeds" in found.words


def test_runs_of_other_seeds_are_not_paired(make_study: MakeStudy) -> None:
    one, two = make_study("one", {"": LOW}), make_study("two", {"": {seed + 7: score for seed, score in HIGH.items()}})
    (found,) = compare_pairs(open_subjects([one.path, two.path]), [METRIC])  # seed 7 alone is common
    assert (found.found.design, found.seeds, found.found.n_a, found.found.n_b) == ("unpaired", (), 8, 8)


@pytest.mark.parametrize(("n_common", "n_paired"), [(1, 0), (3, 0), (4, 4), (7, 7)])
def test_groups_are_paired_when_half_of_their_seeds_are_common(
    make_study: MakeStudy, n_common: int, n_paired: int
) -> None:
    shifted = {seed + 8 - n_common: score for seed, score in HIGH.items()}
    subjects = open_subjects([make_study("one", {"": LOW}).path, make_study("two", {"": shifted}).path])
    assert len(paired_seeds(subjects[0], subjects[1], METRIC)) == n_paired


def test_failed_members_do_not_count_and_are_named(make_study: MakeStudy) -> None:
    one = make_study("one", {"": LOW}, failed=["seed-3"], waiting=["seed-5"])
    subjects = open_subjects([one.path, make_study("two", {"": HIGH}).path])
    assert [run.seed for run in subjects[0].finished] == [0, 1, 2, 4, 6, 7]
    assert subjects[0].missing == ("seed-3: the training loss is nan", "seed-5: not started")
    (found,) = compare_pairs(subjects, [METRIC])
    assert found.seeds == (0, 1, 2, 4, 6, 7)


def test_many_pairs_are_corrected_together(make_study: MakeStudy) -> None:
    study = make_study(
        "one", {"lr=1": LOW, "lr=2": HIGH, "lr=3": {seed: score + 1e-4 * (seed - 3) for seed, score in LOW.items()}}
    )
    subjects = open_subjects([study.path])
    assert [subject.name for subject in subjects] == ["one lr=1", "one lr=2", "one lr=3"]
    found = compare_pairs(subjects, [METRIC])
    assert [(one.one, one.two) for one in found] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert [one.found.p_adjusted for one in found] == holm([one.found.p_permutation for one in found])
    assert all(one.found.n_tests == 3 for one in found)


def test_more_than_six_groups_are_each_compared_with_the_first(make_study: MakeStudy) -> None:
    study = make_study("one", {f"lr={k}": {0: 0.5 + k / 100, 1: 0.6} for k in range(7)})
    found = compare_pairs(open_subjects([study.path]), [METRIC])
    assert [(one.one, one.two) for one in found] == [("A", label) for label in "BCDEFG"]


def test_a_run_is_weighed_against_the_spread_of_a_study(make_study: MakeStudy, make_run: MakeRun) -> None:
    study, run = make_study("one", {"": LOW}), make_run("two", seed=99, metrics={"test/accuracy": 0.5})
    (found,) = compare_pairs(open_subjects([study.path, run.path]), [METRIC])
    assert (found.found.design, found.found.n_a, found.found.n_b) == ("unpaired", 8, 1)
    assert found.found.p_t < 0.001 and found.found.ci_t.low > 0


def test_single_runs_are_not_tested_against_each_other(make_study: MakeStudy, make_run: MakeRun) -> None:
    paths = [make_study("one", {"": LOW}).path, make_run("two").path, make_run("three").path]
    assert [(one.one, one.two) for one in compare_pairs(open_subjects(paths), [METRIC])] == [("A", "B"), ("A", "C")]


def test_the_monitored_metric_is_tested_as_it_came_out_on_test(make_study: MakeStudy) -> None:
    subjects = open_subjects([make_study(name, {"": LOW}).path for name in ("one", "two")])
    assert chosen_metrics(subjects, []) == ["test/accuracy"]
    assert chosen_metrics(subjects, ["val/accuracy"]) == ["val/accuracy"]
    with pytest.raises(UsageError, match=r"--metric test/acuracy: .*did you mean test/accuracy"):
        chosen_metrics(subjects, ["test/acuracy"])


def test_a_score_that_is_no_number_is_left_out_with_its_partner(make_study: MakeStudy) -> None:
    one = make_study("one", {"": {**LOW, 0: math.nan}})
    (found,) = compare_pairs(open_subjects([one.path, make_study("two", {"": HIGH}).path]), [METRIC])
    assert (found.found.n_a, found.found.n_left_out) == (7, 1)


def test_what_is_no_comparison_is_refused_in_a_line(make_study: MakeStudy, make_run: MakeRun) -> None:
    study, run = make_study("one", {"": LOW}), make_run("two")
    for paths, why in (
        ([run.path], "one run is named"),
        ([run.path, run.path], "one run"),
        ([study.path], "one configuration"),
    ):
        with pytest.raises(UsageError, match=why):
            open_subjects(paths)
    with pytest.raises(UsageError, match="no such folder"):
        open_subjects([run.path, run.path / "nothing"])
    waiting = open_subjects([make_run(name, finished=False).path for name in ("three", "four")])
    with pytest.raises(UsageError, match="none of these runs has finished"):
        chosen_metrics(waiting, [])


def test_many_pairs_of_single_runs_are_one_sentence(make_study: MakeStudy) -> None:
    card = compare(open_subjects([make_study("one", {f"trial-{k}": {0: 0.5 + k / 100} for k in range(8)}).path]))
    (verdict,) = (section["rows"] for section in card["sections"] if section["name"] == "Verdict")
    assert verdict[0][0] == "nothing to test" and verdict[0][1].startswith("7 pairs of one run each")
    assert not any(section["name"].startswith("Differences") for section in card["sections"])
    assert len(card["comparison"]["tests"]) == 7


def test_the_status_is_the_verdict_in_few_words(make_study: MakeStudy) -> None:
    low, high = make_study("one", {"": LOW}).path, make_study("two", {"": HIGH}).path
    assert compare(open_subjects([low, high]))["status"].startswith("B is better than A by 3.")
    assert compare(open_subjects([low, make_study("three", {"": LOW}).path]))["status"] == "No difference"
