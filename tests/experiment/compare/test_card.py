"""The card of a comparison: the same facts in every format, the verdict first, nothing that depends on the place."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from click.testing import CliRunner

from diva.cli import cli
from diva.experiment.compare import compare
from diva.experiment.compare.subjects import open_subjects
from diva.report.card import render

from .conftest import tensors_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .conftest import MakeRun, MakeStudy

LOW = {seed: 0.90 + 0.001 * seed for seed in range(6)}
HIGH = {seed: 0.93 + 0.0015 * seed for seed in range(6)}
Style = Literal["text", "markdown", "html", "json"]
STYLES: list[Style] = ["text", "markdown", "html", "json"]


def show(paths: Sequence[Path], style: Style = "text", **how: Any) -> str:
    return render(compare(open_subjects(paths), figures=style == "html", **how), style)


@pytest.fixture
def two(make_run: MakeRun) -> list[Path]:
    one = make_run("20260101-000000-aaaaaa", losses=[3.0, 2.0])
    other = make_run(
        "20260101-000000-bbbbbb", losses=[3.0, 2.5], knobs={"lr": 0.25}, files={"toy/task.py": "x = 2\n"}, data={"a.png": "b"},
        changes={"losses": 2, "weights": 2, "optimizer": 2}, metrics={"val/accuracy": 0.5, "test/accuracy": 0.75},
    )  # fmt: skip
    one.tensors_file.write_text(tensors_of(["weight:conv", "weight:fc"], [(0, 0, {}), (1, 3, {})]))
    other.tensors_file.write_text(tensors_of(["weight:conv", "weight:fc"], [(0, 0, {}), (1, 3, {"weight:fc": 1})]))
    return [one.path, other.path]


@pytest.mark.parametrize("style", STYLES)
def test_two_runs_are_told_apart_in_every_format(two: list[Path], style: Style) -> None:
    said = show(two, style, diff=True)
    for expected in ("20260101-000000-bbbbbb", "DIFFERENT", "weight:fc", "0.25", "knob lr", "task.py", "a.png"):
        assert expected in said
    if style != "html":
        assert "+x = 2" in said
    if style == "html":
        HTMLParser().feed(said)
        assert "data:image/png;base64," in said and "<script" not in said
    if style == "json":
        found = json.loads(said)["comparison"]
        assert found["against_first"][0]["parting"] == {"epoch": 1, "step": 3, "in": ["losses", "weights", "optimizer"]}
        assert found["against_first"][0]["tensor"] == {"epoch": 1, "step": 3, "names": ["weight:fc"]}
        assert found["against_first"][0]["first_number"] == [2, "batch/loss", 2.0, 2.5]
        assert found["differ"]["knobs"] == {"lr": {"values": [0.1, 0.25], "can_change_bits": True}}
        assert found["differ"]["files"] == {"B": [{"path": "task.py", "kind": "changed", "added": 1, "removed": 1}]}


def test_where_two_runs_part_is_a_line_each(two: list[Path]) -> None:
    said = " ".join(show(two).split())
    for line in (
        "the same until the first step", "first difference after epoch 1, step 3, in losses, weights, optimizer",
        "first number batch/loss at step 2: 2.0 and 2.5", "first tensor weight:fc (epoch 1, step 3)",
        "what may explain it knob lr, code task.py, data footprint",
    ):  # fmt: skip
        assert line in said
    assert "+x = 2" not in said  # only with --diff


def test_equal_runs_are_identical_and_differ_in_nothing(make_run: MakeRun) -> None:
    card = compare(open_subjects([make_run("one").path, make_run("two").path]))
    assert card["status"].startswith("IDENTICAL: 2 epochs, 6 steps")
    differ = card["comparison"]["differ"]
    assert differ.pop("files") == {"B": []}
    assert set(differ) == {"knobs", "options", "code", "environment", "data"} and not any(differ.values())


def test_what_nothing_recorded_explains_is_said(make_run: MakeRun) -> None:
    paths = [make_run("one").path, make_run("two", changes={"weights": 1}).path]
    assert "nothing that is recorded" in show(paths)


@pytest.mark.parametrize("n", [3, 5, 30])
def test_many_runs_stand_side_by_side(make_run: MakeRun, n: int) -> None:
    paths = [
        make_run(f"run-{i:02}", seed=i, knobs={"lr": 0.1 * (i // 2)}, changes={"weights": i % 2}).path for i in range(n)
    ]
    card = compare(open_subjects(paths))
    assert card["status"].startswith("DIFFERENT: ")
    labels = [row["label"] for row in card["comparison"]["runs"]]
    assert len(set(labels)) == n and labels[:3] == ["A", "B", "C"]
    assert card["comparison"]["differ"]["knobs"]["lr"]["values"] == [0.1 * (i // 2) for i in range(n)]
    assert all(render(card, style) for style in STYLES)
    (metrics,) = (section["table"] for section in card["sections"] if section["name"].startswith("Metrics"))
    assert len(metrics["headers"]) <= 8 and all(len(row) == len(metrics["headers"]) for row in metrics["rows"])
    wanted = labels if n > 6 else ["test/accuracy", "val/accuracy"]
    assert [row[0] for row in metrics["rows"]][: len(wanted)] == wanted


def test_the_place_of_the_runs_changes_nothing(two: list[Path], tmp_path: Path) -> None:
    moved = shutil.copytree(two[0].parents[2], tmp_path / "moved" / "deep", symlinks=True)
    again = [moved / path.relative_to(two[0].parents[2]) for path in two]
    assert all(show(two, style) == show(again, style) for style in STYLES)


@pytest.mark.parametrize("style", STYLES)
def test_studies_are_compared_in_every_format(make_study: MakeStudy, style: Style) -> None:
    paths = [
        make_study("one", {"": LOW}).path,
        make_study("two", {"": HIGH}, knobs={"lr": 0.25}, failed=["seed-5"]).path,
    ]
    said = show(paths, style)
    for expected in ("Not settled: B is ahead of A", "0.25", "the training loss is nan", "5 pairs"):
        assert expected in " ".join(said.split())
    if style == "json":
        found = json.loads(said)["comparison"]
        assert found["tests"][0]["seeds"] == [0, 1, 2, 3, 4]
        assert found["groups"][1]["metrics"]["test/accuracy"]["by_seed"]["0"] == 0.93
        assert "test/accuracy/one" not in found["groups"][0]["metrics"]
        assert [row["seed"] for row in found["same_seeds"]] == [0, 1, 2, 3, 4] and "seed" not in found["differ"][
            "options"
        ]


def test_members_with_the_same_seed_and_bits_are_counted(make_study: MakeStudy) -> None:
    said = show([make_study(name, {"": LOW}).path for name in ("one", "two")])
    assert "6 of 6 are identical to those of A with the same seed" in said


def test_a_member_is_a_run_like_any_other(make_study: MakeStudy) -> None:
    study = make_study("one", {"": LOW})
    said = show([study.members / "seed-0", study.members / "seed-1"])
    assert "one-seed-0 and one-seed-1" in said and "what may explain it  seed" in said


def test_the_command_prints_the_card_and_refuses_in_a_line(two: list[Path]) -> None:
    done = CliRunner().invoke(cli, ["compare", *map(str, two), "--format", "json"])
    assert json.loads(done.output)["comparison"]["runs"][0]["name"] == two[0].name
    refused = CliRunner().invoke(cli, ["compare", *map(str, two), "--metric", "test/accuracy"])
    assert refused.exit_code != 0 and "--metric names what studies are tested on" in str(refused.exception)
