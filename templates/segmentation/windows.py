"""Pages larger than memory: a window slides over them, and where windows overlap their probabilities are added up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy
import torch

from .coding import IGNORED
from .pages import Page, starts
from .scores import count_confusions

if TYPE_CHECKING:
    from torch import Tensor, nn

PIXELS_AT_ONCE = 1 << 18  # in one go through the network: bounds the memory that its activations take

Loss = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]
"""Of logits (B, C, S, S), labels and boundary (B, S, S)."""


class Segmented(NamedTuple):
    """A page after the network: truth and class numbers found, uint8 (H, W), boundary bool (H, W), mean loss of its windows."""

    truth: numpy.ndarray
    predicted: numpy.ndarray
    boundary: numpy.ndarray
    loss: float


def segment(model: nn.Module, page: Page, size: int, overlap: float, loss_of: Loss) -> Segmented:
    """Segment a page by windows of `size` pixels that overlap by the fraction `overlap`; the loss is weighted by labelled pixels.

    Windows go from left to right and from top to bottom. Probabilities are kept for the rows that the present windows cover, class numbers
    for the page. Of equal sums the lower class wins. A page smaller than the window is filled up with its mean.
    """
    device = next(model.parameters()).device
    pixels = page.pixels()
    truth, boundary = page.truth(pixels.shape)
    height, width = truth.shape
    whole_height, whole_width = max(height, size), max(width, size)
    if (whole_height, whole_width) != (height, width):
        pixels = _enlarged(page, pixels, whole_height, whole_width)
        beyond = ((0, whole_height - height), (0, whole_width - width))
        truth, boundary = numpy.pad(truth, beyond, constant_values=IGNORED), numpy.pad(boundary, beyond)
    step = max(1, round(size * (1 - overlap)))
    lefts, tops = starts(whole_width, size, step), starts(whole_height, size, step)
    n_at_once = max(1, PIXELS_AT_ONCE // (size * size))
    predicted = numpy.empty((whole_height, whole_width), numpy.uint8)
    sums: Tensor | None = None  # probabilities of rows top .. top + size, (C, size, width)
    losses: list[tuple[float, int]] = []
    for top, after in zip(tops, [*tops[1:], whole_height], strict=True):
        rows = slice(top, top + size)
        for i in range(0, len(lefts), n_at_once):
            columns = [slice(left, left + size) for left in lefts[i : i + n_at_once]]
            images = page.reader.normalise(numpy.stack([pixels[rows, part] for part in columns]))
            labels, edges = (
                torch.from_numpy(numpy.stack([whole[rows, part] for part in columns])).to(device)
                for whole in (truth, boundary)
            )
            logits = model(images.to(device)).float()  # (B, C, size, size)
            n_labelled = int((labels != IGNORED).sum())
            if n_labelled:
                losses.append((float(loss_of(logits, labels, edges)), n_labelled))
            if sums is None:
                sums = logits.new_zeros(logits.shape[1], size, whole_width)
            for k, part in enumerate(columns):
                sums[:, :, part] += logits[k].softmax(0)
        assert sums is not None
        n_done = after - top
        predicted[top:after] = sums[:, :n_done].argmax(0).cpu().numpy()
        sums = torch.cat([sums[:, n_done:], sums.new_zeros(sums.shape[0], min(n_done, size), whole_width)], 1)
    n_labelled = sum(n for _, n in losses)
    loss = math.fsum(value * n for value, n in losses) / n_labelled if n_labelled else 0.0
    page_only = (slice(0, height), slice(0, width))
    return Segmented(truth[page_only], predicted[page_only], boundary[page_only], loss)


def evaluate_pages(
    model: nn.Module, pages: Sequence[Page], size: int, overlap: float, loss_of: Loss, n_classes: int
) -> tuple[Tensor, Tensor]:
    """The mean loss of pages, a scalar, and their confusions, int64 (B, 2, C, C); one page after the other is in memory."""
    losses, counts = [], []
    for page in pages:
        found = segment(model, page, size, overlap, loss_of)
        truth, predicted, boundary = (torch.from_numpy(numpy.ascontiguousarray(part))[None] for part in found[:3])
        counts.append(count_confusions(truth, predicted, boundary, n_classes))
        losses.append(found.loss)
    return torch.tensor(math.fsum(losses) / len(losses), dtype=torch.float64), torch.cat(counts)


def class_areas(model: nn.Module, pages: Sequence[Page], size: int, overlap: float, n_classes: int) -> Tensor:
    """The share of each page that is taken for each class, float32 (B, C); masks are not asked for."""
    shares = []
    for page in pages:
        predicted = segment(model, page, size, overlap, lambda logits, labels, boundary: logits.sum() * 0).predicted
        counts = numpy.bincount(predicted.reshape(-1), minlength=n_classes)
        shares.append(torch.from_numpy(counts / predicted.size).float())
    return torch.stack(shares)


def _enlarged(page: Page, pixels: numpy.ndarray, height: int, width: int) -> numpy.ndarray:
    """The page at the upper left of a larger one, as bright as the mean."""
    whole = numpy.empty((height, width, pixels.shape[2]), numpy.uint8)
    whole[:] = numpy.array([round(255 * value) for value in page.reader.mean], numpy.uint8)
    whole[: pixels.shape[0], : pixels.shape[1]] = pixels
    return whole
