"""Decision boundaries and the animation of their epochs: colours are where the answer is, frames are in order and complete."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

from diva.report.animation import LAST_SHOWN, MOST_FRAMES, STRIP, epoch_frames
from diva.report.boundary import FAINTEST, STRONGEST, decision_boundary
from diva.report.pictures import gif_of, png_of
from diva.report.style import LINES


def drawn(probabilities: np.ndarray, labels: list[int], said: list[int]) -> Figure:
    points = np.full((len(labels), 2), 0.5)
    return decision_boundary(probabilities, (0, 1, 0, 1), points, labels, said, ["a", "b"], ("x", "y"), "title")


def test_a_place_has_the_colour_of_its_class_and_is_paler_where_the_model_is_less_sure():
    shares = np.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.25, 0.75]]])  # (2, 2, 2); row 0 lies at the bottom
    (image,) = drawn(shares, [], []).axes[0].get_images()
    weights = np.array([[[STRONGEST], [FAINTEST]], [[STRONGEST], [(STRONGEST + FAINTEST) / 2]]])
    colours = np.array([[to_rgb(LINES[0])] * 2, [to_rgb(LINES[1])] * 2])
    expected = weights * colours + 1 - weights
    assert np.allclose(np.asarray(image.get_array()), expected)
    assert image.origin == "lower"


def test_points_that_the_model_has_wrong_are_crossed_out():
    shares = np.full((3, 3, 2), 0.5)
    for labels, said, n_wrong in (([0, 1, 1], [0, 1, 0], 1), ([0], [0], 0)):
        crosses = drawn(shares, labels, said).axes[0].collections[-1]
        assert crosses.get_label() == "wrong" and len(np.asarray(crosses.get_offsets())) == n_wrong


def test_the_line_lies_where_the_answer_changes():
    right = np.linspace(0.05, 0.95, 10)[None].repeat(10, 0)  # 0.5 in the middle
    figure = drawn(np.stack([1 - right, right], 2), [0], [0])
    lines = np.asarray(figure.axes[0].collections[0].get_paths()[0].vertices)
    assert np.allclose(lines[:, 0], 0.5)


def test_probabilities_of_other_classes_are_refused():
    with pytest.raises(ValueError, match=r"2 classes need probabilities \(H, W, C\), got \(4, 4, 3\)"):
        drawn(np.full((4, 4, 3), 1 / 3), [0], [0])


def test_frames_follow_the_epochs_each_with_a_strip():
    pictures = {epoch: png_of(np.full((40, 200, 3), 20 * epoch, np.uint8)) for epoch in (0, 1, 2, 10)}
    frames = epoch_frames(pictures)
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 20, 40] + [200] * LAST_SHOWN
    assert {frame.shape for frame in frames} == {(40 + STRIP, 200, 3)}
    strips = {frame[40:].tobytes() for frame in frames}
    assert len(strips) == 4  # each says another epoch


def test_a_long_run_keeps_its_first_and_last_epoch():
    pictures = {epoch: png_of(np.full((1, 200, 3), epoch % 256, np.uint8)) for epoch in range(300)}
    frames = epoch_frames(pictures)
    assert len(frames) == MOST_FRAMES + LAST_SHOWN - 1
    assert (int(frames[0][0, 0, 0]), int(frames[-1][0, 0, 0])) == (0, 299 % 256)


def test_the_last_frame_is_shown_longer():
    pictures = {epoch: png_of(np.full((40, 200, 3), 90 * epoch, np.uint8)) for epoch in range(3)}
    with Image.open(io.BytesIO(gif_of(epoch_frames(pictures), 0.1))) as image:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert durations[:2] == [100, 100] and sum(durations) == 100 * (2 + LAST_SHOWN)


def test_pictures_of_different_sizes_fit_into_one_frame():
    pictures = {0: png_of(np.zeros((4, 130, 3), np.uint8)), 1: png_of(np.zeros((6, 120, 3), np.uint8))}
    first, second, *_ = epoch_frames(pictures)
    assert first.shape == second.shape == (6 + STRIP, 130, 3)
    assert first[5, 0].tolist() == second[0, 125].tolist() == [255, 255, 255]
