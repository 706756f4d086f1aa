"""Texts: `texts.csv` with the columns text and label, or `<class>/**/<name>.txt`; UTF-8."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diva.data.layouts.listing import class_number, files_under, folders_by_class, read_table, relative
from diva.data.layouts.points import natural
from diva.errors import DataError

TABLE = "texts.csv"
SUFFIXES = frozenset({".txt"})


@dataclass(frozen=True)
class Texts:
    """The texts of one split; `paths` is () where they are rows of a table."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    paths: tuple[Path, ...] = ()
    root: Path = Path()

    def __len__(self) -> int:
        return len(self.texts)

    def name(self, index: int) -> str:
        """`<class>/<name>.txt`, or `texts.csv:<row>` where the header is row 1."""
        return relative(self.paths[index], self.root) if self.paths else f"{TABLE}:{index + 2}"

    def files(self, index: int) -> tuple[Path, ...]:
        """The text's file; none when it is a row."""
        return (self.paths[index],) if self.paths else ()

    def targets(self, index: int) -> tuple[int, ...]:
        """Its class."""
        return (self.labels[index],)


def has_texts(folder: Path) -> bool:
    """Whether text files lie under a folder."""
    return bool(files_under(folder, SUFFIXES))


def read(folder: Path, classes: tuple[str, ...] | None = None) -> Texts:
    """The texts of a split's folder; DataError for what is not UTF-8, a class without a text and a class that train does not have."""
    if (folder / TABLE).is_file():
        return _read_rows(folder / TABLE, classes)
    paths: list[Path] = []
    labels: list[int] = []
    names: tuple[str, ...] = ()
    for label, place, all_classes in folders_by_class(folder, classes, "text>.txt, <text"):
        names = all_classes
        found = files_under(place, SUFFIXES)
        if not found:
            raise DataError(f"{place}: holds no .txt file. Remove the folder or fill it")
        paths += found
        labels += [label] * len(found)
    return Texts(tuple(map(text_of, paths)), tuple(labels), names, tuple(paths), folder)


def text_of(path: Path) -> str:
    """The text of a file; DataError when it is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text in UTF-8 ({error})") from None


def _read_rows(table: Path, classes: tuple[str, ...] | None) -> Texts:
    header, rows = read_table(table)
    if header != ("text", "label"):
        raise DataError(f"{table}: the header must be text,label, it is {','.join(header)[:60]}")
    known = classes if classes is not None else tuple(sorted({label for _, label in rows}, key=natural))
    numbers = class_number(table, known)
    for number, (_, label) in enumerate(rows, 2):
        if label not in numbers:
            raise DataError(f"{table}: row {number} has the label {label!r}, which train does not have")
    return Texts(tuple(text for text, _ in rows), tuple(numbers[label] for _, label in rows), known)
