"""What people see of a tree: the tree itself, why classes were grouped, and what an image costs on its way."""

from __future__ import annotations

import json
import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from diva import Table

from .grouping import Pairs, likeness
from .nodes import cost

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from diva import Drawing

    from .tree import Place, Tree

N_TIMED = 20
ROW, COLUMN, DPI = 0.26, 2.3, 120  # inches
INK, GREY, GREEN, RED = "#1b2733", "#8a949e", "#1a7f4b", "#c8321f"


def tree_drawings(
    tree: Tree,
    classes: Sequence[str],
    counts: numpy.ndarray,
    volatilities: Mapping[str, float],
    pairs: Pairs,
    title: str,
) -> Iterator[tuple[str, Drawing]]:
    """The tree as a picture, with the recall of each class from the confusion counts (C, C), and as JSON; why it is as it is."""
    totals = counts.sum(1)
    recalls = [counts[i, i] / totals[i] if totals[i] else float("nan") for i in range(len(classes))]
    yield "tree", draw_tree(tree, classes, recalls, title)
    yield "tree_json", tree_as_json(tree, classes)
    yield "grouping", grouping_table(tree, classes, volatilities, pairs)


def draw_tree(tree: Tree, classes: Sequence[str], recalls: Sequence[float], title: str) -> Figure:
    """The tree from the left, its leaves on the right, each class with the share of its images that were recognised.

    recalls: (n_classes,), NaN for a class without images.
    """
    from matplotlib.figure import Figure

    depth = max(len(tree.way_to(place.name)) for place in tree.places)
    height, width = ROW * (len(classes) + 3), COLUMN * (depth + 1)
    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    axes.text(0.15, ROW, title, size=10, color=INK, va="center")
    _draw_place(axes, tree, tree.places[0], 0, [2.2 * ROW], classes, recalls)
    return figure


def _draw_place(
    axes: Axes, tree: Tree, place: Place, level: int, row: list[float], classes: Sequence[str], recalls: Sequence[float]
) -> float:
    """Draw a place and what is behind it from `row[0]` downwards; returns its height."""
    x = 0.15 + COLUMN * level
    widest = max(len(_cut(name)) for name in classes)
    children = {child.classes: child for child in tree.places if child.parent == place.name}
    ends = []
    for group in place.groups:
        if group in children:
            ends.append(_draw_place(axes, tree, children[group], level + 1, row, classes, recalls))
        else:
            recall = recalls[group[0]]
            share = "no images" if recall != recall else f"{recall:.1%}"
            y = row[0]
            row[0] += ROW
            axes.text(x + COLUMN, y, _cut(classes[group[0]]), size=9, color=INK, va="center", weight="bold")
            axes.text(
                x + COLUMN + 0.15 + 0.1 * widest, y, share, size=8, color=RED if recall < 0.9 else GREEN, va="center"
            )
            ends.append(y)
    middle = (ends[0] + ends[-1]) / 2
    for y in ends:
        axes.plot([x + 0.45, x + 0.9, x + COLUMN - 0.4, x + COLUMN - 0.06], [middle, middle, y, y], color=GREY, lw=0.9)
    box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": GREY}
    note = f"{place.name} (no network yet)" if place.stage == "waiting" else place.name
    axes.text(x, middle, note, size=9, color=INK, va="center", bbox=box)
    return middle


def _cut(name: str) -> str:
    return name if len(name) <= 14 else name[:13] + "…"


def grouping_table(tree: Tree, classes: Sequence[str], volatilities: Mapping[str, float], pairs: Pairs) -> Table:
    """Per node: threshold, the pairs of classes above it with their likeness, the most alike pair below, and the groups."""
    rows = []
    for place in tree.places:
        n, asl = len(place.classes), place.likelihoods
        alike = (
            sorted(((likeness(asl, i, j, pairs), i, j) for i in range(n) for j in range(i + 1, n)), reverse=True)
            if asl
            else []
        )
        limit = volatilities[place.name] / n
        named = [f"{classes[place.classes[i]]}~{classes[place.classes[j]]} {value:.4f}" for value, i, j in alike]
        n_above = sum(value > limit for value, _, _ in alike)
        groups = " ".join("{" + ", ".join(classes[c] for c in group) + "}" for group in place.groups)
        rows.append([place.name, place.parent or "", place.stage, volatilities[place.name], f"{limit:.4f}" if asl else "",
                     "; ".join(named[:n_above]), named[n_above] if n_above < len(named) else "", groups])  # fmt: skip
    return Table(["node", "parent", "stage", "volatility", "threshold", "pairs above", "next pair", "turns"], rows)


def tree_as_json(tree: Tree, classes: Sequence[str]) -> str:
    """The tree as JSON, in Markdown: nodes inside their parents, groups by the names of their classes."""

    def told(place: Place) -> dict[str, Any]:
        children = {child.classes: told(child) for child in tree.places if child.parent == place.name}
        turns = [children.get(group) or {"class": classes[group[0]]} for group in place.groups]
        return {"node": place.name, "classes": [classes[c] for c in place.classes], "turns": turns}

    return f"```json\n{json.dumps(told(tree.places[0]), indent=1, ensure_ascii=False)}\n```"


class Way(NamedTuple):
    """What an image that ends at a node has been through."""

    name: str
    parameters: int
    macs: int


def ways(tree: Tree) -> list[Way]:
    """The way to each node that was built, in the order of `tree.places`: parameters and MACs of all nodes on it."""
    found: dict[str | None, Way] = {None: Way("", 0, 0)}
    for place in tree.places:
        if place.name in tree.nodes:
            own, before = cost(tree.node(place.name), tree.maps(place.parent)), found[place.parent]
            found[place.name] = Way(place.name, before.parameters + own.parameters, before.macs + own.macs)
    return list(found.values())[1:]


def macs_per_image(tree: Tree, ends: Tensor) -> float:
    """The mean over images of the MACs of the nodes that each has seen. ends: int64 (n,), from `Tree.follow`."""
    macs = {way.name: way.macs for way in ways(tree)}
    total = sum(macs.get(place.name, 0) * int((ends == number).sum()) for number, place in enumerate(tree.places))
    return total / max(1, len(ends))


def cost_report(tree: Tree, ends: Tensor, image: Tensor, others: Mapping[str, nn.Module]) -> str:
    """A Markdown table: per way its parameters, bytes, MACs, share of the images, latency; per other network the same.

    ends: of the images of the split, from `Tree.follow`; image: (1, C, H, W), to take the time with, which is
    that of this machine and moment.
    """
    device = next(tree.parameters()).device
    image = image.to(device)
    lines = [
        "| way | images | parameters | kB (fp32) | MACs | latency, median | worst |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for way in ways(tree):
        names = tree.way_to(way.name)
        number = next(i for i, place in enumerate(tree.places) if place.name == way.name)
        share = int((ends == number).sum()) / max(1, len(ends))
        lines.append(
            _line(" + ".join(names), f"{share:.1%}", way.parameters, way.macs, _latencies(_walk(tree, names), image))
        )
    every = sum(p.numel() for p in tree.parameters())
    lines.append(
        f"| **tree, mean per image** | 100% | {every:,} in all | {4 * every / 1000:,.1f} | {macs_per_image(tree, ends):,.0f} | | |"
    )
    for name, other in others.items():
        own = cost(other.to(device).eval(), image)
        lines.append(_line(f"one network: {name}", "", own.parameters, own.macs, _latencies(other, image)))
    note = f"MACs: of convolutions and linear layers, without biases and norms. Latency: {N_TIMED} times one image, on this machine."
    return "\n".join([*lines, "", note])


def _walk(tree: Tree, names: Sequence[str]) -> Any:
    """The computation of a way, for one image."""

    def walk(maps: Tensor) -> None:
        for name in names:
            maps = tree.node(name).features(maps)
            tree.node(name).head(maps).argmax(1)

    return walk


def _latencies(compute: Any, image: Tensor) -> list[float]:
    """Milliseconds of each of a few computations, after one to warm up."""
    times = []
    with torch.no_grad():
        for _ in range(N_TIMED + 1):
            began = time.perf_counter()
            compute(image)
            times.append(1000 * (time.perf_counter() - began))
    return times[1:]


def _line(name: str, share: str, parameters: int, macs: int, times: Sequence[float]) -> str:
    return (
        f"| {name} | {share} | {parameters:,} | {4 * parameters / 1000:,.1f} | {macs:,} "
        f"| {statistics.median(times):.2f} ms | {max(times):.2f} ms |"
    )
