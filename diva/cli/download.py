"""`diva download`: fetch, verify and convert a data set."""

from __future__ import annotations

import json
from pathlib import Path

import click

from diva.cli.options import PATH, console

EPILOG = (
    "Examples: diva download mnist · diva download ./cells.yaml --to data/cells · "
    "diva download mnist --from ~/Downloads --from https://mirror.example.org/mnist/"
)


def _complete_name(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from diva.data.catalogue import names

    return [name for name in names() if name.startswith(incomplete)]


@click.command(epilog=EPILOG)
@click.argument("name", metavar="NAME|CARD.yaml", shell_complete=_complete_name)
@click.option("--to", type=PATH, metavar="DIR", help="the folder to make  [default: data/NAME]")
@click.option(
    "--from",
    "given",
    multiple=True,
    metavar="FILE|FOLDER|URL",
    help="an archive at hand, a folder of archives, the unpacked data set, or the address of a mirror; may be repeated",
)
@click.option(
    "--data-root",
    type=PATH,
    default=Path("data"),
    envvar="DIVA_DATA",
    help="where named data sets are kept; also DIVA_DATA  [default: data]",
)
@click.option("--keep-archive", is_flag=True, help="keep what was fetched in NAME.archives/ beside the folder")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@click.option("--quiet", is_flag=True, help="say nothing but warnings and the result")
def download(
    name: str, to: Path | None, given: tuple[str, ...], data_root: Path, keep_archive: bool, as_json: bool, quiet: bool
) -> None:
    """Fetch a data set, verify it, write it in the standard layout, and print its folder.

    NAME is one that `diva list datasets` shows; CARD.yaml describes a data set of your own. A data set that is there
    already is only checked. An interrupted download goes on where it stopped when the command is run again.
    """
    from diva.data.catalogue import card
    from diva.data.download import download as make
    from diva.data.places import prepare_root

    found = card(name)
    folder = to.expanduser() if to is not None else data_root.expanduser() / found.name
    if to is None:
        prepare_root(folder.parent)
    say = console(quiet=quiet)
    option = "--data-root" if to is None else "--to"
    made = make(found, folder, say, given=given, keep_archive=keep_archive, option=option)
    what = f"{made.footprint.n_files:,} files, {made.footprint.digest}"
    say.say(f"{made.name}: {what}" if made.fresh else f"{made.name}: here already and unchanged, {what}")
    say.result(json.dumps(made.as_json(), sort_keys=True) if as_json else str(folder))
