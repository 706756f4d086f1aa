"""`diva compare`: runs and studies side by side, and where two runs part."""

from __future__ import annotations

from pathlib import Path

import click

from diva.cli.options import complete_run

EPILOG = (
    "Examples: diva compare RUN RUN --diff · diva compare STUDY STUDY --metric test/accuracy · diva compare RUN STUDY"
)


@click.command(epilog=EPILOG)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), shell_complete=complete_run)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="metric that studies are tested on  [default: the monitored one, on test; with a sweep among them on val]",
)
@click.option(
    "--base",
    default="",
    metavar="LABEL|PATH",
    help="what all others are compared with  [default: the first named; a sweep's best trial on val, a sensitivity study's base]",
)
@click.option("--all", "everything", is_flag=True, help="also the knobs and options that are equal")
@click.option("--diff", is_flag=True, help="also the lines in which the code of two runs differs")
@click.option(
    "--format", "style", type=click.Choice(["text", "markdown", "html", "json"]), default="text", show_default=True
)
def compare(
    runs: tuple[Path, ...], metrics: tuple[str, ...], base: str, everything: bool, diff: bool, style: str
) -> None:
    """Compare runs, studies and members of studies: knobs, code, environment, data and metrics.

    Of two runs it names the first epoch, step and tensor at which they part, and what may explain it. Of studies it compares the metrics,
    seed by seed where the seeds are the same, and says in words what is settled; a study of several configurations can stand alone.
    All are compared with one, the base; there is no verdict between different tasks or data.
    """
    from diva.experiment.compare import compare as compare_all
    from diva.experiment.compare.subjects import open_subjects
    from diva.report.card import render

    card = compare_all(open_subjects(runs, base), metrics, everything=everything, diff=diff, figures=style == "html")
    print(render(card, style), end="")  # type: ignore[arg-type]
