"""The sheet of nearest neighbours: what is right is green with a tick, what is wrong red with a cross."""

from __future__ import annotations

from io import BytesIO

import matplotlib
import numpy as np
import pytest
from PIL import Image

from diva.report.neighbours import MOST_ROWS, RankedRow, neighbour_sheet
from diva.report.style import GREEN, RED, png

DARK = np.full((8, 8), 40, np.uint8)
WORD = np.full((24, 96, 3), 200, np.uint8)


def pixels(figure) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png(figure))).convert("RGB"))


def has(figure, colour: str) -> bool:
    return bool((pixels(figure) == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2).any())


def words(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def row(*right: bool, query: np.ndarray | None = DARK, image: np.ndarray = DARK) -> RankedRow:
    return RankedRow(query, "seven", [image] * len(right), [f"one 0.{i}" for i in range(len(right))], right)


def test_right_and_wrong_are_told_by_colour_and_by_sign():
    right, wrong = neighbour_sheet([row(True, True)]), neighbour_sheet([row(False)])
    assert has(right, GREEN) and not has(right, RED) and "✓ one 0.1" in words(right)
    assert has(wrong, RED) and not has(wrong, GREEN) and "✗ one 0.0" in words(wrong)


def test_words_have_wide_tiles_and_a_query_may_be_text():
    figure = neighbour_sheet([row(True, False, query=None, image=WORD)], "by string")
    width, height = figure.get_size_inches()
    assert "seven" in words(figure) and "by string" in words(figure)
    assert width > 2.5 * height
    assert pixels(figure).shape[0] < pixels(neighbour_sheet([row(True, False)])).shape[0]


def test_more_queries_than_fit_are_cut_and_the_title_says_so():
    figure = neighbour_sheet([row(True)] * (MOST_ROWS + 4), "val")
    assert words(figure)[0] == "val   the first 16 of 20"
    assert words(neighbour_sheet([]))[0] == "no queries"


def test_captions_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="2 neighbours have 1 captions and 2 marks"):
        neighbour_sheet([RankedRow(None, "a", [DARK, DARK], ["b"], [True, True])])
