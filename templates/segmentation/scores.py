"""Confusions between classes, counted pixel by pixel, and what follows from them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy
import torch

from diva import dice_per_class, iou_per_class, mean_dice, mean_iou, pixel_accuracy, precision_recall_f1

from .coding import IGNORED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from diva import Outputs

MOST_CLASSES = 24  # of more, metrics do not list every class; the report does


def count_confusions(labels: Tensor, predicted: Tensor, boundary: Tensor, n_classes: int) -> Tensor:
    """How often each class (row) was taken for each (column), first away from boundaries, then at them: int64 (B, 2, C, C).

    labels, predicted: whole numbers (B, H, W); boundary: bool (B, H, W). Ignored pixels are not counted.
    """
    n = len(labels)
    sample = torch.arange(n, device=labels.device)[:, None, None]
    pairs = ((sample * 2 + boundary) * n_classes + labels) * n_classes + predicted
    counts = torch.bincount(pairs[labels != IGNORED], minlength=n * 2 * n_classes * n_classes)
    return counts.view(n, 2, n_classes, n_classes)


def layout_counts(outputs: Outputs) -> numpy.ndarray:
    """The confusions of all samples together, int64 (2, C, C)."""
    counts: numpy.ndarray = outputs["confusions"].sum(0).numpy()
    return counts


def pixel_metrics(counts: numpy.ndarray, names: Sequence[str], background: int) -> dict[str, float]:
    """Mean IoU, accuracy of pixels, mean F1, and the IoU of each class that occurs, up to 24; from counts (2, C, C)."""
    table = forgiven(counts, background)
    found = {"mean_iou": mean_iou(table), "pixel_accuracy": pixel_accuracy(table), "mean_f1": mean_dice(table)}
    return found | class_ious(iou_per_class(table).tolist(), names)


def forgiven(counts: numpy.ndarray, background: int) -> numpy.ndarray:
    """One table, int64 (C, C), of `count_confusions`' two, (2, C, C): at a boundary, background is never wrong."""
    table: numpy.ndarray = counts.sum(0)
    at_boundary = counts[1, :, background].copy()
    table[:, background] -= at_boundary
    table[background, background] += at_boundary.sum()
    return table


def slug(name: str) -> str:
    """A name of a class as a part of a metric's or a file's name."""
    return re.sub(r"\W+", "_", name).strip("_") or "class"


def slugs(names: Sequence[str]) -> list[str]:
    """The slug of each class, all different: where names differ in signs only, with the number of the class, as in `text_a_2`."""
    plain = [slug(name) for name in names]
    found: list[str] = []
    for i, own in enumerate(plain):
        key = own if plain.count(own) == 1 else f"{own}_{i}"
        while key != own and (key in plain or key in found):
            key += "_"
        found.append(key)
    return found


def class_ious(ious: Sequence[float], names: Sequence[str]) -> dict[str, float]:
    """`iou/<class>` for each class that occurs; nothing where there are very many classes."""
    if len(names) > MOST_CLASSES:
        return {}
    return {f"iou/{key}": float(iou) for key, iou in zip(slugs(names), ious, strict=True) if iou == iou}


def pixel_report(table: numpy.ndarray, names: Sequence[str]) -> str:
    """A Markdown table of IoU, F1, precision and recall per class and their means, from counts (C, C); "-" where undefined."""
    precision, recall, _ = precision_recall_f1(table)
    true, said = table.sum(1), table.sum(0)
    columns = (
        iou_per_class(table),
        dice_per_class(table),
        numpy.where(said > 0, precision, numpy.nan),
        numpy.where(true > 0, recall, numpy.nan),
    )
    lines = ["| class | IoU | F1 | precision | recall | pixels |", "|---|---:|---:|---:|---:|---:|"]
    for i, name in enumerate(names):
        values = " | ".join("-" if column[i] != column[i] else f"{column[i]:.4f}" for column in columns)
        lines.append(f"| {name.replace('|', chr(92) + '|')} | {values} | {int(true[i])} |")
    lines.append(f"| mean | {mean_iou(table):.4f} | {mean_dice(table):.4f} | | | {int(true.sum())} |")
    return "\n".join(lines)
