"""What the commands that run studies share: their options, and how a study is conducted and shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from diva.experiment.launch import LAUNCHERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from diva.experiment.launch import Launcher
    from diva.experiment.request import Request
    from diva.records.study_folder import Kind, StudyFolder
    from diva.report.console import Console


def study_options(function: Callable[..., None]) -> Callable[..., None]:
    """`--jobs`, `--launcher` and `--launcher-option`, of every command that runs a study."""
    for decorate in (
        click.option(
            "--launcher-option",
            "launcher_options",
            multiple=True,
            metavar="NAME=VALUE",
            help="an option of the launcher",
        ),
        click.option(
            "--launcher", type=click.Choice(LAUNCHERS), default="local", help="where members run  [default: local]"
        ),
        click.option("--jobs", type=int, help="members at a time; default: as many as there are cores for, or GPUs"),
    ):
        function = decorate(function)
    return function


def run_study(
    request: Request,
    kind: Kind,
    plan: Mapping[str, Any],
    n: int | None,
    launching: Mapping[str, Any],
    console: Console,
    *,
    as_json: bool,
) -> None:
    """Make a study and bring it to its end. n: how many members it has, where that is known; launching: the options above."""
    from diva.experiment.launch import open_launcher
    from diva.experiment.study.create import choose_jobs, create_study
    from diva.experiment.workers import refuse_study

    refuse_study()
    jobs = choose_jobs(launching["jobs"], launching["launcher"], request.options, n)
    with open_launcher(launching["launcher"], jobs, launcher_options(launching)) as launcher:
        elsewhere = launching["launcher"] != "local"
        study = create_study(request, kind, plan, jobs, console, elsewhere=elsewhere)
        _conduct(study, launcher, jobs, console, retry=False, as_json=as_json)


def continue_study(
    study: StudyFolder,
    launching: Mapping[str, Any],
    console: Console,
    *,
    retry: bool,
    as_json: bool,
    data: str | None,
    data_root: Path | None,
) -> None:
    """Bring a study to its end from where it stands; with `retry` also its members that failed.

    data, data_root: where its data, and named data sets, are now; None for where they were.
    """
    from diva.experiment.launch import open_launcher
    from diva.experiment.study.create import jobs_again

    record = study.record()
    jobs = jobs_again(launching["jobs"], launching["launcher"], record)
    if launching["jobs"] is None and jobs < record.jobs:
        console.say(f"{jobs} at a time, not {record.jobs}: this machine has room for no more; --jobs says otherwise")
    with open_launcher(launching["launcher"], jobs, launcher_options(launching)) as launcher:
        _conduct(study, launcher, jobs, console, retry=retry, as_json=as_json, data=data, data_root=data_root)


def _conduct(
    study: StudyFolder,
    launcher: Launcher,
    jobs: int,
    console: Console,
    *,
    retry: bool,
    as_json: bool,
    data: str | None = None,
    data_root: Path | None = None,
) -> None:
    """Run what is to run, show what came of it, and fail when a member failed."""
    from diva.experiment.study.conduct import conduct, report_failures
    from diva.experiment.study.plan import read_plan

    summary = conduct(study, launcher, console, jobs=jobs, retry=retry, data=data, data_root=data_root)
    if not as_json:
        read_plan(study.record()).show(summary, console)
    else:
        failed = any(row["status"] == "failed" for row in summary["members"])
        state = {"study": str(study.path), "status": "failed" if failed else "finished"}
        print(json.dumps({**study.summary(), **state}, sort_keys=True))  # which holds no NaN
    report_failures(study, summary)
    if not as_json:
        print(study.path)


def launcher_options(launching: Mapping[str, Any]) -> dict[str, str]:
    """The options of the launcher by name."""
    pairs = [given.partition("=") for given in launching["launcher_options"]]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise click.UsageError(f"--launcher-option {name or '='}: write it as NAME=VALUE")
    return {name: value for name, _, value in pairs}
