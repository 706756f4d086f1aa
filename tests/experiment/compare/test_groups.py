"""Studies compared by their numbers: who is paired with whom, what counts, and what is said of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy
import pytest

from diva.errors import UsageError
from diva.experiment.compare import compare
from diva.experiment.compare.groups import chosen_metrics, compare_pairs, paired_draws
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
    assert found.found.design == "paired" and [draw.seed for draw in found.draws] == list(range(8))
    differences = [LOW[seed] - HIGH[seed] for seed in LOW]
    assert found.found.difference == pytest.approx(numpy.mean(differences), rel=1e-12)
    assert found.found.effect == pytest.approx(numpy.mean(differences) / numpy.std(differences, ddof=1), rel=1e-9)
    assert found.found.p_permutation == 2 / 2**8
    assert "B is better than A by" in found.words and "8 pairs of seeds" in found.words


def test_runs_of_other_seeds_are_not_paired(make_study: MakeStudy) -> None:
    one, two = make_study("one", {"": LOW}), make_study("two", {"": {seed + 7: score for seed, score in HIGH.items()}})
    (found,) = compare_pairs(open_subjects([one.path, two.path]), [METRIC])  # seed 7 alone is common
    assert (found.found.design, found.draws, found.found.n_a, found.found.n_b) == ("unpaired", (), 8, 8)


@pytest.mark.parametrize(("n_common", "n_paired"), [(1, 0), (3, 0), (4, 4), (7, 7)])
def test_groups_are_paired_when_half_of_their_seeds_are_common(
    make_study: MakeStudy, n_common: int, n_paired: int
) -> None:
    shifted = {seed + 8 - n_common: score for seed, score in HIGH.items()}
    subjects = open_subjects([make_study("one", {"": LOW}).path, make_study("two", {"": shifted}).path])
    assert len(paired_draws(subjects[0], subjects[1], METRIC)) == n_paired


def test_failed_members_do_not_count_and_are_named(make_study: MakeStudy) -> None:
    one = make_study("one", {"": LOW}, failed=["seed-3"], waiting=["seed-5"])
    subjects = open_subjects([one.path, make_study("two", {"": HIGH}).path])
    assert [run.seed for run in subjects[0].finished] == [0, 1, 2, 4, 6, 7]
    assert subjects[0].missing == ("seed-3: the training loss is nan", "seed-5: not started")
    (found,) = compare_pairs(subjects, [METRIC])
    assert [draw.seed for draw in found.draws] == [0, 1, 2, 4, 6, 7]


def test_all_are_compared_with_the_first_and_corrected_together(make_study: MakeStudy) -> None:
    study = make_study(
        "one", {"lr=1": LOW, "lr=2": HIGH, "lr=3": {seed: score + 1e-4 * (seed - 3) for seed, score in LOW.items()}}
    )
    subjects = open_subjects([study.path])
    assert [subject.name for subject in subjects] == ["one lr=1", "one lr=2", "one lr=3"]
    found = compare_pairs(subjects, [METRIC])
    assert [(one.one, one.two) for one in found] == [("A", "B"), ("A", "C")]
    assert [one.found.p_adjusted for one in found] == holm([one.found.p_permutation for one in found])
    assert all(one.found.n_tests == 2 and "this difference alone" in one.words for one in found)


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


STREAMS = {"0 init=0": 0.1, "0 init=2": 0.4, "0 init=10": 0.7}


def test_runs_of_one_seed_and_several_streams_all_count(make_study: MakeStudy) -> None:
    subjects = open_subjects([make_study("one", {"base": {0: 0.2, 1: 0.3}, "stream:init": STREAMS}).path])
    assert list(map(str, subjects[1].values(METRIC))) == list(STREAMS)
    (found,) = compare_pairs(subjects, [METRIC])
    assert (found.found.design, found.found.n_a, found.found.n_b) == ("unpaired", 2, 3)
    assert found.found.difference == pytest.approx(0.25 - 0.4)
    card = compare(subjects)
    tables = {section["name"]: section.get("table", {}) for section in card["sections"]}
    assert tables["Mean and standard deviation"]["rows"][0][2] == "0.4000 ± 0.3000"
    assert tables["Groups"]["rows"][1][3] == "0 init=0, 0 init=2, 0 init=10"
    by_draw = {row[0]: row[1:] for row in tables["test/accuracy by seed and stream"]["rows"]}
    assert by_draw["0"] == ["0.2000", None] and by_draw["0 init=10"] == [None, "0.7000"]
    group = card["comparison"]["groups"][1]
    assert group["metrics"][METRIC]["by_seed"] == STREAMS and group["metrics"][METRIC]["n"] == group["n"] == 3
    assert (
        "Options" not in tables and not card["comparison"]["differ"]["options"]
    )  # what varies within a group is no difference


def test_runs_of_the_same_streams_are_paired_and_of_others_not(make_study: MakeStudy) -> None:
    moved = {draw: score + 0.01 for draw, score in STREAMS.items()}
    other = {draw.replace("init", "shuffle"): score for draw, score in STREAMS.items()}
    paths = [make_study(name, {"": scores}).path for name, scores in (("a", STREAMS), ("b", moved), ("c", other))]
    same, others = compare_pairs(open_subjects(paths), [METRIC])
    assert (same.found.design, same.found.n_a) == ("paired", 3)
    assert (others.found.design, others.found.n_a, others.found.n_b) == ("unpaired", 3, 3)
    assert compare(open_subjects(paths[:2]))["comparison"]["same_seeds"][1]["streams"] == ["init=2"]


def test_a_stream_that_a_whole_group_shares_is_a_difference_and_does_not_part_pairs(make_study: MakeStudy) -> None:
    moved = {f"{seed} init=7": score for seed, score in HIGH.items()}
    subjects = open_subjects([make_study("one", {"": LOW}).path, make_study("two", {"": moved}).path])
    (found,) = compare_pairs(subjects, [METRIC])
    assert [str(draw) for draw in found.draws] == [str(seed) for seed in LOW]
    assert compare(subjects)["comparison"]["differ"]["options"]["stream"]["values"] == [[], ["init=7"]]


def test_runs_that_nothing_sets_apart_count_each_and_are_no_pairs(make_study: MakeStudy) -> None:
    paths = []
    for name in ("one", "two"):
        study = make_study(name, {"": LOW})
        for member in study.known_members():
            run = study.member(member.name)
            manifest = run.manifest().model_copy(update={"seed": 0})
            run.manifest_file.unlink()
            run.seal(manifest)
        paths.append(study.path)
    (found,) = compare_pairs(open_subjects(paths), [METRIC])
    assert (found.found.design, found.found.n_a, found.found.n_b) == ("unpaired", 8, 8)


def test_a_mean_says_when_it_is_of_fewer_runs(make_study: MakeStudy) -> None:
    one, two = make_study("one", {"": {**LOW, 0: math.nan}}), make_study("two", {"": HIGH})
    (table,) = (
        section["table"]
        for section in compare(open_subjects([one.path, two.path]))["sections"]
        if section["name"] == "Mean and standard deviation"
    )
    assert table["rows"][0][1].endswith("(n = 7)") and "n =" not in table["rows"][0][2]
