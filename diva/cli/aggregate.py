"""`diva aggregate`: what several runs have in common and how far they are apart, in TensorBoard and as figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from diva.cli.options import PATH, complete_run, console

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADERS: Final = ("configuration", "metric", "runs", "mean ± sd", "95 % interval", "min", "max")


@click.command(epilog="Example: diva aggregate runs/image_classification")
@click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN...", shell_complete=complete_run)
@click.option("--to", "folder", type=PATH, help="the folder to write  [default: a new one in runs/aggregates]")
@click.option("--output", type=PATH, default=Path("runs"), envvar="DIVA_OUTPUT", help="where runs are  [default: runs]")
@click.option("--quiet", is_flag=True, help="say nothing but warnings and results")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object as the last line")
def aggregate(runs: tuple[Path, ...], folder: Path | None, output: Path, quiet: bool, as_json: bool) -> None:
    """Show what runs have in common and how far they are apart: mean, standard deviation, lowest and highest, at each step.

    RUN is a run's folder, finished or not, or a study's, or a folder that has such in it: then the finished ones of these. Runs that
    differ by their seed alone are one configuration; each has a band of its own. The folder that is written holds tensorboard/ and
    figures/; its path is the last line.
    """
    from diva.experiment.study.gather import aggregate as gather
    from diva.experiment.study.named import named

    say = console(quiet=quiet)
    made, record = gather(named(runs, say), folder, output, say)
    if as_json:
        say.result(json.dumps({"aggregate": str(made), **record}, sort_keys=True))
        return
    rows = summary_rows(record["configurations"])
    if rows:
        say.result(say.table(HEADERS, rows))
    say.result(str(made))


def summary_rows(configurations: Mapping[str, Any]) -> list[list[str]]:
    """A row per configuration and metric, as `HEADERS` names its cells; `runs` says of how many of its runs the number is."""
    from diva.statistics.table import interval_text, number_text

    rows = []
    for name, configuration in configurations.items():
        for metric, found in configuration["statistics"].items():
            n, n_runs = found["n"], len(configuration["members"])
            spread = number_text(found["mean"]) + (f" ± {number_text(found['sd'])}" if n > 1 else "")
            ends = interval_text(found["ci_t"]), number_text(found["min"]), number_text(found["max"])
            rows.append([name, metric, str(n) if n == n_runs else f"{n} of {n_runs}", spread, *ends])
    return rows
