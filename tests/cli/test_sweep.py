"""`diva sweep`: what its command line means, without running anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click import Choice
from click.testing import CliRunner, Result

from diva.cli import cli
from diva.experiment import launch, search

TASK = Path(__file__).parents[1] / "contract" / "users_task.py"


def sweep(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["sweep", "--task", str(TASK), "--seed", "3", "--dry-run", *arguments])


def numbers_in(row: str) -> list[float]:
    return [float(word) for word in row.split()]


def test_a_dry_run_shows_the_space_and_the_first_points():
    done = sweep("--over", "lr=log:1e-4:1e-1", "--over", "batch-size=8,16", "--trials", "4", "--runs", "2")
    assert done.exit_code == 0, done.exception
    rows = [line for line in done.output.splitlines() if re.match(r" +\d", line)]
    assert [numbers_in(row)[0] for row in rows] == [0, 1, 2, 3]
    assert all(1e-4 <= numbers_in(row)[1] <= 1e-1 and numbers_in(row)[2] in (8, 16) for row in rows)
    assert "0.0001 to 0.1, on the logarithm" in done.output
    assert done.output.endswith("4 trials of 2 runs each\n")


def test_a_dry_run_of_a_grid_shows_all_its_points():
    done = sweep("--over", "lr=0.1,0.2", "--over", "batch_size=8,16", "--sampler", "grid")
    rows = [numbers_in(line) for line in done.output.splitlines() if re.match(r" +\d", line)]
    assert rows == [[0, 0.1, 8], [1, 0.1, 16], [2, 0.2, 8], [3, 0.2, 16]]


def test_a_dry_run_of_tpe_stops_where_suggestions_hang_on_outcomes():
    done = sweep("--over", "lr=log:1e-4:1e-1", "--sampler", "tpe", "--trials", "30")
    assert done.output.endswith("30 trials, 20 of them not shown\n")


def test_samplers_and_launchers_are_listed_once():
    offered = {
        param.name: param.type.choices for param in cli.commands["sweep"].params if isinstance(param.type, Choice)
    }
    assert offered["sampler"] is search.SAMPLERS and offered["launcher"] is launch.LAUNCHERS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "at least one --over"),
        (("--over", "lr=0.1", "--runs", "2", "--seeds", "1,2"), "exclude each other"),
        (("--over", "lr=0.1", "--runs", "0"), "--runs 0: must be at least 1"),
        (("--over", "lr=0.1", "--prune-after", "2"), "give --prune too"),
        (("--over", "lr=0.1", "--prune", "--prune-after", "0"), "--prune-after 0: must be at least 1"),
        (("--over", "lr=0.1", "--jobs", "0"), "--jobs 0: must be at least 1"),
        (("--over", "lr=0.1", "--monitor", "test/accuracy"), "a metric of val"),
        (("--over", "lr=0.1", "--sampler", "sigopt"), "SIGOPT_API_TOKEN"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SIGOPT_API_TOKEN", raising=False)
    done = sweep(*arguments)
    assert message in done.output + str(done.exception)
    assert done.exit_code != 0


def test_a_knob_with_the_name_of_an_option_of_the_sweep_is_refused(tmp_path: Path):
    (tmp_path / "clash.py").write_text(TASK.read_text().replace("width", "trials"))
    done = CliRunner().invoke(cli, ["sweep", "--task", str(tmp_path / "clash.py"), "--over", "lr=0.1", "--dry-run"])
    assert "its knob trials has the name of an option of diva sweep" in done.output
