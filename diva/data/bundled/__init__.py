"""Data sets that need no network: they come with the dependencies or are made by rules, and are written in the standard layouts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from diva.data.bundled.digits import write_digits
from diva.data.bundled.digits_on_photos import write_digits_on_photos
from diva.data.bundled.docstrings import write_docstrings
from diva.data.bundled.moving_photos import write_moving_photos
from diva.data.bundled.number_words import write_number_words
from diva.data.bundled.pages import write_pages
from diva.data.bundled.several_digits import write_several_digits
from diva.data.bundled.shapes import SHAPES, write_shape
from diva.data.bundled.tables import TABLES, write_table
from diva.data.bundled.words import write_words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["SHAPES", "TABLES", "WRITERS", "write_digits"]

WRITERS: dict[str, Callable[[Path], None]] = {
    "digits": write_digits,
    "digits_on_photos": write_digits_on_photos,
    "docstrings": write_docstrings,
    "moving_photos": write_moving_photos,
    "number_words": write_number_words,
    "pages": write_pages,
    "several_digits": write_several_digits,
    "words": write_words,
    **{f"shapes_{shape}": partial(write_shape, shape) for shape in SHAPES},
    **{table: partial(write_table, table) for table in TABLES},
}
