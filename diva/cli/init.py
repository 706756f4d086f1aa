"""`diva init`: copy a template to make it one's own."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(epilog="Example: diva init image_classification ./cells")
@click.argument("task")
@click.argument("folder", type=click.Path(path_type=Path))
def init(task: str, folder: Path) -> None:
    """Copy a template into a new folder: a task of your own, with a test that passes."""
    from diva.experiment.copying import copy_template

    for path in copy_template(task, folder):
        print(path)
    print(
        f"run it: diva run --task {folder if folder.is_absolute() else './' + folder.as_posix().removeprefix('./')} --seed 42"
    )
    print(f"test it: python -m pytest {folder}")
