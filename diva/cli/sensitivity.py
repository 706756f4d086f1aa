"""`diva sensitivity`: how far results move with each factor, measured against what seeds alone do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diva.cli.options import complete_run, console, given, option_of, shared_options
from diva.cli.run import RunCommand
from diva.cli.studies import run_study, study_options
from diva.experiment.options import RunOptions
from diva.params import options_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diva.experiment.request import Request
    from diva.experiment.sensitivity.factors import Factor
    from diva.report.console import Console

EPILOG = (
    "Examples: diva sensitivity --task image_classification --seed 42 --vary batch_size=16,64 --vary lr=0.001,0.01 · "
    "diva sensitivity runs/image_classification/20260101-120000-0a1b2c --vary seed=0:10 --vary stream:init=0:10"
)


@click.command(cls=RunCommand, epilog=EPILOG)
@click.argument("run", type=click.Path(path_type=Path), required=False, shell_complete=complete_run)
@click.option("--task", help="a template's name, a path, or module:Class: the base, where no RUN is given")
@click.option(
    "--config", multiple=True, type=click.Path(path_type=Path), help="YAML file of options and knobs; flags go over it"
)
@click.option(
    "--vary",
    multiple=True,
    metavar="NAME=VALUES",
    help="a knob, an option, seed, or stream:NAME, and its values, as 16,64 or 0:10 (0 to 9) or 0.1:0.5:0.1; repeatable",
)
@click.option("--grid", is_flag=True, help="all combinations; default: one factor at a time around the base")
@click.option("--runs", type=int, help="seeds that each level runs with; default: knobs and options all, streams one")
@click.option("--metric", help="what tables and figures show; default: the metric that names the best epoch")
@click.option("--dry-run", is_flag=True, help="show what would run; write nothing")
@study_options
@shared_options
def sensitivity(
    run: Path | None,
    vary: tuple[str, ...],
    grid: bool,
    runs: int | None,
    metric: str | None,
    config: tuple[Path, ...],
    dry_run: bool,
    jobs: int | None,
    launcher: str,
    launcher_options: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Vary seeds, knobs, options and streams of randomness around a base, and say which of them move the result.

    The base is a RUN, with its code and data, or what --task and its knobs describe. Seeds come first, as the yardstick; they are added
    when they are not varied. Given a finished study of this kind, its tables are shown again, those of --metric.
    """
    say = console(quiet=quiet)
    if run is not None and _shown_again(run, metric, say, as_json=as_json):
        return
    if not vary:
        raise click.UsageError("nothing is varied; give --vary, as --vary batch_size=16,64 or --vary seed=0:10")
    request = _base(run, given(flags), config, say)
    request, factors = _settled(request, vary, elsewhere=launcher != "local")
    from diva.experiment.sensitivity.design import design
    from diva.experiment.sensitivity.plan import sensitivity as plan

    seed = request.options.seed
    assert seed is not None
    planned = design(factors, seed, grid=grid, runs=runs)
    jobs = _jobs(jobs, launcher, request, factors, len(planned.members))
    rows = [
        (f.name, ",".join(level.label for level in f.levels), len({c.member for c in planned.of(f)})) for f in factors
    ]
    say.say(f"{len(planned.members)} runs{' of a grid' if grid else ''}, {jobs} at a time")
    if dry_run:
        say.result(say.table(("factor", "values", "runs"), rows))
        return
    from diva.experiment.sensitivity.trial import try_levels

    try_levels(request, factors, say)
    record = plan(factors, grid=grid, runs=runs, metric=metric)
    launching = {"jobs": jobs, "launcher": launcher, "launcher_options": launcher_options}
    run_study(request, "sensitivity", record, len(planned.members), launching, say, as_json=as_json)


def _shown_again(path: Path, metric: str | None, say: Console, *, as_json: bool) -> bool:
    """Show the tables of a study of this kind; False when it is none."""
    from diva.errors import UsageError
    from diva.experiment.sensitivity.tables import show
    from diva.records.study_folder import is_study, open_study

    if not is_study(path):
        return False
    study = open_study(path)
    if study.record().kind != "sensitivity":
        raise UsageError(f"{path}: is a study, not a run; give a run, as one of {path}/members, or --task")
    context = click.get_current_context()
    typed = [p for p in context.params if context.get_parameter_source(p) is click.core.ParameterSource.COMMANDLINE]
    strange = sorted(set(typed) - {"run", "metric", "as_json", "quiet"})
    if strange:
        names = ", ".join("--" + name.replace("_", "-") for name in strange)
        raise UsageError(f"{path}: is a finished study, which is shown again; leave out {names}")
    if as_json:
        print(json.dumps({**study.summary(), "study": str(study.path), "status": "finished"}, sort_keys=True))
    else:
        show(study.summary(), say, metric)
    return True


def _base(run: Path | None, flags: dict[str, Any], config: tuple[Path, ...], say: Console) -> Request:
    from diva.experiment.request import resolve
    from diva.params import convert

    argv = ("diva", *sys.argv[1:]) if sys.argv[1:2] == ["sensitivity"] else ("diva", "sensitivity")
    if run is None:
        return resolve(flags, config, argv)
    if config or "task" in flags:
        raise click.UsageError("RUN and --task or --config exclude each other; a run brings its own task and knobs")
    from diva.experiment.sensitivity.base import base_of_run, hand_over
    from diva.records.run_folder import open_run

    folder = open_run(run)
    hand_over(folder, sys.argv[1:], say)
    params = {param.name: param for param in options_of(RunOptions)}
    return base_of_run(
        folder, {name: convert(params[name], value, "command line") for name, value in flags.items()}, argv
    )


def _settled(request: Request, vary: Sequence[str], *, elsewhere: bool) -> tuple[Request, tuple[Factor, ...]]:
    """The base, and what is varied around it; neither depends on how many runs go at a time."""
    from diva.experiment.sensitivity.base import settled
    from diva.experiment.sensitivity.factors import read_factors, with_first_values

    request = with_first_values(vary, settled(request, elsewhere=elsewhere))
    return request, read_factors(vary, request, elsewhere=elsewhere)


def _jobs(jobs: int | None, launcher: str, request: Request, factors: Sequence[Factor], n: int) -> int:
    """How many of n runs go at a time: on this machine one where threads are varied, unless a number is asked for."""
    from diva.experiment.study.create import choose_jobs

    if jobs is None and launcher == "local" and any(factor.name == "threads" for factor in factors):
        return 1
    return choose_jobs(jobs, launcher, request.options, n)


sensitivity.params += [option_of(param) for param in options_of(RunOptions)]
