"""`diva run`: its options are a run's options and, once the task is known, the task's knobs."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diva.cli.options import console, followed, given, option_of, print_outcome, shared_options
from diva.cli.studies import run_study, study_options
from diva.experiment.options import RunOptions
from diva.params import Param, knobs_of, options_of

if TYPE_CHECKING:
    from diva.experiment.request import Request

KNOBS = "diva.knobs"
EPILOG = "Examples: diva run --task image_classification --seed 42 · diva run --task ./cells --data ./images --epochs 5 --lr 0.01"


class RunCommand(click.Command):
    """A command that also has the knobs of the task named on its own command line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Look for --task and --config first, so that the task's knobs become options."""
        task = named_task(args)
        if task is not None:
            ctx.meta[KNOBS] = _knobs(task, self, lenient=ctx.resilient_parsing)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            flags = [flag for parameter in self.get_params(ctx) for flag in parameter.opts]
            close = get_close_matches(error.option_name, flags, n=1)
            hint = f"did you mean {close[0]}?" if close else f"diva run --task {task or 'TASK'} --help lists them"
            knobs = "" if task else "; a task's knobs are options once --task names it"
            raise click.UsageError(f"no option {error.option_name}; {hint}{knobs}", ctx) from None

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """A run's options and the task's knobs."""
        return [*super().get_params(ctx), *(option_of(knob) for knob in ctx.meta.get(KNOBS, ()))]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options of every run, then the task's knobs under a heading of their own."""
        knobs = {knob.name for knob in ctx.meta.get(KNOBS, ())}
        for heading, wanted in (("Options", False), ("Knobs of the task", True)):
            records = [p.get_help_record(ctx) for p in self.get_params(ctx) if (p.name in knobs) is wanted]
            shown = [record for record in records if record is not None]
            if shown:
                with formatter.section(heading):
                    formatter.write_dl(shown)
        if not knobs:
            with formatter.section("Knobs"):
                formatter.write_text("Every task has its own: diva run --task TASK --help")


def named_task(args: list[str]) -> str | None:
    """The task that a command line names, by --task or in a configuration file; the last one counts, a flag before a file."""
    found: dict[str, str | None] = {"--task": None, "--config": None}
    for place, argument in enumerate(args):
        name, equals, value = argument.partition("=")
        if name in found and (equals or place + 1 < len(args)):
            text = value if equals else args[place + 1]
            found[name] = text if name == "--task" else _task_of(Path(text)) or found[name]
    return found["--task"] or found["--config"]


def _task_of(config: Path) -> str | None:
    from diva.errors import UsageError
    from diva.experiment.request import read_config

    try:
        task = read_config(config).get("task")
    except UsageError:
        return None  # said when the file is read for its values
    return str(task) if task is not None else None


def _knobs(task: str, command: click.Command, *, lenient: bool) -> list[Param]:
    from diva.errors import DivaError
    from diva.experiment.find import find_task, import_root, imports_from, load_found, project_root

    try:
        found = find_task(task)
        with imports_from(project_root(found.path), first=import_root(found)):
            knobs = knobs_of(load_found(found))
    except DivaError:
        if lenient:
            return []
        raise
    own = {flag for parameter in command.params for flag in parameter.opts}
    for knob in knobs:
        if knob.flag in own:
            raise click.UsageError(
                f"--task {task}: its knob {knob.name} has the name of an option of diva {command.name}; rename it"
            )
    return knobs


def complete_task(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of templates, for the shell."""
    from diva.experiment.find import template_names

    return [name for name in template_names() if name.startswith(incomplete)]


def complete_data(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of data sets, for the shell."""
    from diva.data.catalogue import names

    return [name for name in names() if name.startswith(incomplete)]


@click.command(cls=RunCommand, epilog=EPILOG)
@click.option("--task", shell_complete=complete_task, help="a template's name, a path, or module:Class")
@click.option(
    "--config", multiple=True, type=click.Path(path_type=Path), help="YAML file of options and knobs; flags go over it"
)
@click.option("--dry-run", is_flag=True, help="show every value and where it comes from; write nothing")
@click.option("--runs", type=int, help="a study of so many runs, their seeds derived from --seed")
@click.option("--seeds", help="a study of a run for each of these seeds, as 1,2,3 or 0:10")
@study_options
@shared_options
def run(
    config: tuple[Path, ...],
    dry_run: bool,
    runs: int | None,
    seeds: str | None,
    jobs: int | None,
    launcher: str,
    launcher_options: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Run an experiment, or a study of many seeds, and leave a folder from which it can be reproduced."""
    from diva.experiment.request import resolve, rows, with_seed

    argv = ("diva", *sys.argv[1:]) if sys.argv[1:2] == ["run"] else ("diva", "run")
    request = resolve(given(flags), config, argv)
    if runs is not None:
        request = with_seed(request)
    many = _seeds_of(request, runs, seeds)
    if seeds is not None:
        request = with_seed(request, many[0])
    say = console(quiet=quiet)
    if dry_run:
        from diva.experiment.run import check_request

        check_request(request)
        shown = [(name, _text(value), origin) for name, value, origin in rows(request)]
        shown += [("seeds", _text(many), "given" if runs is None else "derived from seed")] if many else []
        say.result(say.table(("parameter", "value", "from"), shown))
        return
    if many:
        from diva.experiment.study.multi_run import multi_run

        launching = {"jobs": jobs, "launcher": launcher, "launcher_options": launcher_options}
        run_study(request, "runs", multi_run(many), len(many), launching, say, as_json=as_json)
        return
    if jobs is not None or launcher != "local" or launcher_options:
        raise click.UsageError("--jobs and --launcher are of studies; give --runs or --seeds too")
    if followed():
        return
    from diva.experiment.run import start

    folder, result = start(request, say)
    print_outcome(folder.path, result, as_json=as_json)


def _seeds_of(request: Request, runs: int | None, seeds: str | None) -> list[int]:
    """The seeds of a study: those given, or so many derived from the run's; none when a single run is asked for."""
    from diva.experiment.study.multi_run import derived_seeds, given_seeds

    if runs is not None and seeds is not None:
        raise click.UsageError("--runs and --seeds exclude each other; --seeds says how many there are")
    if seeds is not None:
        if request.origins["seed"] == "command line":
            raise click.UsageError("--seed and --seeds exclude each other; --seed is what --runs derives seeds from")
        return given_seeds(seeds)
    return derived_seeds(request.options.seed or 0, runs) if runs is not None else []


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else "" if value is None else str(value)


run.params += [option_of(param, complete_data if param.name == "data" else None) for param in options_of(RunOptions)]
