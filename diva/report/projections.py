"""Features in the plane: PCA, t-SNE, MDS and Isomap, and the picture of their points.

The numbers come from scikit-learn and BLAS, in one thread: the same picture each time on one machine, to the eye the same on others.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np

from diva.report.style import GREY, LINES, MARGIN, canvas, clean, cut, headline, style, text_pixels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

Projection = Literal["pca", "tsne", "mds", "isomap"]
PROJECTIONS: Final[tuple[Projection, ...]] = get_args(Projection)
TITLES: Final = {"pca": "PCA", "tsne": "t-SNE", "mds": "MDS", "isomap": "Isomap"}
# Samples that a projection takes within about a minute of one core; of more, so many are drawn.
LIMITS: Final = {"pca": 20_000, "tsne": 5_000, "mds": 2_000, "isomap": 5_000}
LEAST: Final = {"pca": 2, "tsne": 4, "mds": 3, "isomap": 4}
WIDEST: Final = 50  # t-SNE, MDS and Isomap look at so many principal components, as van der Maaten and Hinton 2008 do
NAMED_CLASSES: Final = 21


def project(features: NDArray[np.float32], how: Projection, seed: int) -> NDArray[np.float64]:
    """Points in the plane, (n, 2), of features (n, D), n >= LEAST[how]; seed: in [0, 2**32), of what t-SNE and MDS draw.

    Each axis points where its largest coordinate is positive, of equally large ones the first; so a picture is never mirrored by chance.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import MDS, TSNE, Isomap
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn needs it, so it is there

    n = len(features)
    values = np.nan_to_num(np.asarray(features, np.float64))  # (n, D)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of changing defaults, of graphs in several parts: nothing a user could act on
        n_kept = min(WIDEST, n, values.shape[1])
        solver = "covariance_eigh" if values.shape[1] < n else "full"
        components = PCA(n_kept, svd_solver=solver).fit_transform(values)  # (n, n_kept)
        if how == "pca":
            points = components[:, :2]
        elif how == "tsne":
            start = _start(components)
            perplexity = min(30.0, (n - 1) / 3)
            points = TSNE(2, init=start, perplexity=perplexity, random_state=seed).fit_transform(components)
        elif how == "mds":
            points = MDS(2, n_init=1, max_iter=200, random_state=seed).fit_transform(components)
        else:
            points = Isomap(n_components=2, n_neighbors=min(10, n - 1)).fit_transform(components)
    points = np.asarray(points, np.float64)
    if points.shape[1] < 2:
        points = np.concatenate([points, np.zeros((n, 2 - points.shape[1]))], axis=1)
    return points * _signs(points)


def _start(components: NDArray[np.float64]) -> NDArray[np.float32] | str:
    """Where t-SNE starts: at the first two principal components, small, as Kobak and Berens 2019 advise; at random where there is one."""
    spread = float(components[:, 0].std())
    if components.shape[1] < 2 or not spread:
        return "random"
    return np.ascontiguousarray(components[:, :2] / spread * 1e-4, np.float32)


def _signs(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 or -1 for each axis, (2,)."""
    largest = points[np.abs(points).argmax(axis=0), np.arange(points.shape[1])]
    return np.where(largest < 0, -1.0, 1.0)


def plane(points: NDArray[np.float64], labels: Sequence[str], title: str, note: str) -> Figure:
    """Points (n, 2) with a colour and a mark per label, up to 21 of them in the order of their first letters; others are grey."""
    names = sorted(set(labels))
    numbers = np.array([names.index(label) for label in labels])
    shown = [cut(clean(name or "no label"), 8.5, 160) for name in names[:NAMED_CLASSES]]
    more = [f"{len(names) - NAMED_CLASSES} more"] if len(names) > NAMED_CLASSES else []
    legend = max((text_pixels(name, 8.5) for name in [*shown, *more]), default=0) + 40
    with style():
        figure, axes = canvas(MARGIN, MARGIN, 560, 560, above=64, right=MARGIN + (legend if len(names) > 1 else 0))
        for index in range(len(names)):
            known = index < NAMED_CLASSES
            chosen = points[numbers == index]
            axes.scatter(
                chosen[:, 0], chosen[:, 1], s=16 if len(points) <= 2000 else 6, marker="osD"[index // len(LINES) % 3],
                alpha=0.75 if known else 0.4, linewidths=0, color=LINES[index % len(LINES)] if known else GREY,
                zorder=2 if known else 1, label=shown[index] if known else more[0] if index == NAMED_CLASSES else None,
            )  # fmt: skip
        axes.set(xticks=[], yticks=[])
        axes.margins(0.04)
        axes.set_aspect("equal", adjustable="datalim")  # distances mean something, directions do not
        headline(figure, title, note)
        if len(names) > 1:
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False, fontsize=8.5)
    return figure
