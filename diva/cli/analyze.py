"""`diva analyze`: what a data set is like, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from diva.cli.options import PATH, console

if TYPE_CHECKING:
    from diva.report.console import Progress


@click.command(epilog="Example: diva analyze data/digits --to digits_report")
@click.argument("folder", type=PATH)
@click.option(
    "--layout", help="how the samples lie in the folder, where that is not seen from it, as in --layout clips"
)
@click.option("--jobs", type=click.IntRange(min=1), help="worker processes  [default: one per core, at most 8]")
@click.option(
    "--similar/--no-similar",
    default=True,
    help="look for images that look alike, besides equal ones  [default: similar]",
)
@click.option(
    "--expect",
    type=PATH,
    help="a YAML file with expectations; exit 4 names every one that is not met",
)
@click.option("--to", type=PATH, help="a folder for figures and analysis.json; without it, none are written")
@click.option("--json", "as_json", is_flag=True, help="print the whole report as one JSON object")
def analyze(
    folder: Path,
    layout: str | None,
    jobs: int | None,
    similar: bool,
    expect: Path | None,
    to: Path | None,
    as_json: bool,
) -> None:
    """Count, measure and check a data set: classes, sizes, mean and standard deviation, duplicates, leaks between splits.

    Mean and standard deviation are of the training split, per channel, in [0, 1], exact. What cannot be read is listed and
    is no error. Nothing is written into the data set; the report is kept beside it until the data change.
    """
    from diva.data import expectations
    from diva.data.analysis import analyse
    from diva.errors import DataError

    folder = folder.expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is not a folder' if folder.exists() else 'no such folder'}")
    stated = [*expectations.stated(folder), *(expectations.read(expect.expanduser()) if expect else [])]
    say = console()
    bar: Progress | None = None
    shown = 0

    def progress(done: int, total: int) -> None:
        nonlocal bar, shown
        if bar is None:
            bar = say.progress(total, "analyze")
        bar.update(done - shown)
        shown = done

    try:
        report = analyse(folder, layout, jobs, similar, progress)
    finally:
        if bar is not None:
            bar.close()
    for warning in report["warnings"]:
        say.warn(warning)
    if as_json:
        say.result(json.dumps(report, sort_keys=True))
    else:
        from diva.report.data_summary import summarise

        for line in summarise(report):
            say.result(line)
    if to is not None:
        from diva.experiment.data_report import write_report

        written = write_report(folder, report, to.expanduser())
        say.say(f"{to}: {', '.join(path.name for path in written)}")
    expectations.require(report, stated)
