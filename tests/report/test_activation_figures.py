"""Figures of activations: rows of maps and strips of values, whatever their sizes, the same bytes each time."""

from __future__ import annotations

from io import BytesIO

import matplotlib
import numpy as np
import pytest
from PIL import Image

from diva.report.activation_figures import MOST_LINES, MOST_ROWS, activation_curves, activation_sheet, spread
from diva.report.style import png

DARKEST = (8, 38, 77)


def pixels_of(figure) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png(figure))).convert("RGB"))  # (H, W, 3)


def words_of(figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def layers(n: int) -> list[tuple[str, str, np.ndarray]]:
    maps = np.linspace(-1, 1, 8 * 5 * 7).reshape(8, 5, 7)
    return [
        (f"layer{i}", "Conv2d 8 x 5 x 7", maps) if i % 2 == 0 else (f"layer{i}", "Linear 10", np.arange(10.0))
        for i in range(n)
    ]


def test_equal_activations_give_equal_bytes():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    one, two = (png(activation_sheet(layers(3), "val sample 0", image)) for _ in range(2))
    assert one == two
    assert one != png(activation_sheet(layers(3), "val sample 0", image.T))


@pytest.mark.parametrize(("n", "most", "expected"), [
    (3, 5, [0, 1, 2]), (5, 5, [0, 1, 2, 3, 4]), (9, 5, [0, 2, 4, 6, 8]), (100, 3, [0, 49, 99]), (0, 5, []),
])  # fmt: skip
def test_the_first_and_the_last_are_among_those_chosen(n, most, expected):
    assert spread(n, most) == expected


def test_a_sheet_says_how_many_layers_it_leaves_out():
    assert f"{MOST_ROWS} of 40 layers" in words_of(activation_sheet(layers(40), "val sample 0"))
    words = words_of(activation_sheet(layers(2), "val sample 0"))
    assert "of 2 layers" not in words and "layer0" in words and "-1 to 1" in words and "0 to 9" in words


def test_the_highest_value_is_the_darkest():
    maps = np.zeros((1, 2, 2))
    maps[0, 0, 1] = 5.0
    pixels = pixels_of(activation_sheet([("a", "Conv2d 1 x 2 x 2", maps)], "t"))
    rows, columns = np.nonzero((pixels == DARKEST).all(axis=2))
    assert len(rows) == 32 * 32 and np.ptp(rows) == np.ptp(columns) == 31


@pytest.mark.parametrize("values", [
    np.zeros((8, 3, 3)), np.full((1, 64, 1), 2.0), np.full(4, np.nan), np.array([1.0, np.inf, -np.inf]), np.zeros(1),
    np.zeros(5000), np.ones((2, 1, 64)),
], ids=["zeros", "tall", "nan", "infinite", "one value", "many values", "wide"])  # fmt: skip
def test_odd_activations_are_drawn(values):
    assert pixels_of(activation_sheet([("a", "b", values)], "t")).shape[0] > 64


def test_a_network_without_layers_is_an_empty_sheet():
    assert "t" in words_of(activation_sheet([], "t"))


def test_curves_name_up_to_twelve_layers():
    strengths = {f"layer{i}": ([0, 1, 2], [0.1, 0.2, 0.3 + i]) for i in range(30)}
    words = words_of(activation_curves(strengths))
    assert f"{MOST_LINES} of 30 layers" in words and "layer0" in words and "layer29" in words
    assert "layer1 " not in words
