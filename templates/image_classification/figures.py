"""What is drawn of this task: samples, confusions, a report, curves, and the most confident mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diva import (
    average_precisions,
    classification_figures,
    image_grid,
    precision_recall_curves,
    precision_recall_figure,
    roc_areas,
    roc_curves,
    roc_figure,
    sample_sheet,
    surest_mistakes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diva import Data, Drawing, Outputs, Split


def samples(data: Data) -> Drawing:
    """Training images as the network sees them, spread over all classes."""
    images: Any = data.train
    captions = [data.facts["classes"][label] for label in images.labels]
    return sample_sheet(len(images), images.sample, captions.__getitem__, "training images, as the network sees them")


def of_split(outputs: Outputs, data: Data, split: Split) -> Iterator[tuple[str, Drawing]]:
    """Figures of an evaluated split; the curves, each class against the rest, of test alone."""
    labels, predictions, classes = outputs["labels"], outputs["predictions"], data.facts["classes"]
    yield from classification_figures(labels, predictions, classes, split)
    shares = outputs["logits"].float().softmax(1)  # (n, C)
    if split == "test":
        yield "roc", roc_figure(roc_curves(shares, labels), roc_areas(shares, labels), classes, "test: ROC")
        curves, precisions = precision_recall_curves(shares, labels), average_precisions(shares, labels)
        yield "precision_recall", precision_recall_figure(curves, precisions, classes, "test: precision and recall")
    worst = surest_mistakes(outputs["logits"], labels)
    if worst:
        images: Any = data.split(split)
        captions = [
            f"{classes[labels[i]]} {shares[i, labels[i]]:.0%} as {classes[said]} {confidence:.0%}"
            for i, said, confidence in worst
        ]
        title = f"{split}: most confident mistakes"
        yield "mistakes", image_grid([images.picture(i) for i, _, _ in worst], captions, title=title)
