"""`diva data`: recipes that make a data set out of another one; the originals never change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from diva.cli.options import PATH, console
from diva.cli.split import bar

if TYPE_CHECKING:
    from diva.data.splits import Made
    from diva.report.console import Console

MODE = click.option(
    "--mode",
    type=click.Choice(["link", "copy"]),
    default="link",
    show_default=True,
    help="files that stay as they are: hard links (where impossible relative symbolic ones), or copies",
)
TO = click.option("--to", "out", type=PATH, required=True, help="the folder to make")
LAYOUT = click.option("--layout", help="layout of DIR  [default: as found]")
JSON = click.option("--json", "as_json", is_flag=True, help="print one JSON object")
QUIET = click.option("--quiet", is_flag=True, help="say nothing but warnings and results")


@click.group(epilog="Example: diva data trim-borders pages --to pages-trimmed")
def data() -> None:
    """Recipes that make a data set out of another one; the originals never change."""


@data.command(
    "shuffle-labels", epilog="Example: diva data shuffle-labels data/digits --to digits-random --share 0.5 --seed 1"
)
@click.argument("folder", type=PATH, metavar="DIR")
@TO
@click.option(
    "--share",
    default="1",
    show_default=True,
    metavar="RATIO",
    help="share of the training samples whose label becomes random",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=42, show_default=True, help="decides which, and their labels"
)
@click.option(
    "--how",
    type=click.Choice(["permute", "redraw"]),
    default="permute",
    show_default=True,
    help="deal the labels of the chosen samples out among them (classes keep their sizes), or draw each anew (all classes alike)",
)
@MODE
@LAYOUT
@JSON
@QUIET
def shuffle_labels(
    folder: Path, out: Path, share: str, seed: int, how: str, mode: str, layout: str | None, as_json: bool, quiet: bool
) -> None:
    """Random labels for training samples, true ones for val and test: what does a network learn by heart?

    labels.json in the new folder lists every chosen sample with its true label and its label now.
    """
    from typing import cast

    from diva.data import labels, staging

    told = console(quiet=quiet)
    with bar(told, "hashing", "B") as hashing, bar(told, "placing") as placing:
        made = labels.shuffle_labels(
            folder,
            out,
            share=share,
            seed=seed,
            how=cast("labels.How", how),
            mode=cast("staging.Mode", mode),
            layout=layout,
            hashing=hashing,
            placing=placing,
        )
    facts = {name: made.record[name] for name in ("n_train", "n_chosen", "n_changed")}
    line = "{n_train:,} training samples, {n_chosen:,} got a random label, {n_changed:,} another than the true one"
    _show(made, out, told, facts, line.format(**facts), as_json)


@data.command(
    "trim-borders", epilog="Example: diva data trim-borders pages --to pages-trimmed --threshold 250 --margin 8"
)
@click.argument("folder", type=PATH, metavar="DIR")
@TO
@click.option(
    "--threshold",
    type=click.IntRange(0, 255),
    default=255,
    show_default=True,
    help="white is what has this value or more in all channels",
)
@click.option(
    "--margin",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="PIXELS",
    help="white to keep around what is not white",
)
@MODE
@LAYOUT
@JSON
@QUIET
def trim_borders(
    folder: Path, out: Path, threshold: int, margin: int, mode: str, layout: str | None, as_json: bool, quiet: bool
) -> None:
    """Crop white borders off images; white inside an image stays. A mask is cropped with its image, the frames of a clip all alike.

    Paths and names stay, but a cropped JPEG becomes a PNG, so that nothing is lost. borders.json lists the boxes.
    """
    from typing import cast

    from diva.data import borders, staging

    told = console(quiet=quiet)
    with bar(told, "hashing", "B") as hashing, bar(told, "trimming") as placing:
        made = borders.trim_borders(
            folder,
            out,
            threshold=threshold,
            margin=margin,
            mode=cast("staging.Mode", mode),
            layout=layout,
            hashing=hashing,
            placing=placing,
        )
    facts = {"n_cropped": len(made.record["cropped"]), "n_images": made.record["n_images"], "kept": made.record["kept"]}
    line = f"{facts['n_images']:,} images, {facts['n_cropped']:,} files cropped"
    _show(made, out, told, facts, line, as_json)


def _show(made: Made, out: Path, told: Console, facts: dict[str, object], line: str, as_json: bool) -> None:
    for warning in made.warnings:
        told.warn(warning)
    outcome = "already there" if made.was_there else "made"
    if as_json:
        print(
            json.dumps({**facts, "digest": made.record["digest"], "outcome": outcome, "to": str(out)}, sort_keys=True)
        )
        return
    told.result(line)
    told.result(f"{outcome}: {out}, {made.record['digest']}")
