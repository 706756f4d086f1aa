"""Clips on paper: the frames of each in a row, with what it is and what it was taken for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy

from diva import surest_mistakes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

Caption = tuple[str, bool | None]  # the words, and whether the answer is right, None without one
MOST_MISTAKES, MOST_CLASSES, MOST_FRAMES = 6, 8, 12


def first_of_each(labels: Sequence[int]) -> list[int]:
    """The index of the first clip of each class, up to eight classes."""
    first: dict[int, int] = {}
    for i, label in enumerate(labels):
        first.setdefault(int(label), i)
    return [first[label] for label in sorted(first)[:MOST_CLASSES]]


def choose_clips(outputs: Any, classes: Sequence[str]) -> tuple[list[int], list[Caption]]:
    """The most confident mistakes, then the first clip of each class that was told right; and what to say of each."""
    labels, predictions = outputs["labels"], outputs["predictions"]
    confidence = outputs["logits"].float().softmax(1).amax(1)
    mistakes = surest_mistakes(outputs["logits"], labels, MOST_MISTAKES)
    right = (labels == predictions).nonzero().flatten().tolist()
    told = [right[k] for k in first_of_each([int(labels[i]) for i in right])]
    captions: list[Caption] = [
        (f"{classes[labels[i]]}, taken for {classes[said]} ({sure:.0%})", False) for i, said, sure in mistakes
    ]
    captions += [(f"{classes[labels[i]]} ({confidence[i]:.0%})", True) for i in told]
    return [i for i, _, _ in mistakes] + told, captions


def draw_filmstrips(strips: Sequence[numpy.ndarray], captions: Sequence[Caption], title: str) -> Figure:
    """A row of frames per clip, time from left to right. strips: uint8 (T, H, W, 3) each; of more than twelve frames, twelve are shown."""
    from matplotlib.figure import Figure

    height = 0.95 * max(1, len(strips)) + 0.5
    figure = Figure(figsize=(8, height), dpi=120)
    figure.text(0.02, 1 - 0.25 / height, title, size=11, va="center")
    for row, (strip, (words, right)) in enumerate(zip(strips, captions, strict=True)):
        shown = strip[numpy.linspace(0, len(strip) - 1, min(len(strip), MOST_FRAMES)).round().astype(int)]
        film = numpy.concatenate([numpy.pad(f, ((0, 0), (0, 1), (0, 0)), constant_values=255) for f in shown], axis=1)
        bottom = 1 - (0.5 + 0.95 * (row + 1)) / height
        axes = figure.add_axes((0.02, bottom + 0.05 / height, 0.96, 0.68 / height))
        axes.imshow(film, interpolation="nearest", aspect="equal")
        axes.set_anchor("W")
        axes.set_axis_off()
        sign, colour = {None: ("", "#1b2733"), True: ("✓ ", "#1a7f4b"), False: ("✗ ", "#c8321f")}[right]
        figure.text(0.02, bottom + 0.82 / height, f"{sign}{words}", size=8.5, color=colour, va="center")
    return figure
