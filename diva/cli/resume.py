"""`diva resume`: continue an interrupted run or study."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from diva.cli.options import complete_run, console, followed, print_outcome, shared_options
from diva.cli.studies import continue_study, study_options


@click.command(epilog="Example: diva resume runs/image_classification/20260101-120000-0a1b2c")
@click.argument("run", type=click.Path(path_type=Path), shell_complete=complete_run)
@click.option("--data", help="where the data of the run or study are now, when they moved")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    envvar="DIVA_DATA",
    help="where named data sets are  [default: data; of a study: where they were]",
)
@click.option("--workers-per-run", type=click.IntRange(1), help="of a run: another number of workers; changes no bits")
@click.option("--retry", is_flag=True, help="of a study: also members that failed, from their last checkpoints")
@click.option("--member", metavar="NAME", help="of a study: this member alone, in this process")
@study_options
@shared_options
def resume(
    run: Path,
    data: str | None,
    data_root: Path | None,
    workers_per_run: int | None,
    retry: bool,
    member: str | None,
    jobs: int | None,
    launcher: str,
    launcher_options: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Continue an interrupted run or study; it ends with the bits of an uninterrupted one."""
    from diva.experiment.recorded import become_recorded_diva, verify_record
    from diva.records.run_folder import open_run
    from diva.records.study_folder import is_study, open_study

    say = console(quiet=quiet)
    if not is_study(run):
        if retry or member or jobs or launcher_options or launcher != "local":
            raise click.UsageError(f"{run}: --retry, --member, --jobs and --launcher are of studies, which it is not")
        from diva.experiment.resume import resume as continue_run

        folder = open_run(run)
        become_recorded_diva(folder, verify_record(folder), sys.argv[1:])
        if followed():
            return
        result = continue_run(folder, data, data_root or Path("data"), say, workers=workers_per_run)
        print_outcome(folder.path, result, as_json=as_json)
        return
    if workers_per_run is not None:
        raise click.UsageError(
            f"{run}: --workers-per-run is of runs; the members of a study have as many as it began with"
        )
    from diva.experiment.code import verify_code
    from diva.experiment.workers import refuse_study

    refuse_study()
    study = open_study(run)
    record = study.record()
    verify_code(study, record)
    become_recorded_diva(study, record, sys.argv[1:])
    if member is not None:
        from diva.experiment.launch import leash
        from diva.experiment.study.member import run_member

        leash.hold()
        done, result = run_member(study, member, say, data=data, data_root=data_root)
        print_outcome(done.path, result, as_json=as_json)
        return
    launching = {"jobs": jobs, "launcher": launcher, "launcher_options": launcher_options}
    continue_study(study, launching, say, retry=retry, as_json=as_json, data=data, data_root=data_root)
