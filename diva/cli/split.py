"""`diva split`: a data set divided into train, val and test, or into folds."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from diva.cli.options import PATH, console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from diva.data.splits import Made
    from diva.report.console import Console, Progress

EXAMPLES = (
    "Examples: diva split photos --to photos-split --train 0.6 --val 0.2 --test 0.2 --seed 42 · "
    "diva split pages --to pages-split --by 'group=(w[0-9]+)-' · "
    "diva split photos --to photos-folds --kfold 5 --test 0.2 · "
    "diva split photos --to photos-as-published --like split.json"
)


@click.command(epilog=EXAMPLES)
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--to", "out", type=PATH, required=True, help="the folder to make; DIR never changes")
@click.option("--train", metavar="RATIO", help="share of train: 0.6, or 3/5  [default: 0.6, with --val 0.2 --test 0.2]")
@click.option("--val", metavar="RATIO", help="share of val; where only others are given: none")
@click.option("--test", metavar="RATIO", help="share of test; where only others are given: none")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="decides which sample goes where  [default: 42]")
@click.option(
    "--by",
    metavar="class|group=PATTERN|group=FILE.csv:COLUMN",
    help="every class in every split in proportion; or no writer, patient, ... in two splits: what a regular expression finds in "
    "a sample's name (its group `group`, else its first), or what a CSV file says (sample,group)  [default: class, where there is one]",
)
@click.option(
    "--kfold",
    type=int,
    default=0,
    metavar="K",
    help="K folds fold-0 ..., each with train and val, and with --test the same test",
)
@click.option(
    "--mode",
    type=click.Choice(["link", "copy", "list"]),
    default="link",
    show_default=True,
    help="hard links (where impossible relative symbolic ones), copies, or split.json alone",
)
@click.option("--layout", help="class folders, pairs, multi label, points, texts, clips or images  [default: as found]")
@click.option("--merge", is_flag=True, help="DIR is split already: divide all its samples anew")
@click.option(
    "--keep-duplicates-together/--scatter-duplicates",
    "together",
    default=True,
    show_default=True,
    help="identical files in one split, or wherever they fall (then they are reported)",
)
@click.option("--allow-empty", is_flag=True, help="a class may be missing in a split")
@click.option("--like", type=PATH, help="divide as a published split.json says")
@click.option("--allow-changed", is_flag=True, help="with --like: also files of other content, which is recorded")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@click.option("--quiet", is_flag=True, help="say nothing but warnings and results")
def split(
    folder: Path,
    out: Path,
    train: str | None,
    val: str | None,
    test: str | None,
    seed: int | None,
    by: str | None,
    kfold: int,
    mode: str,
    layout: str | None,
    merge: bool,
    together: bool,
    allow_empty: bool,
    like: Path | None,
    allow_changed: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Divide a data set into train, val and test, or into folds: by class, or so that no group is in two splits.

    DIR is read, never changed. The same command always gives the same split, on every machine; run again, it checks what is there.
    """
    from typing import cast

    from diva.data import splits
    from diva.errors import UsageError

    given = {name: value for name, value in (("train", train), ("val", val), ("test", test)) if value is not None}
    told = console(quiet=quiet)
    with bar(told, "hashing", "B") as hashing, bar(told, "placing") as placing:
        if like is not None:
            others = {"--train/--val/--test": given, "--seed": seed is not None, "--by": by, "--kfold": kfold,
                      "--layout": layout, "--merge": merge, "--allow-empty": allow_empty, "--scatter-duplicates": not together}  # fmt: skip
            if wrong := [name for name, value in others.items() if value]:
                raise UsageError(f"--like: split.json says all of it; leave out {', '.join(wrong)}")
            made = splits.like(folder, out, like, mode=cast("splits.Mode", mode), allow_changed=allow_changed,
                               hashing=hashing, placing=placing)  # fmt: skip
        elif allow_changed:
            raise UsageError("--allow-changed: is for --like")
        else:
            made = splits.split(
                folder,
                out,
                ratios=given or None,
                seed=splits.SEED if seed is None else seed,
                by=by,
                kfold=kfold,
                mode=cast("splits.Mode", mode),
                layout=layout,
                merge=merge,
                duplicates_together=together,
                allow_empty=allow_empty,
                hashing=hashing,
                placing=placing,
            )
    for warning in made.warnings:
        told.warn(warning)
    _show(made, out, told, as_json)


def _show(made: Made, out: Path, told: Console, as_json: bool) -> None:
    record = made.record
    sizes = {part: facts["n_samples"] for part, facts in record["parts"].items()}
    if as_json:
        facts = {
            "checks": record["checks"],
            "digest": record["digest"],
            "n_samples": sizes,
            "outcome": "already there" if made.was_there else "made",
            "to": str(out),
        }
        print(json.dumps(facts, sort_keys=True))
        return
    total = sum(sizes.values())
    headers = ["part", "samples", "share", "classes", "fewest of a class"]
    rows = []
    for part in sorted(sizes, key=_place):
        counts = record["parts"][part]["counts"].values()
        few = [str(sum(n > 0 for n in counts)), str(min(counts))] if counts else ["-", "-"]
        rows.append([part, f"{sizes[part]:,}", f"{100 * sizes[part] / total:.1f} %", *few])
    if any(facts["groups"] is not None for facts in record["parts"].values()):
        headers.append("groups")
        for row in rows:
            row.append(str(len(record["parts"][row[0]]["groups"])))
    told.result(told.table(headers, rows))
    told.result(
        f"{'already there' if made.was_there else 'made'}: {out}, seed {record['options']['seed']}, {record['digest']}"
    )


def _place(part: str) -> tuple[int, str]:
    """train, val, test, then folds by number."""
    order = ("train", "val", "test")
    return (order.index(part), "") if part in order else (3 + int(part.removeprefix("fold-")), "")


@contextmanager
def bar(told: Console, label: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """A function of (done, total) that draws a bar from its first call on; the unit is "B" for bytes."""
    shown: list[Progress] = []
    done = 0

    def step(now: int, total: int) -> None:
        nonlocal done
        if not shown:
            shown.append(told.progress(total, label, unit=unit))
        shown[0].update(now - done)
        done = now
        if now >= total:
            shown[0].close()

    try:
        yield step
    finally:
        for progress in shown:
            progress.close()
