"""`diva resume`: continue an interrupted run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from diva.cli.options import complete_run, console, print_outcome, shared_options


@click.command(epilog="Example: diva resume runs/image_classification/20260101-120000-0a1b2c")
@click.argument("run", type=click.Path(path_type=Path), shell_complete=complete_run)
@click.option("--data", help="where the data are now, when they moved")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=Path("data"),
    envvar="DIVA_DATA",
    help="where named data sets are",
)
@shared_options
def resume(run: Path, data: str | None, data_root: Path, as_json: bool, quiet: bool) -> None:
    """Continue an interrupted run; it ends with the bits of an uninterrupted one."""
    from diva.experiment.recorded import become_recorded_diva, verify_record
    from diva.experiment.resume import resume as continue_run
    from diva.records.run_folder import open_run

    folder = open_run(run)
    become_recorded_diva(folder, verify_record(folder), sys.argv[1:])
    result = continue_run(folder, data, data_root, console(quiet=quiet))
    print_outcome(folder.path, result, as_json=as_json)
