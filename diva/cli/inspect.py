"""`diva list` and `diva show`: what is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from diva.cli.options import complete_run, console

OF_STUDIES = ("kind", "sd", "n_members", "n_configurations")


@click.command("list", epilog="Example: diva list runs --json")
@click.argument("what", type=click.Choice(["runs", "tasks", "datasets", "models"]), default="runs")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    envvar="DIVA_OUTPUT",
    help="where runs are  [default: runs]",
)
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=Path("data"),
    envvar="DIVA_DATA",
    help="where named data sets are kept  [default: data]",
)
@click.option("--json", "as_json", is_flag=True, help="print one JSON list")
def list_(what: str, output: Path, data_root: Path, as_json: bool) -> None:
    """List runs and studies, tasks, data sets or models."""
    from diva.experiment import listing

    rows: list[dict[str, Any]] = {
        "runs": lambda: listing.runs(output),
        "tasks": listing.tasks,
        "datasets": lambda: listing.datasets(data_root),
        "models": listing.models,
    }[what]()
    say = console()
    if as_json:
        say.result(json.dumps(rows, sort_keys=True))
    elif rows:
        names = [name for name in rows[0] if name not in OF_STUDIES or _is_telling(rows, name)]
        headers = [name.removeprefix("n_").replace("_", " ") for name in names]
        say.result(say.table(headers, [[_cell(row[name]) for name in names] for row in rows]))
    else:
        say.say(f"no {what} in {output}" if what == "runs" else f"no {what}")


def _is_telling(rows: list[dict[str, Any]], name: str) -> bool:
    """Whether a column tells anything: where there are no studies, those for them do not."""
    return any(row[name] not in (None, "run") for row in rows)


def _cell(value: Any) -> str:
    from diva.statistics.table import number_text

    if isinstance(value, float):
        return number_text(value, "nan")
    return "" if value is None else str(value)


@click.command(epilog="Example: diva show runs/image_classification/20260101-120000-0a1b2c --format markdown")
@click.argument("run", type=click.Path(path_type=Path), shell_complete=complete_run)
@click.option(
    "--format", "style", type=click.Choice(["text", "markdown", "html", "json"]), default="text", show_default=True
)
def show(run: Path, style: str) -> None:
    """Show the card of a run or a study: what was run, on what, with which result."""
    from diva.experiment.card import describe_run
    from diva.experiment.study_card import describe_study
    from diva.records.run_folder import open_run
    from diva.records.study_folder import is_study, open_study
    from diva.report.card import render

    card = describe_study(open_study(run)) if is_study(run) else describe_run(open_run(run))
    print(render(card, style))  # type: ignore[arg-type]
