"""`diva verify`: create or check the footprint of a data set."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from diva.cli.options import PATH, console

if TYPE_CHECKING:
    from collections.abc import Callable

    from diva.records.footprint import Differences, Footprint
    from diva.report.console import Progress


@click.command(epilog="Example: diva verify data/digits --deep")
@click.argument("folder", type=PATH)
@click.option("--deep", is_flag=True, help="hash every file, also those that look untouched")
@click.option("--update", is_flag=True, help="accept the folder as it is now")
@click.option(
    "--against",
    type=PATH,
    metavar="FILE|RUN",
    help="compare, hashing every file, with another footprint, or with that of a run; nothing is stored",
)
@click.option("--json", "as_json", is_flag=True, help="print one JSON object, with every path that differs")
def verify(folder: Path, deep: bool, update: bool, against: Path | None, as_json: bool) -> None:
    """Create or check the footprint of a data set: exit 4 names every added, removed or changed file.

    Files that differ are listed on stdout, one a line. What was hashed before an interruption is not hashed again.
    """
    from diva.errors import DataError
    from diva.records import footprint

    folder, against = folder.expanduser(), against and against.expanduser()
    if against is not None and update:
        raise click.UsageError(
            "--update accepts the folder as it is, --against compares it with a file: give one of them"
        )
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    if against is not None and against.is_dir():
        from diva.records.run_folder import RunFolder

        against = RunFolder(against).footprint_file
    if against is not None:
        _refuse_other_file(against)
    with ExitStack() as shown:
        now, outcome, differences = footprint.inspect(folder, deep, update, against, progress=_bar(shown))
    _print(now, outcome, differences, as_json)
    if differences and against is not None:
        raise DataError(f"{folder}: not what {against} says: {differences.text()}")
    if differences:
        raise footprint.difference_error(folder, differences)


def _refuse_other_file(against: Path) -> None:
    """Say what --against takes; the advice for a damaged footprint of diva's own, to delete it, is no good for a user's file."""
    from diva.errors import DataError, RecordError
    from diva.records import footprint

    try:
        footprint.read(against)
    except RecordError:
        what = "is no footprint, or a damaged one" if against.exists() else "is not there"
        raise DataError(
            f"--against {against}: {what}; name a footprint that diva verify wrote, or the folder of a run"
        ) from None


def _bar(shown: ExitStack) -> Callable[[int, int], None]:
    """A bar that appears when there is something to hash."""
    bars: list[Progress] = []
    n_told = 0

    def tell(n_done: int, n_bytes: int) -> None:
        nonlocal n_told
        if not bars:
            bars.append(shown.enter_context(console().progress(n_bytes, "hashing", unit="B")))
        bars[0].update(n_done - n_told)
        n_told = n_done

    return tell


def _print(now: Footprint, outcome: str, differences: Differences, as_json: bool) -> None:
    from diva.records.files import printable

    kinds = {"changed": differences.changed, "removed": differences.removed, "added": differences.added}
    if as_json:
        facts = {"digest": now.digest, "n_files": now.n_files, "n_bytes": now.n_bytes, "outcome": outcome}
        print(json.dumps({**facts, **kinds}, sort_keys=True))
    elif differences:
        for kind, paths in kinds.items():
            for path in paths:
                print(f"{kind}  {printable(path)}")
    else:
        print(f"{outcome}: {now.n_files:,} files, {now.n_bytes:,} bytes, {now.digest}")
