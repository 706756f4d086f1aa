"""One member of a study, in a process of its own: begun, continued, or found finished."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diva.data.catalogue import locate
from diva.errors import UsageError
from diva.experiment.code import recorded_imports, verify_code
from diva.experiment.find import FoundTask
from diva.experiment.options import RunOptions
from diva.experiment.recorded import find_data, recorded_options
from diva.experiment.request import Place, Request, argument_of
from diva.params import Layers, build, convert, options_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from diva.records.run_folder import RunFolder
    from diva.records.study_folder import Member, StudyFolder, StudyRecord
    from diva.report.console import Console


def run_member(
    study: StudyFolder, name: str, console: Console, *, data: str | None = None, data_root: Path | None = None
) -> tuple[RunFolder, dict[str, Any]]:
    """Bring a member to its end from wherever it stands; returns its folder and result. Waits while another process has it.

    data, data_root: where the study's data, and named data sets, are now; None for where they were.
    """
    run = study.member(name)
    with _held(study, name):
        result = run.result()
        if result is not None:
            return run, result
        record = study.record()
        verify_code(study, record)
        root = recorded_options(record).data_root if data_root is None else data_root
        if run.manifest_file.exists():
            from diva.experiment.resume import resume

            return run, resume(run, data, root, console)
        from diva.experiment.run import start

        request = member_request(study, record, find_member(study, name))
        wanted = find_data(study, record, data, root)
        seen = None if wanted is None else str(locate(wanted, root)[1])
        return start(replace(request, place=Place(study, name, seen)), console)


def find_member(study: StudyFolder, name: str) -> Member:
    """The member `name`; UsageError when the study has none of that name."""
    found = {member.name: member for member in study.known_members()}
    if name not in found:
        raise UsageError(f"{study.path}: has no member {name!r}; {study.path}/members.json lists them")
    return found[name]


def member_request(study: StudyFolder, record: StudyRecord, member: Member) -> Request:
    """What a member is asked for: the study's options and the knobs that were given for it, its own values over them.

    A knob that nobody gave is the task's to choose, here as in a run of its own: it may follow from one that the member varies.
    """
    params = {param.name: param for param in options_of(RunOptions)}
    own = {n: convert(params[n], v, f"member {member.name}") for n, v in member.values.items() if n in params}
    options = replace(recorded_options(record), **own)
    varied = {name: value for name, value in member.values.items() if name not in params}
    origins = record.task.origins
    chosen = {name: value for name, value in record.task.knobs.items() if origins.get(name, "default") != "default"}
    knobs = Layers(chosen, {name: origins[name] for name in chosen}).over(varied, "study")
    with recorded_imports(record.task, study) as task_class:
        task = build(task_class, knobs)
    tree = study.source / "project" / "tree"
    kept = record.task
    found = FoundTask(kept.asked, kept.name, tree / kept.path, kept.class_name, kept.module)
    given = {**record.origins, **dict.fromkeys(own, "study")}
    argv = _arguments(record, member)
    return Request(found, task, knobs, options, given, argv, place=Place(study, member.name))  # type: ignore[arg-type]


def _arguments(record: StudyRecord, member: Member) -> tuple[str, ...]:
    """The command line of a single run that would do the same."""
    given = {name: value for name, value in record.options.items() if record.origins.get(name) != "default"}
    knobs = {name: value for name, value in record.task.knobs.items() if record.task.origins.get(name) != "default"}
    values = {"task": record.task.asked, **given, **knobs, **member.values}
    return ("diva", "run", *(argument_of(name, value) for name, value in values.items()))


@contextmanager
def _held(study: StudyFolder, name: str) -> Iterator[None]:
    """Hold a member, waiting for a process that still has it: one that outlived its study for a moment, or a job of a scheduler."""
    study.logs.mkdir(exist_ok=True)
    with (study.logs / f".{name}.lock").open("a") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield
