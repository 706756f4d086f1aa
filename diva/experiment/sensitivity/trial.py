"""A trial of what only the base's data and model can tell of levels: whether they have what `subset` and `freeze` ask for."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from diva.experiment.code import recorded_imports
from diva.experiment.find import import_root, imports_from, load_found, project_root
from diva.params import build
from diva.seeding import preserved_generators

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from diva.experiment.request import Request
    from diva.experiment.sensitivity.factors import Factor
    from diva.learning.task import Task
    from diva.report.console import Console

TRIED = ("subset", "freeze")


def try_levels(request: Request, factors: Sequence[Factor], console: Console) -> None:
    """UsageError for a level of `subset` or `freeze` that no run could have; data and model are made for it once, on the CPU.

    request: the base, settled. DataError where the data are not what they were.
    """
    levels = [level for factor in factors if factor.name in TRIED for level in factor.levels if level.values]
    if not levels:
        return
    import torch

    from diva.data.sampling import part_size
    from diva.experiment.assemble import assemble
    from diva.experiment.run import locate_data
    from diva.kernels import stock
    from diva.learning.optim import freeze

    stock.prepare_process()
    options = request.options
    located = locate_data(request.task.default_data if options.data is None else options.data, options, console)
    folder = located.folder if located else None
    plain = replace(options, subset=None, freeze=(), overfit=False, cache="off")
    with _task_class(request) as task_class, preserved_generators():
        task = build(task_class, request.knobs)
        learner, _ = assemble(task, folder, options.seeds(task_class), plain, torch.device("cpu"))  # type: ignore[arg-type]
        for level in levels:
            if level.values.get("subset") is not None:
                part_size(level.values["subset"], len(learner.data.train))  # type: ignore[arg-type]
            freeze(learner.model, level.values.get("freeze", ()))


@contextmanager
def _task_class(request: Request) -> Iterator[type[Task]]:
    """The class of the task while its modules are found: in today's project, or in that of the run it was recorded with."""
    if request.recorded is not None:
        with recorded_imports(request.recorded.manifest().task, request.recorded) as task_class:
            yield task_class
        return
    with imports_from(project_root(request.found.path), first=import_root(request.found)):
        yield load_found(request.found)
