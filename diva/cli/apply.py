"""`diva apply`: predictions and features of a finished run for other data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from diva.cli.options import PATH, complete_run, console, given

EXAMPLES = (
    "Examples: diva apply runs/image_classification/20260101-120000-0a1b2c --data photos · "
    "diva apply runs/image_classification/20260101-120000-0a1b2c --data digits --split test --neighbours 5 · "
    "diva apply runs/image_classification/20260101-120000-0a1b2c --data photos --ablate --embed pca,tsne,mds,isomap"
)


@click.command(epilog=EXAMPLES)
@click.argument("run", type=PATH, shell_complete=complete_run)
@click.option("--data", required=True, help="what to apply it to: a folder, labelled or not, or the name of a data set")
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="of a data set with splits  [default: test]")
@click.option("--to", type=PATH, help="the folder to make  [default: applied/<run>-<data>]")
@click.option(
    "--features",
    metavar="penultimate|LAYER|none",
    help="features to keep: the input of the last linear layer, the output of a named layer, or none  "
    "[default: the task's own, else penultimate where there is a linear layer]",
)
@click.option("--ablate", is_flag=True, help="features in place of predictions")
@click.option(
    "--crops",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="average over the first N of: centre, top left, top right, bottom left, bottom right, and these mirrored, each 7/8 of the "
    "height and width; 1 is the whole image",
)
@click.option(
    "--neighbours",
    type=click.IntRange(0),
    default=0,
    metavar="K",
    help="a table of the K nearest others of each sample, by cosine distance",
)
@click.option(
    "--embed",
    default="pca,tsne",
    show_default=True,
    metavar="LIST",
    help="pictures of the features in the plane: pca, tsne, mds, isomap, or none",
)
@click.option("--skip-broken", is_flag=True, help="leave out what cannot be read, and list it, instead of stopping")
@click.option(
    "--data-root",
    type=PATH,
    default=Path("data"),
    envvar="DIVA_DATA",
    help="where named data sets are  [default: data]",
)
@click.option("--batch-size", type=click.IntRange(1), help="samples at once  [default: the run's]")
@click.option("--threads", type=click.IntRange(1), help="threads of the CPU kernels; change no bits with backend exact")
@click.option("--backend", type=click.Choice(["exact", "torch"]), help="whose kernels compute  [default: the run's]")
@click.option("--device", help="another device than the run's, with backend torch")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object as the last line")
@click.option("--quiet", is_flag=True, help="say nothing but warnings and results")
def apply(run: Path, as_json: bool, quiet: bool, embed: str, **flags: Any) -> None:
    """Predict, and extract features, with a finished run: its code, its best weights, its preprocessing, its class names.

    With backend exact, the same run and data give the same tables on every machine. The recorded code is executed: apply runs of people
    whose code you would run.
    """
    from diva.experiment.applied import check_embeddings
    from diva.experiment.apply import Wanted, hand_over
    from diva.experiment.apply import apply as apply_run
    from diva.records.run_folder import open_run

    folder, say = open_run(run), console(quiet=quiet)
    hand_over(folder, sys.argv[1:], say)
    chosen = tuple(name.strip() for name in embed.split(",") if name.strip() not in ("", "none"))
    check_embeddings(chosen)
    applied, record = apply_run(folder, Wanted(**given(flags), embed=chosen), say)
    facts = {name: record[name] for name in ("metrics", "samples", "skipped", "files")}
    print(json.dumps({"folder": str(applied.folder), **facts}, sort_keys=True) if as_json else applied.folder)
