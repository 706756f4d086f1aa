"""`diva aggregate`: what several runs have in common and how far they are apart, in TensorBoard and as figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from diva.cli.options import PATH, complete_run, console


@click.command(epilog="Example: diva aggregate runs/image_classification/*")
@click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN...", shell_complete=complete_run)
@click.option("--to", "folder", type=PATH, help="the folder to write  [default: a new one in runs/aggregates]")
@click.option("--output", type=PATH, default=Path("runs"), envvar="DIVA_OUTPUT", help="where runs are  [default: runs]")
@click.option("--quiet", is_flag=True, help="say nothing but warnings and results")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object as the last line")
def aggregate(runs: tuple[Path, ...], folder: Path | None, output: Path, quiet: bool, as_json: bool) -> None:
    """Show what runs have in common and how far they are apart: mean, standard deviation, lowest and highest, at each step.

    RUN is a run's folder, finished or not, or a study's. Runs that differ by their seed alone are one configuration; each has a band
    of its own. The folder holds tensorboard/ and figures/; its path is the last line.
    """
    from diva.experiment.study.gather import aggregate as gather

    say = console(quiet=quiet)
    made, record = gather(runs, folder, output, say)
    if as_json:
        say.result(json.dumps({"aggregate": str(made), **record}, sort_keys=True))
        return
    rows = [
        [name, metric, found["n"], *(_cell(found[key]) for key in ("mean", "sd", "median", "min", "max"))]
        for name, configuration in record["configurations"].items()
        for metric, found in configuration["statistics"].items()
    ]
    if rows:
        say.result(say.table(("configuration", "metric", "n", "mean", "sd", "median", "min", "max"), rows))
    say.result(str(made))


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4f}"
