"""`diva show` and `diva list` of studies: how they stand while they run, and what came of them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import pytest
from click.testing import CliRunner

from diva.cli import cli
from diva.errors import UsageError
from diva.experiment import study_card
from diva.experiment.compare import subjects
from diva.records.files import write_json

if TYPE_CHECKING:
    from .conftest import MakeRun, MakeStudy

LOW = {seed: 0.90 + 0.001 * seed for seed in range(4)}


def said(*arguments: object) -> str:
    done = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def listed(output: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(said("list", "runs", "--json", "--output", output))
    return rows


@pytest.mark.parametrize("style", ["text", "markdown", "html", "json"])
def test_a_studys_card_has_its_results_and_members(make_study: MakeStudy, style: str) -> None:
    study = make_study("one", {"": LOW})
    write_json(
        study.summary_file,
        {"kind": "runs", "monitor": "val/accuracy", "members": [], "statistics": {}, "best_trial": 3},
    )
    (study.figures / "sweep").mkdir(parents=True)
    (study.figures / "sweep" / "importance.png").write_bytes(b"")
    card = said("show", study.path, "--format", style)
    mean, sd = numpy.mean(list(LOW.values())), numpy.std(list(LOW.values()), ddof=1)
    for expected in (
        f"{mean:.4f}",
        f"{sd:.4f}",
        "seed-3",
        "best trial",
        "--runs 4",
        "figures/sweep/importance.png",
        "diva reproduce",
    ):
        assert expected in card
    if style == "html":
        HTMLParser().feed(card)
    if style == "json":
        assert json.loads(card)["status"] == "finished"
    assert "test/accuracy/one" not in card  # the score of a class


def test_a_study_that_is_not_over_says_how_far_it_is(make_study: MakeStudy) -> None:
    study = make_study("one", {"": LOW}, failed=["seed-1"], waiting=["seed-2"])
    card = said("show", study.path)
    assert "[unfinished: 3 of 4 ended, 1 failed]" in card
    assert "diva resume" in card and "the training loss is nan" in card and "waiting" in card


def test_a_study_of_configurations_has_a_row_for_each_and_no_common_mean(make_study: MakeStudy) -> None:
    study = make_study("one", {"lr=1": LOW, "lr=2": {0: 0.5}})
    card = said("show", study.path)
    assert "test/accuracy by configuration" in card and "lr=1" in card and "0.5000" in card and "diva compare" in card
    (row,) = listed(study.path.parent.parent)
    assert (row["n_configurations"], row["metric"], row["value"]) == (2, None, None)


def test_a_study_of_more_configurations_than_fit_says_what_can_be_compared(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects, "MOST_SUBJECTS", 2)
    monkeypatch.setattr(study_card, "MOST_SUBJECTS", 2)
    study = make_study("one", {"trial-0": {0: 0.5}, "trial-1": {0: 0.9}, "trial-2": {0: 0.7}})
    with pytest.raises(UsageError) as refused:
        subjects.open_subjects([study.path])
    best = [study.members / f"trial-{number}-seed-0" for number in (1, 2)]
    assert str(refused.value) == (
        "3 runs and configurations are named, at most 2 fit; of a study of many name those of its runs that matter: "
        f"diva compare {best[0]} {best[1]} ... (best first)"
    )
    assert "diva compare" not in said("show", study.path)
    assert len(subjects.open_subjects(best)) == 2


def test_runs_and_studies_are_listed_by_age_and_members_are_not(make_study: MakeStudy, make_run: MakeRun) -> None:
    study = make_study("20260102-000000-aaaaaa", {"": LOW})
    make_run("20260101-000000-aaaaaa")
    make_run("20260103-000000-aaaaaa")
    rows = listed(study.path.parent.parent)
    assert [Path(row["run"]).name[7] for row in rows] == ["1", "2", "3"]
    assert [row["kind"] for row in rows] == ["run", "runs", "run"] and rows[1]["n_members"] == 4
    assert rows[1]["value"] == pytest.approx(numpy.mean(list(LOW.values())), abs=1e-15)
    assert rows[1]["sd"] == pytest.approx(numpy.std(list(LOW.values()), ddof=1), rel=1e-12)
    table = said("list", "--output", study.path.parent.parent)
    assert " sd" in table.splitlines()[0] and " members" in table.splitlines()[0]


def test_without_studies_the_table_has_no_columns_for_them(make_run: MakeRun) -> None:
    run = make_run("20260101-000000-aaaaaa")
    head = said("list", "--output", run.path.parent.parent).splitlines()[0]
    assert head.split() == ["run", "status", "seed", "best", "epoch", "metric", "value"]


def test_a_damaged_study_is_listed_as_such(make_study: MakeStudy) -> None:
    study = make_study("one", {"": LOW})
    study.study_file.write_text("{")
    assert [row["status"] for row in listed(study.path.parent.parent)] == ["damaged"]
