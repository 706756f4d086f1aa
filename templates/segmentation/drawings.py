"""What is drawn of an evaluated split: crops and pages with their classes and errors, confusions and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diva import Data, Outputs, Picture, Split, confusion_matrix

from .divahisdb import evaluate_layout, layout_report
from .overlays import ERRORS, class_colours, class_legend, error_map, overlay, panels
from .scores import forgiven, layout_counts, pixel_report, slug
from .windows import segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy
    from torch import nn

    from diva import Drawing

N_SAMPLES, N_CROPS = 8, 4
BITS = ("background", "comment", "decoration", "main text")


def draw_samples(data: Data) -> Iterator[tuple[str, Drawing]]:
    """Random crops as the network sees them, and their classes."""
    crops: Any = data.train
    background, colours, names = _classes(data)
    chosen = [i * len(crops) // N_SAMPLES for i in range(min(N_SAMPLES, len(crops)))]
    shown = []
    for i in chosen:
        image, labels, _ = crops[i]
        pixels = _pixels(image.numpy(), data)
        shown += [pixels, overlay(pixels, labels.numpy(), background, colours)]
    rows = [shown[i : i + 4] for i in range(0, len(shown), 4)]
    headings = ["crop", "classes", "crop", "classes"][: min(4, len(shown))]
    yield "samples", panels(rows, headings, [class_legend(names, background, colours)], "training crops")


def draw_crops(model: nn.Module, data: Data) -> Iterator[tuple[str, Drawing]]:
    """A few crops of val, the truth, what the network says, and where it is wrong."""
    crops: Any = data.val
    background, colours, names = _classes(data)
    device, rows = next(model.parameters()).device, []
    for i in range(min(N_CROPS, len(crops))):
        image, labels, boundary = crops[i * len(crops) // min(N_CROPS, len(crops))]
        predicted = model(image[None].to(device))[0].argmax(0).cpu().numpy()
        pixels, truth = _pixels(image.numpy(), data), labels.numpy()
        rows.append(_row(pixels, truth, predicted, boundary.numpy(), background, colours))
    legends = [class_legend(names, background, colours), ERRORS]
    yield "crops", panels(rows, ["crop", "truth", "prediction", "errors"], legends, "val: crops")


def draw_pages(model: nn.Module, data: Data, n: int, size: int, overlap: float) -> Iterator[tuple[str, Drawing]]:
    """The first `n` pages of test: a figure of each; and in full size its mask, coded as the truth, classes over it, and errors."""
    pages: Any = data.test
    background, colours, names = _classes(data)
    legends = [class_legend(names, background, colours), ERRORS]
    for i in range(min(n, len(pages))):
        page = pages[i]
        found = segment(model, page, size, overlap, lambda logits, labels, boundary: logits.sum() * 0)
        name = f"{i}_{slug(page.image.stem)}"
        truth, boundary, predicted = found.truth, found.boundary, found.predicted
        pixels = page.pixels()
        row = _row(pixels, truth, predicted, boundary, background, colours)
        yield (
            f"page_{name}",
            panels([row], ["page", "truth", "prediction", "errors"], legends, f"test: {page.image.name}"),
        )
        yield f"mask_{name}", Picture(page.reader.coding.encode(predicted))
        yield f"overlay_{name}", Picture(overlay(pixels, predicted, background, colours))
        yield f"errors_{name}", Picture(error_map(truth, predicted, boundary, background))


def draw_scores(outputs: Outputs, data: Data, split: Split) -> Iterator[tuple[str, Drawing]]:
    """Confusions of pixels and scores per class; for DIVA-HisDB also its own evaluation."""
    names, counts = data.facts["classes"], layout_counts(outputs)
    table = forgiven(counts, data.facts["background"])
    yield "confusion_matrix", confusion_matrix(table, names, title=f"{split}: pixels, rows are true classes")
    yield "report", pixel_report(table, names)
    if data.facts["mask_kind"] == "divahisdb":
        yield "layout_report", layout_report(evaluate_layout(counts, data.facts["codes"]), BITS)


def _row(
    pixels: numpy.ndarray, truth: numpy.ndarray, predicted: numpy.ndarray, boundary: numpy.ndarray, background: int,
    colours: numpy.ndarray,
) -> list[numpy.ndarray]:  # fmt: skip
    return [
        pixels,
        overlay(pixels, truth, background, colours),
        overlay(pixels, predicted, background, colours),
        error_map(truth, predicted, boundary, background),
    ]


def _classes(data: Data) -> tuple[int, numpy.ndarray, list[str]]:
    names, background = data.facts["classes"], data.facts["background"]
    return background, class_colours(len(names), background), names


def _pixels(image: numpy.ndarray, data: Data) -> numpy.ndarray:
    """What a normalised crop, float32 (channels, S, S), was: uint8 (S, S, channels)."""
    values = image.transpose(1, 2, 0) * [value or 1.0 for value in data.facts["std"]] + data.facts["mean"]
    pixels: numpy.ndarray = (values * 255).round().clip(0, 255).astype("uint8")
    return pixels
