"""`diva reproduce`: run a recorded experiment again and compare bits."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from diva.cli.options import complete_run, console, followed, given, shared_options
from diva.errors import NotReproducedError

if TYPE_CHECKING:
    from diva.records.manifest import Manifest
    from diva.records.run_folder import RunFolder
    from diva.report.console import Console


@click.command(epilog="Example: diva reproduce runs/image_classification/20260101-120000-0a1b2c")
@click.argument("run", type=click.Path(path_type=Path), shell_complete=complete_run)
@click.option("--data", help="where the data are now, when they moved")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    envvar="DIVA_DATA",
    help="where named data sets are kept  [default: data]",
)
@click.option(
    "--output", type=click.Path(path_type=Path), envvar="DIVA_OUTPUT", help="where the new run is made  [default: runs]"
)
@click.option("--device", help="another device than the recorded one")
@click.option("--threads", type=click.IntRange(1), help="another number of threads than the recorded one")
@click.option("--workers", type=click.IntRange(0), help="another number of loader workers; changes no bits")
@click.option("--trace", type=click.Choice(["epoch", "step"]), help="record as finely as this; changes no bits")
@click.option("--workers-per-run", type=click.IntRange(1), help="another number of workers of the run; changes no bits")
@click.option(
    "--verify", type=click.Choice(["quick", "deep"]), default="deep", help="check of the data; deep hashes every file"
)
@shared_options
def reproduce(run: Path, verify: Literal["quick", "deep"], as_json: bool, quiet: bool, **flags: Any) -> None:
    """Verify a run's record, run it again from its own source, compare bits: exit 0, or 5 when they differ.

    The verdict IDENTICAL means equal digests throughout. EQUIVALENT: the bits differ, as does something here that can change them, and
    the test metrics agree within 0.02. DIFFERENT names the first epoch and step that differ. The recorded code is executed: reproduce
    runs of people whose code you would run.
    """
    from diva.experiment.recorded import become_recorded_diva
    from diva.experiment.reproduce import reproduce as run_again
    from diva.experiment.reproduce import verify as verify_run
    from diva.records.run_folder import open_run

    folder = open_run(run)
    manifest = verify_run(folder)
    say = console(quiet=quiet)
    become_recorded_diva(folder, manifest, sys.argv[1:])
    if followed():
        return
    changes = {"output": Path("runs"), "data_root": Path("data"), **given(flags), "verify": verify}
    _show_differences(say, manifest, changes)
    again, verdict = run_again(folder, changes, ("diva", *sys.argv[1:]), say)
    _print(verdict.line, again, as_json=as_json)
    if verdict.word == "DIFFERENT":
        raise NotReproducedError(
            f"the run was not reproduced: {verdict.line}. Both folders are kept: {folder.path} and {again.path}"
        )


def _show_differences(say: Console, manifest: Manifest, changes: dict[str, Any]) -> None:
    from diva.experiment.reproduce import preview

    found = preview(manifest, changes)
    if not found:
        say.say("environment: the same as then")
        return
    rows = [(d.what, d.then, d.now, "yes" if d.can_change_bits else "no") for d in found]
    say.say(say.table(("what differs here", "then", "now", "can it change bits?"), rows))


def _print(line: str, again: RunFolder, *, as_json: bool) -> None:
    if as_json:
        result = again.result() or {}
        names = ("status", "metrics", "weights_digest")
        outcome = {"run": str(again.path), "verdict": line.partition(" ")[0].rstrip(":"), "detail": line}
        print(json.dumps({**outcome, **{name: result[name] for name in names}}, sort_keys=True))
        return
    print(line)
    print(again.path)
