"""`diva sweep`: search the values of a task's knobs that give the best validation metric."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diva.cli.options import console, given, option_of, shared_options
from diva.cli.run import RunCommand, complete_data, complete_task
from diva.cli.studies import run_study, study_options
from diva.experiment.options import RunOptions
from diva.experiment.search import SAMPLERS
from diva.params import options_of, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diva.experiment.request import Request
    from diva.experiment.search.plan import SweepPlan
    from diva.report.console import Console

EPILOG = "Example: diva sweep --task image_classification --over lr=log:1e-4:1e-1 --over batch_size=16,32 --trials 30"
SHOWN = 20  # points of a dry run
IN_FLIGHT = 4  # trials under way on a cluster, where suggestions wait for outcomes and nobody said --jobs


@click.command(cls=RunCommand, epilog=EPILOG)
@click.option("--task", shell_complete=complete_task, help="a template's name, a path, or module:Class")
@click.option(
    "--config", multiple=True, type=click.Path(path_type=Path), help="YAML file of options and knobs; flags go over it"
)
@click.option(
    "--over",
    "overs",
    multiple=True,
    metavar="KNOB=VALUES",
    help="a knob to search: lr=log:1e-4:1e-1, dropout=uniform:0:0.5, width=int:8:64 or batch_size=16,32; once per knob",
)
@click.option(
    "--sampler",
    type=click.Choice(SAMPLERS),
    default="random",
    help="what chooses the trials; tpe learns from earlier ones (Optuna), sigopt asks a server  [default: random]",
)
@click.option("--trials", type=int, help="points to try  [default: 20; all of a grid]")
@click.option("--runs", type=int, help="runs per trial, of seeds derived from --seed: their mean counts  [default: 1]")
@click.option("--seeds", help="the seeds of each trial's runs, as 1,2,3 or 0:3")
@click.option("--prune", is_flag=True, help="stop trials that fall behind the median of earlier ones")
@click.option(
    "--prune-after", type=int, metavar="EPOCH", help="not before this epoch  [default: a quarter of --epochs]"
)
@click.option("--dry-run", is_flag=True, help="show the space and the first points; write nothing")
@study_options
@shared_options
def sweep(
    config: tuple[Path, ...],
    overs: tuple[str, ...],
    sampler: str,
    trials: int | None,
    runs: int | None,
    seeds: str | None,
    prune: bool,
    prune_after: int | None,
    dry_run: bool,
    jobs: int | None,
    launcher: str,
    launcher_options: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Search for the best values of a task's knobs, by a validation metric; leaves a study and its best.yaml."""
    from diva.experiment.request import resolve, with_seed

    argv = ("diva", *sys.argv[1:]) if sys.argv[1:2] == ["sweep"] else ("diva", "sweep")
    request = with_seed(resolve(given(flags), config, argv))
    say = console(quiet=quiet)
    if prune_after is not None and not prune:
        raise click.UsageError("--prune-after says when --prune begins; give --prune too")
    after = None if not prune else prune_after if prune_after is not None else max(1, request.task.epochs // 4)
    launching = {"jobs": jobs, "launcher": launcher, "launcher_options": launcher_options}
    plan = _plan(request, overs, sampler, trials, _seeds(request, runs, seeds), launching, after)
    if dry_run:
        _show(plan, say)
        return
    launching["jobs"] = _jobs(request, plan, launching)
    run_study(request, "sweep", plan.to_json(), plan.trials * len(plan.seeds), launching, say, as_json=as_json)


def _plan(
    request: Request,
    overs: tuple[str, ...],
    sampler: str,
    trials: int | None,
    seeds: list[int],
    launching: Mapping[str, Any],
    prune_after: int | None,
) -> SweepPlan:
    from dataclasses import replace

    from diva.experiment.search.plan import lag_of, plan_sweep
    from diva.experiment.search.space import read_space

    space = read_space(overs, type(request.task), request.knobs)
    plan = plan_sweep(
        space,
        sampler,
        trials,
        request.options.seed or 0,
        seeds,
        monitor=request.task.monitor,
        prune_after=prune_after,
    )
    return replace(plan, lag=lag_of(_jobs(request, plan, launching), len(seeds)))


def _jobs(request: Request, plan: SweepPlan, launching: Mapping[str, Any]) -> int:
    from diva.experiment.study.create import choose_jobs

    n_trials = plan.trials if launching["launcher"] == "local" or not plan.waits else min(plan.trials, IN_FLIGHT)
    return choose_jobs(launching["jobs"], launching["launcher"], request.options, n_trials * len(plan.seeds))


def _seeds(request: Request, runs: int | None, seeds: str | None) -> list[int]:
    """The seeds of each trial's runs: those given, or so many derived from the sweep's; of one run it is the sweep's own."""
    from diva.experiment.study.multi_run import derived_seeds, given_seeds

    if runs is not None and seeds is not None:
        raise click.UsageError("--runs and --seeds exclude each other; --seeds says how many there are")
    if seeds is not None:
        return given_seeds(seeds)
    seed = request.options.seed or 0
    return [seed] if runs in (None, 1) else derived_seeds(seed, runs or 0)


def _show(plan: SweepPlan, say: Console) -> None:
    """The space, and those of the first points that hang on no outcome."""
    from diva.experiment.search.samplers import N_STARTUP, Told, suggest

    rows = [(d.name, d.kind, d.words(), d.n_values or "any") for d in plan.space]
    say.result(say.table(("knob", "kind", "values", "how many"), rows))
    n_known = {"sigopt": 0, "tpe": N_STARTUP}.get(plan.sampler, SHOWN)
    told: list[Told] = []
    for number in range(min(n_known, SHOWN, plan.trials)):
        told.append(Told(number, suggest(plan.sampler, plan.space, plan.seed, told, less=True), "running"))
    say.result("")
    if told:
        points = [(trial.number, *(text_of(trial.point[d.name]) for d in plan.space)) for trial in told]
        say.result(say.table(("trial", *(d.name for d in plan.space)), points))
    more = plan.trials - len(told)
    runs = f" of {len(plan.seeds)} runs each" if len(plan.seeds) > 1 else ""
    say.result(f"{plan.trials} trials{runs}" + (f", {more} of them not shown" if more else ""))


sweep.params += [option_of(param, complete_data if param.name == "data" else None) for param in options_of(RunOptions)]
