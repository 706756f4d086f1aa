"""What lies in a folder of samples, the same on every machine: files and class names in the order of their bytes; tables."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING

from diva.errors import DataError
from diva.records.footprint import is_ignored

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"})


def class_names(folder: Path) -> list[str]:
    """The names of the folders in a folder, hidden ones left out, in the order of their bytes."""
    if not folder.is_dir():
        return []
    try:
        names = [entry.name for entry in os.scandir(folder) if not _is_hidden(entry.name) and entry.is_dir()]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None
    return sorted(names, key=os.fsencode)


def files_under(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Files at any depth whose suffix is one of `suffixes`; as in a footprint, links count and what it ignores does not.

    DataError for a folder that cannot be read, and for a link that leads back to a folder above it.
    """
    top = os.path.join(folder, "")  # noqa: PTH118 - text, not Path objects: a tenth of the time
    found: list[str] = []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_refuse_unreadable):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        for name in folders:
            _refuse_loop(place, name)
        found += [
            os.path.join(place, name)  # noqa: PTH118
            for name in names
            if os.path.splitext(name)[1].lower() in suffixes and not is_ignored(name)  # noqa: PTH122
        ]
    return [Path(path) for path in sorted(found, key=lambda path: os.fsencode(path[len(top) :]))]


def _is_hidden(folder: str) -> bool:
    """Whether a folder of this name is left out: only what a footprint ignores in folders, not `rot~` or `x.part`."""
    return folder.startswith(".")


def _refuse_unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):  # a folder that is not there holds nothing
        raise DataError(f"{os.fsdecode(error.filename)}: cannot be read ({error.strerror})") from None


def _refuse_loop(place: str, name: str) -> None:
    path = os.path.join(place, name)  # noqa: PTH118
    if os.path.islink(path):  # noqa: PTH114
        target, here = os.path.realpath(path), os.path.realpath(place)
        if os.path.commonpath([target, here]) == target:
            raise DataError(f"{path}: a link that leads back to a folder above it")


def walk_files(
    folder: str,
    inner: str,
    problems: list[tuple[str, str]],
    suffixes: Collection[str],
    above: frozenset[tuple[int, int]] = frozenset(),
) -> Iterator[str]:
    """The files below a folder as `files_under` lists them, one after the other, in the order of their paths' bytes.

    `inner`, "" or with a slash at its end, stands before each. What cannot be listed is added to `problems`, with the reason.
    """
    entries = []
    try:
        facts = os.stat(folder)  # noqa: PTH116 - text, not Path objects
        identity = facts.st_dev, facts.st_ino
        if identity in above:  # a link that leads back; the footprint refuses it with its name
            return
        with os.scandir(folder) as listing:
            for entry in listing:
                is_folder = _is_folder(entry)
                if not (_is_hidden(entry.name) if is_folder else is_ignored(entry.name)):
                    entries.append((os.fsencode(entry.name) + (b"/" if is_folder else b""), is_folder, entry.name))
    except OSError as error:
        problems.append((inner, error.strerror or str(error)))
        return
    for _, is_folder, name in sorted(entries):
        if is_folder:
            yield from walk_files(os.path.join(folder, name), f"{inner}{name}/", problems, suffixes, above | {identity})  # noqa: PTH118
        elif os.path.splitext(name)[1].lower() in suffixes:  # noqa: PTH122
            yield inner + name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed; reading it says why
        return False


def images_under(folder: Path) -> list[Path]:
    """Images at any depth, by the suffixes in `IMAGES`."""
    return files_under(folder, IMAGES)


def relative(path: Path, root: Path) -> str:
    """A path within a folder, with `/`."""
    return path.relative_to(root).as_posix()


def class_number(path: Path, classes: tuple[str, ...]) -> dict[str, int]:
    """Number of each class by its name; `path` is where they come from. DataError for a name that occurs twice."""
    numbers = {name: number for number, name in enumerate(classes)}
    if len(numbers) != len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise DataError(f"{path}: the class {twice!r} occurs twice")
    return numbers


def folders_by_class(
    folder: Path, classes: tuple[str, ...] | None, what: str
) -> Iterator[tuple[int, Path, tuple[str, ...]]]:
    """(class number, class folder, all classes) of each class folder, in the order of the paths' bytes.

    With `classes` given, no other may be there, and some may be missing.
    """
    found = class_names(folder)
    if not found:
        raise DataError(
            f"{folder}: has no class folders, hence no {what.split('>')[0]}; expected {folder.name}/<class>/<{what}>"
        )
    if classes is None:
        all_classes = tuple(found)
    else:
        all_classes = classes
        for name in found:
            if name not in classes:
                _refuse_class(folder, name, classes)
    numbers = class_number(folder, all_classes)
    for name in sorted(
        found, key=lambda name: os.fsencode(name) + b"/"
    ):  # hence images in the order of their names' bytes
        yield numbers[name], folder / name, all_classes


def _refuse_class(folder: Path, name: str, classes: tuple[str, ...]) -> None:
    from diva.data.layouts import DESCRIPTION, describe  # which imports this module

    shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    for place in (folder, folder.parent):
        if describe(place).classes == classes:
            raise DataError(
                f"{folder / name}: {DESCRIPTION} does not list this class; its classes are {shown}. Add it there, or remove the folder"
            )
    raise DataError(f"{folder / name}: this class has no folder in train/; its classes are {shown}")


def read_table(path: Path) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of a CSV file (UTF-8, comma, as RFC 4180); DataError names a row with another number of cells."""
    header, *rows = table_rows(path)
    return header, rows


def table_rows(path: Path) -> Iterator[tuple[str, ...]]:
    """The header and then the rows of a CSV file, as `read_table` has them, one after the other."""
    header: tuple[str, ...] = ()
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            n_bytes = os.fstat(file.fileno()).st_size
            csv.field_size_limit(max(csv.field_size_limit(), n_bytes))  # 131,072 by default: a text may be longer
            for row in csv.reader(file, strict=True):
                if row:
                    number += 1
                    header = header or tuple(row)
                    if len(row) != len(header):
                        raise DataError(f"{path}: row {number} has {len(row)} cells, the header {len(header)}")
                    yield tuple(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV file in UTF-8 ({error})") from None
    if number < 2:
        raise DataError(f"{path}: has no rows; expected a header and at least one row")
