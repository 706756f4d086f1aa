"""What is asked for: a task, its knobs and a run's options, from defaults, configuration files and the command line, in that order."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from diva.errors import UsageError
from diva.experiment.find import (
    FoundTask,
    find_task,
    import_root,
    imports_from,
    load_found,
    project_root,
    template_names,
)
from diva.experiment.options import RunOptions
from diva.params import Layers, build, check_names, convert, knobs_of, options_of
from diva.seeding import draw_seed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.learning.task import Task
    from diva.records.run_folder import RunFolder
    from diva.records.study_folder import StudyFolder

VARIABLES = {"DIVA_DATA": "data_root", "DIVA_OUTPUT": "output"}


@dataclass(frozen=True)
class Request:
    """What is to run: a task and its knobs, options with their origins, and the arguments as typed.

    `recorded` is the run that is being reproduced: its snapshots are used, not today's code. `place` is that of a member of a study.
    """

    found: FoundTask
    task: Task
    knobs: Layers
    options: RunOptions
    origins: Mapping[str, str]
    argv: tuple[str, ...]
    recorded: RunFolder | None = None
    task_origin: str = "command line"
    place: Place | None = None


@dataclass(frozen=True)
class Place:
    """A member's place in its study, which keeps the code that all members run and names their data.

    data: the folder where those are now; None for where the study has seen them.
    """

    study: StudyFolder
    name: str
    data: str | None = None


def resolve(flags: Mapping[str, Any], configs: Sequence[Path], argv: tuple[str, ...]) -> Request:
    """A request from configuration files, each over the ones before, and flags over them all; UsageError for what nothing declares."""
    layers = Layers({}, {}).over({VARIABLES[n]: os.environ[n] for n in VARIABLES if os.environ.get(n)}, "environment")
    for path in configs:
        layers = layers.over(read_config(path), str(path))
    layers = layers.over(flags, "command line")
    if "task" not in layers.values:
        raise UsageError(
            f"no task is named; give --task with one of {', '.join(template_names())}, or the path of your own"
        )
    found = find_task(str(layers.values["task"]))
    options = {param.name: param for param in options_of(RunOptions)}
    with imports_from(project_root(found.path), first=import_root(found)):
        task_class = load_found(found)
        knobs = [param.name for param in knobs_of(task_class)]
        for name, origin in layers.origins.items():
            check_names([name], ["task", *options, *knobs], origin)
        parts = ({n: part[n] for n in part if n in knobs} for part in (layers.values, layers.origins))
        chosen = Layers(*parts)
        task = build(task_class, chosen)
    values = {n: convert(options[n], v, layers.origins[n]) for n, v in layers.values.items() if n in options}
    origins = {name: layers.origins.get(name, "default") for name in options}
    named = layers.origins["task"]
    return Request(found, task, chosen, RunOptions(**values), origins, argv, task_origin=named)  # type: ignore[arg-type]


def with_seed(request: Request, seed: int | None = None) -> Request:
    """The request with a seed: the one given here, else its own, else one that is drawn."""
    if seed is None and request.options.seed is not None:
        return request
    origins = {**request.origins, "seed": "drawn" if seed is None else "the first of --seeds"}
    options = dataclasses.replace(request.options, seed=draw_seed() if seed is None else seed)
    return dataclasses.replace(request, options=options, origins=origins)


def read_config(path: Path) -> dict[str, Any]:
    """The values of a YAML file, its keys as parameters are named; UsageError when it is no mapping or names a key twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        """PyYAML takes the last of equal keys in silence."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [str(self.construct_object(key)).replace("-", "_") for key, _ in node.value]
            twice = sorted({key for key in keys if keys.count(key) > 1})
            if twice:
                raise UsageError(f"{path}: names {', '.join(twice)} twice; keep one")
            return super().construct_mapping(node, deep)

    try:
        loaded = yaml.load(path.expanduser().read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        _refuse(path, " ".join(str(error).split()))
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        _refuse(path, f"holds a {type(loaded).__name__}, not keys and values")
    return {str(key).replace("-", "_"): value for key, value in loaded.items()}


def _refuse(path: Path, why: str) -> NoReturn:
    raise UsageError(f"--config {path}: not YAML that can be used: {why}; write a line per parameter, as in epochs: 10")


def rows(request: Request) -> list[tuple[str, Any, str]]:
    """Every parameter with its value and where it came from."""
    options = dataclasses.asdict(request.options)
    knobs = request.task.model_dump(mode="json")
    return [
        ("task", request.found.asked, request.task_origin),
        *((name, options[name], request.origins[name]) for name in options),
        *((name, knobs[name], request.knobs.origins.get(name, "default")) for name in knobs),
    ]


def argument_of(name: str, value: Any) -> str:
    """The argument of the command line that gives an option or a knob this value."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}={','.join(map(str, value)) if isinstance(value, (list, tuple)) else value}"
