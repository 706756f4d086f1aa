"""Texts: measured one after the other as they are read; of each, digests and lengths are kept, of all, the different words."""

from __future__ import annotations

import hashlib
import os
from array import array
from typing import TYPE_CHECKING, Any, final

import numpy

from diva.data.analysis.kinds import spread
from diva.data.analysis.statistics import Files
from diva.data.layouts.listing import class_number, folders_by_class, table_rows, walk_files
from diva.data.layouts.points import natural
from diva.data.layouts.texts import SUFFIXES, TABLE, text_of
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


@final
class MeasuredTexts:
    """The samples of one split, in the same order as `layouts.texts.read` has them, without their texts.

    classes: those of train; () where nobody knows them yet. `problems` gets the folders that cannot be listed. DataError: what the
    layout refuses.
    """

    def __init__(
        self, folder: Path, classes: tuple[str, ...] | None, inner: str, problems: list[tuple[str, str]]
    ) -> None:
        self.labels, self.characters, self.words = array("i"), array("q"), array("q")
        self._exact, self._loose = bytearray(), bytearray()
        self._vocabulary: set[str] = set()
        self._files: Files | None = None
        if (folder / TABLE).is_file():
            self.classes: tuple[str, ...] = self._read_table(folder / TABLE, classes)
        else:
            self.classes = classes or ()
            self._files = Files(folder, self._read_folders(folder, classes, inner, problems))

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """`<class>/<name>.txt`, or `texts.csv:<row>` where the header is row 1."""
        return self._files.name(index) if self._files is not None else f"{TABLE}:{index + 2}"

    def files(self, index: int) -> tuple[Path, ...]:
        """The text's file; none when it is a row."""
        return (self._files.root / self._files.name(index),) if self._files is not None else ()

    def targets(self, index: int) -> tuple[int, ...]:
        """Its class."""
        return (self.labels[index],)

    def digests(self) -> tuple[NDArray[numpy.uint8], NDArray[numpy.uint8]]:
        """Digests of all texts as they are, and without regard to case and white space; (N, 32) each."""
        exact, loose = (numpy.frombuffer(kept, numpy.uint8).reshape(-1, 32) for kept in (self._exact, self._loose))
        return exact, loose

    def describe(self) -> dict[str, Any]:
        """Lengths in characters and in words (what white space parts), the number of different words, and how many texts are empty."""
        return {
            "characters": spread(self.characters),
            "words": spread(self.words),
            "vocabulary": len(self._vocabulary),
            "empty": self.words.count(0),
        }

    def _add(self, text: str, label: int) -> None:
        parts = text.split()
        self._vocabulary.update(parts)
        self._exact += hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        self._loose += hashlib.sha256(" ".join(text.casefold().split()).encode("utf-8", "surrogatepass")).digest()
        self.labels.append(label)
        self.characters.append(len(text))
        self.words.append(len(parts))

    def _read_table(self, table: Path, classes: tuple[str, ...] | None) -> tuple[str, ...]:
        numbers = class_number(table, classes) if classes is not None else {}
        rows = table_rows(table)
        header = next(rows)
        if header != ("text", "label"):
            raise DataError(f"{table}: the header must be text,label, it is {','.join(header)[:60]}")
        for number, (text, label) in enumerate(rows, 2):
            if classes is not None and label not in numbers:
                raise DataError(f"{table}: row {number} has the label {label!r}, which train does not have")
            self._add(text, numbers.setdefault(label, len(numbers)))
        if classes is not None:
            return classes
        known = tuple(sorted(numbers, key=natural))  # the numbers so far are those of the first occurrence
        final_numbers = numpy.argsort([known.index(label) for label in numbers]).argsort()
        self.labels = array(
            "i", final_numbers[numpy.frombuffer(self.labels, numpy.int32)].astype(numpy.int32).tobytes()
        )
        return known

    def _read_folders(
        self, folder: Path, classes: tuple[str, ...] | None, inner: str, problems: list[tuple[str, str]]
    ) -> Iterator[str]:
        for label, place, all_classes in folders_by_class(folder, classes, "text>.txt, <text"):
            self.classes, before = all_classes, (len(self), len(problems))
            for name in walk_files(os.fspath(place), f"{inner}{place.name}/", problems, SUFFIXES):
                own = name[len(inner) :]
                self._add(text_of(folder / own), label)
                yield own
            if (len(self), len(problems)) == before:
                raise DataError(f"{place}: holds no .txt file. Remove the folder or fill it")
