"""Projections: the plane that features lie in is found, never mirrored by chance, and drawn as the same picture."""

from __future__ import annotations

import numpy as np
import pytest

from diva.report.projections import LEAST, PROJECTIONS, Projection, plane, project
from diva.report.style import png


@pytest.mark.parametrize("how", PROJECTIONS)
def test_groups_stay_apart_and_the_picture_is_the_same_twice(how: Projection) -> None:
    generator = np.random.Generator(np.random.Philox(0))
    centres = np.repeat(np.eye(3, 8) * 20, 10, axis=0)  # (30, 8)
    features = (centres + generator.standard_normal((30, 8))).astype(np.float32)
    labels = ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    points = project(features, how, seed=3)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (apart.argmin(1) // 10 == np.arange(30) // 10).all()
    assert (points[np.abs(points).argmax(0), [0, 1]] > 0).all()
    again = project(features, how, seed=3)
    assert (points == again).all()
    assert png(plane(points, labels, "title", "note")) == png(plane(again, labels, "title", "note"))


@pytest.mark.parametrize("how", PROJECTIONS)
def test_the_fewest_samples_and_features_give_points_in_the_plane(how: Projection) -> None:
    features = np.arange(LEAST[how], dtype=np.float32)[:, None] ** 2
    points = project(features, how, seed=0)
    assert points.shape == (LEAST[how], 2) and np.isfinite(points).all()


def test_more_labels_than_colours_are_drawn_grey_and_counted() -> None:
    points = np.arange(60.0).reshape(30, 2)
    figure = plane(points, [f"{i:02}" for i in range(30)], "title", "note")
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][-2:] == ["20", "9 more"]
