"""From a declared parameter to a command-line option, and what several commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

    from diva.params import Param
    from diva.report.console import Console


class _NamedPath(click.Path):
    """A path that has a name: an empty argument, as of an unset variable, is not the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty", param, context)
        return super().convert(value, param, context)


PATH = _NamedPath(path_type=Path)

Completion: TypeAlias = "Callable[[click.Context, click.Parameter, str], list[CompletionItem] | list[str]]"
METAVARS = {"int": "INT", "float": "FLOAT", "path": "PATH", "text": "TEXT", "bool": ""}


def option_of(param: Param, complete: Completion | None = None) -> click.Option:
    """The option of a parameter. Its default stays out of the parsed values: what is not given can come from a file."""
    text = param.help + ("" if param.default in (None, ()) else f"  [default: {_shown(param.default)}]")
    if param.kind == "bool":
        return click.Option([f"{param.flag}/--no-{param.flag[2:]}"], default=None, help=text)
    kind = click.Choice(param.choices) if param.choices else click.STRING
    metavar = None if param.choices else METAVARS[param.kind]
    return click.Option(
        [param.flag], type=kind, metavar=metavar, multiple=param.many, help=text, shell_complete=complete
    )


def _shown(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def given(values: dict[str, Any]) -> dict[str, Any]:
    """The values that were on the command line."""
    return {name: value for name, value in values.items() if value is not None and value != ()}


def shared_options(function: Callable[..., None]) -> Callable[..., None]:
    """`--json` and `--quiet`, of every command that trains."""
    function = click.option("--quiet", is_flag=True, help="say nothing but warnings and results")(function)
    return click.option("--json", "as_json", is_flag=True, help="print one JSON object as the last line")(function)


def console(*, quiet: bool = False) -> Console:
    """The console of this process."""
    from diva.report.console import Console

    return Console(sys.stdout, sys.stderr, quiet=quiet)


def followed() -> bool:
    """Whether this process was started as one of a run's workers that write nothing; its work is then done."""
    from diva.experiment.workers import follows

    if not follows():
        return False
    from diva.experiment.follow import follow

    follow()
    return True


def print_outcome(run: Path, result: dict[str, Any], *, as_json: bool) -> None:
    """The last line of a command that trains: the run's folder, or with --json one object."""
    import json

    names = ("status", "metrics", "weights_digest")
    print(json.dumps({"run": str(run), **{name: result[name] for name in names}}, sort_keys=True) if as_json else run)


def complete_run(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Folders of runs and studies below runs/, for the shell."""
    from diva.records.run_folder import find_runs
    from diva.records.study_folder import find_studies

    runs, studies = find_runs(Path("runs")), find_studies(Path("runs"))
    paths = [*(str(run.path) for run in runs), *(str(study.path) for study in studies)]
    return [path for path in paths if path.startswith(incomplete)]
