"""Figures: what the pictures promise, read from their pixels and their parts."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from io import BytesIO

import matplotlib
import numpy as np
import pytest
from PIL import Image

from diva.report.figures import confusion_matrix, curves, image_grid, sample_sheet
from diva.report.style import ABSENT, GREEN, RED, png


def _pixels(figure) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png(figure))).convert("RGB"))  # (H, W, 3)


def _has_colour(pixels: np.ndarray, colour: str) -> bool:
    rgb = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return bool((pixels == rgb).all(axis=2).any())


def _words(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def _each_figure() -> list:
    return [
        confusion_matrix([[5, 1], [0, 0]], ["cat", "dog"], "val"),
        image_grid([np.arange(64, dtype=np.uint8).reshape(8, 8)], ["8 by 8"], marks=[True]),
        curves({"train/loss": ([1, 2, 3], [2.0, 1.0, 0.5])}, "Loss", "epoch", "nats"),
    ]


def test_equal_input_gives_equal_bytes_and_no_software_name():
    first, second = [[png(figure) for figure in _each_figure()] for _ in range(2)]
    assert first == second
    assert all(b"Software" not in picture and picture.startswith(b"\x89PNG") for picture in first)


def test_another_process_with_other_user_settings_draws_the_same_bytes(tmp_path):
    settings = "figure.facecolor: black\nfont.size: 30\nlines.linewidth: 9\nsavefig.dpi: 30\ntext.usetex: True\n"
    (tmp_path / "matplotlibrc").write_text(settings + "axes.grid: True\nsavefig.bbox: tight\nfont.family: monospace\n")
    program = (
        "import sys, hashlib\nfrom diva.report.figures import curves\nfrom diva.report.style import png\n"
        "picture = png(curves({'train/loss': ([1, 2, 3], [2.0, 1.0, 0.5])}, 'Loss', 'epoch', 'nats'))\n"
        "sys.stdout.write(picture.hex())\nassert 'matplotlib.pyplot' not in sys.modules\n"
    )
    environment = {"MATPLOTLIBRC": str(tmp_path), "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert bytes.fromhex(done.stdout) == png(_each_figure()[2])


def test_no_setting_is_left_changed_and_no_generator_is_touched():
    settings, state = dict(matplotlib.rcParams), pickle.dumps(np.random.get_state())
    for figure in _each_figure():
        png(figure)
    assert dict(matplotlib.rcParams) == settings
    assert pickle.dumps(np.random.get_state()) == state


def test_class_without_samples_is_a_grey_row_with_a_zero():
    figure = confusion_matrix([[5, 1, 0], [0, 0, 0], [2, 0, 7]], ["a", "b", "c"])
    assert _has_colour(_pixels(figure), ABSENT)
    assert "0" in _words(figure)
    assert "12 of 15 right (80.0 %) · 1 class has no samples" in _words(figure)
    assert not _has_colour(_pixels(confusion_matrix([[5, 1], [1, 5]], ["a", "b"])), ABSENT)


@pytest.mark.parametrize("n_classes", [1, 2, 30, 31, 60, 61, 1000])
def test_every_cell_of_a_confusion_matrix_is_visible(n_classes):
    counts = np.diag(np.full(n_classes, 99))
    counts[0, -1] += 1
    figure = confusion_matrix(counts, [f"class {index}" for index in range(n_classes)])
    pixels = _pixels(figure)
    box = figure.axes[0].get_position()
    height, width = pixels.shape[:2]
    top, left = round(height * (1 - box.y1)), round(width * box.x0)
    side = round(width * box.width)
    assert side >= n_classes
    cell = side / n_classes
    row, column = int(top + cell / 2), int(left + side - cell / 2)
    mistake = pixels[row - (cell > 20) * 12, column - (cell > 20) * 10]  # beside the annotation
    assert (mistake < 245).any(), "one mistake in a hundred must not look like none"


def test_counts_are_written_up_to_thirty_classes_and_names_up_to_sixty():
    def words(n_classes):
        return _words(
            confusion_matrix(np.eye(n_classes, dtype=int) * 77, [f"name{index}" for index in range(n_classes)])
        )

    assert words(30).count("77") == 30 and words(31).count("77") == 0
    assert "name59" in words(60) and not any("name" in word for word in words(61))


def test_names_that_matplotlib_would_misread_are_drawn_as_they_are():
    names = ["a$b$ \\frac", "white\n space", "猫", "n" * 200]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = confusion_matrix(np.eye(4, dtype=int), names)
        png(figure)
    assert not any(text.get_parse_math() for text in figure.findobj(matplotlib.text.Text) if "$" in text.get_text())
    words = _words(figure)
    assert "a$b$ \\frac" in words and "white space" in words and "\ufffd" in words
    assert any(word.startswith("nnn") and word.endswith("…") and len(word) < 40 for word in words)


def test_wrong_shape_of_counts_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"2 class names.*\(3, 3\)"):
        confusion_matrix(np.eye(3, dtype=int), ["a", "b"])
    with pytest.raises(ValueError, match="0 class names"):
        confusion_matrix(np.zeros((0, 0), int), [])


def test_tiny_image_is_enlarged_pixel_for_pixel():
    image = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    pixels = _pixels(image_grid([image], ["five"]))
    enlarged = image.repeat(24, axis=0).repeat(24, axis=1)  # 120 // 5
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (120, 120, 3))[:, :, 0]
    assert any((windows[row, column] == enlarged).all() for row in range(len(windows)) for column in (18, 19))


def test_marks_are_told_by_colour_and_by_sign():
    image = np.zeros((8, 8), np.uint8)
    right, wrong = image_grid([image], ["x"], marks=[True]), image_grid([image], ["x"], marks=[False])
    assert _has_colour(_pixels(right), GREEN) and not _has_colour(_pixels(right), RED)
    assert _has_colour(_pixels(wrong), RED) and not _has_colour(_pixels(wrong), GREEN)
    assert "✓ x" in _words(right) and "✗ x" in _words(wrong)


def test_images_of_mixed_sizes_stand_in_one_grid():
    sizes = [(1, 1), (8, 8), (1, 900), (900, 1), (427, 640, 3), (121, 119, 3)]
    figure = image_grid([np.full(size, 90, np.uint8) for size in sizes], [f"{size}" for size in sizes], columns=3)
    assert len(figure.images) == 6
    height, width = _pixels(figure).shape[:2]
    assert width < 800 and height < 600


def test_more_than_64_images_are_cut_and_the_title_says_so():
    figure = image_grid([np.zeros((4, 4), np.uint8)] * 70, [""] * 70, "Batch")
    assert len(figure.images) == 64
    assert any("the first 64 of 70" in word for word in _words(figure))
    assert "no images" in _words(image_grid([], []))


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ValueError, match=r"an image (is uint8|has at least one pixel)"):
        image_grid([image], ["x"])


def test_captions_that_do_not_match_the_images_are_refused():
    with pytest.raises(ValueError, match="1 images ask for as many captions"):
        image_grid([np.zeros((4, 4), np.uint8)], [])


def test_values_that_are_not_finite_leave_a_gap_and_are_counted():
    y = [1.0, np.nan, 2.0, np.inf, 3.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = curves({"loss": (range(5), y), "nothing": ([], []), "lost": ([1], [np.nan])}, "t", "x", "y")
        png(figure)
    assert {"loss (2 not finite)", "nothing", "lost (1 not finite)"} <= set(_words(figure))
    drawn = np.asarray(figure.axes[0].lines[0].get_ydata())
    assert np.isnan(drawn[[1, 3]]).all() and (drawn[[0, 2, 4]] == [1, 2, 3]).all()


def test_point_without_finite_neighbours_is_marked_in_a_long_curve():
    y = np.full(500, np.nan)
    y[100], y[200:300] = 1.0, 2.0
    assert curves({"loss": (np.arange(500), y)}, "t", "x", "y").axes[0].lines[0].get_markevery() == [100]


def test_epochs_have_whole_ticks_even_when_there_is_one():
    for x in ([3], [1, 2], range(1, 50)):
        figure = curves({"loss": (x, np.ones(len(x)))}, "t", "epoch", "y")
        png(figure)
        assert all(float(tick).is_integer() for tick in figure.axes[0].get_xticks())


def test_curve_of_unequal_lengths_is_refused_by_name():
    with pytest.raises(ValueError, match=r"loss has x of shape \(2,\) and y of shape \(3,\)"):
        curves({"loss": ([1, 2], [1, 2, 3])}, "t", "x", "y")


def test_a_sheet_of_samples_spreads_over_all_of_them():
    figure = sample_sheet(100, lambda i: np.full((4, 4), i, np.uint8), str, "x")
    assert {str(i) for i in range(0, 100, 4)} <= set(_words(figure)) and "1" not in _words(figure)
    assert _words(sample_sheet(0, lambda i: np.zeros((1, 1), np.uint8), str, "x")) == ["x"]
