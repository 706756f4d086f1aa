"""Layouts: how the samples of a data set lie in a folder. One module per layout reads one split into a frozen list of samples.

A data set is a folder with `train/`, `val/` and `test/`, each in the same layout; a folder in a layout by itself is data not split yet.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from diva.data.layouts import class_folders, clips, multi_label, pairs, points, texts, unlabelled
from diva.data.layouts.listing import class_names, class_number, images_under
from diva.data.yaml_files import read_yaml
from diva.errors import DataError, UsageError, nearest
from diva.records.listing import is_ignored, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

Layout = Literal["class folders", "pairs", "multi label", "points", "texts", "clips", "images"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
SPLITS = ("train", "val", "test")
DESCRIPTION = "dataset.yaml"
# Names that others give to splits, in lower case.
OTHER_NAMES = {
    **dict.fromkeys(("train", "training", "trainset", "train_set"), "train"),
    **dict.fromkeys(
        ("val", "valid", "validate", "validation", "dev", "devel", "development", "val_set", "valset"), "val"
    ),
    **dict.fromkeys(("test", "testing", "tests", "testset", "test_set", "eval", "evaluation"), "test"),
}
# Files that are in no sample, and should not be.
NO_SAMPLE = re.compile(
    r"(?i:readme|licen[cs]e|copying|copyright|notice|changelog|citation|authors)([._-].*)?"
    r"|dataset\.yaml|(labels|points|texts|transcriptions)\.csv|(split|labels|borders)\.json",
    re.DOTALL,
)


class Samples(Protocol):
    """The samples of one split, in the order of their names' bytes (rows of a table: as they stand)."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of all classes; () where samples have none, or masks tell."""
        ...

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What names a sample within its split: a POSIX path relative to the split's folder, or `<table>:<line>`."""
        ...

    def files(self, index: int) -> tuple[Path, ...]:
        """The files that are this sample's alone; () for a row of a table."""
        ...

    def targets(self, index: int) -> tuple[int, ...]:
        """The numbers of the classes that the sample has: one, several (multi label), or none (unlabelled, masks)."""
        ...


READERS: dict[Layout, Callable[[Path, tuple[str, ...] | None], Samples]] = {
    "class folders": class_folders.read,
    "pairs": pairs.read,
    "multi label": multi_label.read,
    "points": points.read,
    "texts": texts.read,
    "clips": clips.read,
    "images": unlabelled.read,
}


@dataclass(frozen=True)
class Description:
    """What `dataset.yaml` in a data set's folder says; all of it is optional."""

    layout: Layout | None = None
    classes: tuple[str, ...] | None = None
    colours: dict[str, str] = field(default_factory=dict)
    expectations: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


ABOUT = ("name", "title", "about", "licence", "citation", "homepage", "notes", "source", "split")


def describe(folder: Path) -> Description:
    """The description of a data set; DataError names the file, the key and what is allowed."""
    path = folder / DESCRIPTION
    if not path.is_file():
        return Description()
    said = read_yaml(path) or {}
    if not isinstance(said, dict):
        raise DataError(f"{path}: must be a mapping, as in `layout: class folders`")
    keys = ("layout", "classes", "colours", "expectations", *ABOUT)
    for key in said:
        if key not in keys:
            raise DataError(f"{path}: unknown key {key!r}; {nearest(str(key), keys)}")
    layout = said.get("layout")
    if layout is not None and layout not in LAYOUTS:
        raise DataError(f"{path}: layout {layout!r} is not known; {nearest(str(layout), LAYOUTS)}")
    for key, kind in (("classes", list), ("colours", dict), ("expectations", dict)):
        if said.get(key) is not None and not isinstance(said[key], kind):
            raise DataError(f"{path}: {key} must be a {'list' if kind is list else 'mapping'}")
    classes = said.get("classes")
    for name in classes or ():
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise DataError(
                f"{path}: the class {name!r} is no name; YAML reads yes, no and dates otherwise: put it in quotes"
            )
    named = tuple(map(str, classes)) if classes else None
    class_number(path, named or ())
    return Description(
        layout,
        named,
        {str(key): str(value) for key, value in (said.get("colours") or {}).items()},
        said.get("expectations") or {},
        {key: said[key] for key in ABOUT if key in said},
    )


def is_split(folder: Path) -> bool:
    """Whether a folder is a data set with splits rather than data in one piece, of which `train` may be a class.

    It has `train/`, and beside it `val/` or `test/` or no other folder. DataError when a folder beside it looks like a split of another
    name, which would be left out or taken for a class; `classes` in `dataset.yaml` can say that it is one.
    """
    named = class_names(folder)
    _refuse_other_names(folder, named)
    return "train" in named and ("val" in named or "test" in named or len(named) == 1)


def _refuse_other_names(folder: Path, named: list[str]) -> None:
    """Refuse `validation`, `Test` and the like beside train, and `Train` beside other folders that are all named as splits."""
    other = {name: OTHER_NAMES[name.lower()] for name in named if name not in SPLITS and name.lower() in OTHER_NAMES}
    alike = len(named) > 1 and all(name in SPLITS or name in other for name in named) and "train" in other.values()
    if not other or not ("train" in named or alike):
        return
    classes = describe(folder).classes or ()
    for name, meant in other.items():
        if name not in classes:
            advice = (
                f"rename it to {meant}" if meant not in named else f"move what is in it into {meant}/, or elsewhere"
            )
            raise DataError(
                f"{folder / name}: looks like a split, but splits are called {', '.join(SPLITS)}: {advice}. "
                f"If it is a class, list it in {DESCRIPTION} under classes"
            )


def unused_files(folder: Path, used: Container[str], there: Iterable[str] | None = None) -> list[str]:
    """The files of a data set that are in no sample, in the order of their paths' bytes; notes, tables and records are not meant.

    used: the files of the samples, POSIX paths relative to the folder. there: all its files likewise, where a footprint has them.
    """
    if there is None:
        there = (os.fsdecode(found.path) for files in walk(folder) for found in files)
    found = (path for path in there if path not in used)
    return sorted((path for path in found if not NO_SAMPLE.fullmatch(path.rpartition("/")[2])), key=os.fsencode)


def detect(folder: Path) -> Layout:
    """The layout of one split's folder, from what lies in it; clips look like class folders and are never guessed.

    Raises DataError when nothing is recognised.
    """
    if (folder / "data").is_dir() and (folder / "gt").is_dir():
        return "pairs"
    if (folder / multi_label.TABLE).is_file():
        return "multi label"
    if (folder / points.TABLE).is_file():
        return "points"
    if (folder / texts.TABLE).is_file():
        return "texts"
    named = class_names(folder)
    if named and texts.has_texts(folder / named[0]) and not images_under(folder / named[0]):
        return "texts"
    if named:
        return "class folders"
    if images_under(folder):
        return "images"
    found = sorted(entry.name for entry in folder.iterdir() if not is_ignored(entry.name))[:5]
    raise DataError(
        f"{folder}: no layout is recognised ({', '.join(found) or 'the folder is empty'}); expected class folders of images or texts, "
        f"data/ and gt/, images/ and {multi_label.TABLE}, {points.TABLE}, {texts.TABLE}, or images"
    )


def layout_of(folder: Path, wanted: str | None = None) -> Layout:
    """The layout of a data set, split or not: the one asked for, else the one its `dataset.yaml` names, else the one detected."""
    for layout in LAYOUTS:
        if wanted in (layout, layout.replace(" ", "-"), layout.replace(" ", "_")):
            return layout
    if wanted is not None:
        raise UsageError(f"--layout {wanted}: not known; {nearest(wanted, LAYOUTS)}")
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is not a folder' if folder.exists() else 'no such folder'}")
    return describe(folder).layout or detect(folder / "train" if is_split(folder) else folder)


def read_splits(folder: Path, layout: str | None = None, required: tuple[str, ...] = SPLITS) -> dict[str, Samples]:
    """The samples of each split that is there, in the order train, val, test; the classes are those of train, or of `dataset.yaml`.

    Raises DataError when a required split is missing, and for what a layout refuses.
    """
    missing = [name for name in required if not (folder / name).is_dir()]
    if missing:
        is_split(folder)  # which says when one of another name is there
        way = f"To make them: diva split {folder} --to NEW_FOLDER"
        if "train" not in missing:
            flags = " and ".join(f"--{name}" for name in missing)
            way = (
                f"This split has no {' and no '.join(missing)} part: make it again with {flags}, "
                f"or divide all its samples anew: diva split {folder} --to NEW_FOLDER --merge"
            )
        raise DataError(f"{folder}: has no folder {', '.join(missing)}; expected train/, val/ and test/. {way}")
    read = READERS[layout_of(folder, layout)]
    classes = describe(folder).classes
    splits: dict[str, Samples] = {}
    for name in SPLITS:
        if (folder / name).is_dir():
            splits[name] = read(folder / name, classes)
            classes = classes or splits[name].classes or None
    return splits


def read_whole(folder: Path, layout: str | None = None) -> Samples:
    """The samples of a folder that is not split."""
    return READERS[layout_of(folder, layout)](folder, describe(folder).classes)
