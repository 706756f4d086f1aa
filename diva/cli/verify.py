"""`diva verify`: create or check the footprint of a data set."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command(epilog="Example: diva verify data/digits --deep")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--deep", is_flag=True, help="hash every file, also those that look untouched")
@click.option("--update", is_flag=True, help="accept the folder as it is now")
@click.option(
    "--against", type=click.Path(path_type=Path), help="another footprint to compare with, as footprint.json of a run"
)
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def verify(folder: Path, deep: bool, update: bool, against: Path | None, as_json: bool) -> None:
    """Create or check the footprint of a data set: exit 4 names every added, removed or changed file."""
    from diva.errors import DataError
    from diva.records import footprint

    if not folder.expanduser().is_dir():
        raise DataError(f"{folder}: no such folder")
    if against is not None:
        taken, how = footprint.take(folder), "verified"
        differences = footprint.compare(footprint.read(against), taken)
        if differences:
            raise DataError(f"{folder}: not what {against} says: {differences.text()}")
    else:
        taken, how = footprint.check(folder.expanduser(), deep=deep, update=update)
    facts = {"digest": taken.digest, "n_files": taken.n_files, "n_bytes": taken.n_bytes, "outcome": how}
    print(
        json.dumps(facts, sort_keys=True)
        if as_json
        else f"{how}: {taken.n_files:,} files, {taken.n_bytes:,} bytes, {taken.digest}"
    )
