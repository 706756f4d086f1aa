"""What is drawn of this task: samples, confusions, a report, curves, and the most confident mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diva import (
    average_precisions,
    class_report,
    confusion_counts,
    confusion_matrix,
    image_grid,
    precision_recall_curves,
    precision_recall_figure,
    roc_areas,
    roc_curves,
    roc_figure,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diva import Data, Drawing, Outputs, Split

MOST_IMAGES = 32


def samples(data: Data) -> Drawing:
    """Training images as the network sees them, spread over all classes."""
    images: Any = data.train
    chosen = range(0, len(images), -(-len(images) // MOST_IMAGES))
    captions = [data.facts["classes"][images.labels[i]] for i in chosen]
    return image_grid([images.sample(i) for i in chosen], captions, title="training images, as the network sees them")


def of_split(outputs: Outputs, data: Data, split: Split) -> Iterator[tuple[str, Drawing]]:
    """Figures of an evaluated split; the curves, each class against the rest, of test alone."""
    labels, predictions, classes = outputs["labels"], outputs["predictions"], data.facts["classes"]
    counts = confusion_counts(labels, predictions, len(classes))
    yield "confusion_matrix", confusion_matrix(counts, classes, title=f"{split}: rows are true classes")
    yield "report", class_report(counts, classes)
    shares = outputs["logits"].float().softmax(1)  # (n, C)
    if split == "test":
        yield "roc", roc_figure(roc_curves(shares, labels), roc_areas(shares, labels), classes, "test: ROC")
        curves, precisions = precision_recall_curves(shares, labels), average_precisions(shares, labels)
        yield "precision_recall", precision_recall_figure(curves, precisions, classes, "test: precision and recall")
    confidence, wrong = shares.amax(1), (labels != predictions).nonzero().flatten()
    worst = wrong[confidence[wrong].argsort(descending=True, stable=True)][:MOST_IMAGES].tolist()
    if worst:
        images: Any = data.split(split)
        captions = [
            f"{classes[labels[i]]} {shares[i, labels[i]]:.0%} as {classes[predictions[i]]} {confidence[i]:.0%}"
            for i in worst
        ]
        title = f"{split}: most confident mistakes"
        yield "mistakes", image_grid([images.picture(i) for i in worst], captions, title=title)
