"""`diva tensorboard`: open TensorBoard on runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click


@click.command(epilog="Example: diva tensorboard runs/image_classification")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
@click.option(
    "--port", type=click.IntRange(0, 65535), default=6006, show_default=True, help="on 127.0.0.1; 0 takes a free one"
)
def tensorboard(folder: Path, port: int) -> None:
    """Show runs in TensorBoard, served to this machine alone, until Ctrl-C."""
    from diva.errors import UsageError

    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; diva run makes runs/")
    where = f"http://127.0.0.1:{port}" if port else "the address below"
    print(f"TensorBoard on {folder}: {where} (Ctrl-C ends it)", flush=True)
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(folder),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--samples_per_plugin",
        "images=1000,text=1000",  # it shows ten of each tag, chosen at random, unless told otherwise
    ]
    os.execv(sys.executable, command)
