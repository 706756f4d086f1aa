"""The catalogue: data sets by name, each described by a card in `datasets/`; and where a named or given folder is."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Any

import yaml

import diva
from diva.errors import DataError, nearest


def cards_folder() -> Path:
    """Where the cards are: inside an installed `diva`, beside it in a checkout."""
    return diva.resources("datasets")


def names() -> list[str]:
    """Names of the data sets that have a card."""
    return sorted(path.stem for path in cards_folder().glob("*.yaml"))


def card(name: str) -> dict[str, Any]:
    """The card of a data set; DataError names the nearest one."""
    path = cards_folder() / f"{name}.yaml"
    if name not in names():
        raise DataError(f"no data set is called {name!r}; {nearest(name, names())}")
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    return dict(loaded)


def locate(wanted: str, data_root: Path) -> tuple[str, Path]:
    """Name and folder of a data set: a catalogue name lives under `data_root` and is made there at first use; else `wanted` is a path.

    Raises DataError when there is neither, and when a folder is no folder.
    """
    if wanted in names():
        return wanted, materialise(wanted, data_root)
    folder = Path(wanted).expanduser()
    if not folder.is_dir():
        known = f"the catalogue has {', '.join(names())}"
        what = "is a file, not a folder" if folder.exists() else "no such folder, and no data set of that name"
        raise DataError(f"--data {wanted}: {what}; {known}")
    return folder.resolve().name, folder


def materialise(name: str, data_root: Path) -> Path:
    """The folder of a catalogue data set under `data_root`, made now when it is not there. Appears whole or not at all."""
    from diva.data.bundled import WRITERS
    from diva.records.footprint import take

    folder = data_root / name
    if folder.is_dir():
        return folder
    description = card(name)
    prepare_root(data_root)
    partial = data_root / f".{name}.partial-{secrets.token_hex(6)}"
    try:
        WRITERS[description["bundled"]](partial)
        digest = take(partial).digest
        if digest != description["footprint"]:
            raise DataError(
                f"{name}: written here with footprint {digest}, expected {description['footprint']}; "
                "another version of scikit-learn or Pillow made other bytes. Please report it"
            )
        partial.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # another process may have been first
            raise DataError(
                f"{folder}: cannot be written ({error.strerror}); choose another place with --data-root"
            ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def prepare_root(data_root: Path) -> None:
    """Make the data root, with a `.gitignore` that keeps its content out of every repository."""
    try:
        data_root.mkdir(parents=True, exist_ok=True)
        ignore = data_root / ".gitignore"
        if not ignore.exists() and not any(data_root.iterdir()):
            ignore.write_text("*\n")
    except OSError as error:
        raise DataError(
            f"{data_root}: cannot be written ({error.strerror}); choose another place with --data-root"
        ) from None
