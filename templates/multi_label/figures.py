"""What is drawn of this task: samples, curves, scores per class, and the worst mistakes with what was missed and what was made up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diva import (
    average_precisions,
    class_scores,
    image_grid,
    multi_label_counts,
    multi_label_f1,
    multi_label_jaccard,
    multi_label_report,
    precision_recall_curves,
    precision_recall_figure,
    roc_areas,
    roc_curves,
    roc_figure,
    sample_sheet,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from diva import Data, Drawing, Outputs, Split

MOST_IMAGES = 32


def samples(data: Data) -> Drawing:
    """Training images, augmented, with their labels."""
    images: Any = data.train

    def caption(i: int) -> str:
        return _names(images.labels[i] > 0.5, data.facts["classes"])

    return sample_sheet(len(images), images.sample, caption, "training images, as the network sees them")


def of_split(outputs: Outputs, thresholds: Tensor, data: Data, split: Split) -> Iterator[tuple[str, Drawing]]:
    """Figures of an evaluated split, the curves of test alone. thresholds: from which score a label is given, float64 (C,)."""
    scores, truth, classes = outputs["scores"], outputs["truth"], data.facts["classes"]
    predicted = scores.double() >= thresholds  # (n, C)
    counts, precisions = multi_label_counts(predicted, truth), average_precisions(scores, truth)
    if split == "test":
        yield "roc", roc_figure(roc_curves(scores, truth), roc_areas(scores, truth), classes, "test: ROC")
        curves, title = precision_recall_curves(scores, truth), "test: precision and recall"
        yield "precision_recall", precision_recall_figure(curves, precisions, classes, title)
    per_class = {"F1": multi_label_f1(counts), "average precision": precisions, "Jaccard": multi_label_jaccard(counts)}
    yield "classes", class_scores(per_class, classes, f"{split}: scores per class")
    yield "report", multi_label_report(counts, classes, {"average precision": precisions})
    worst = worst_mistakes(scores, truth, thresholds)
    if worst:
        captions = [_caption(predicted[i], truth[i], classes) for i in worst]
        title = f"{split}: most confident mistakes (- missed, + made up)"
        pictures: Any = data.split(split)
        yield "mistakes", image_grid([pictures.picture(i) for i in worst], captions, title)


def worst_mistakes(scores: Tensor, truth: Tensor, thresholds: Tensor) -> list[int]:
    """Up to `MOST_IMAGES` images with a wrong label, those first whose wrong score is farthest from its threshold; ties in their order."""
    distances = scores.double() - thresholds  # (n, C)
    wrong = (distances >= 0) != truth
    surest = (distances.abs() * wrong).amax(1)
    return [i for i in surest.argsort(descending=True, stable=True).tolist() if wrong[i].any()][:MOST_IMAGES]


def _caption(predicted: Tensor, truth: Tensor, classes: Sequence[str]) -> str:
    """What was right, what was missed (-), and what was made up (+)."""
    parts = [_names(predicted & truth, classes), *("-" + classes[k] for k in _numbers(truth & ~predicted))]
    return " ".join(
        [part for part in parts if part != "none"] + ["+" + classes[k] for k in _numbers(predicted & ~truth)]
    )


def _names(present: Any, classes: Sequence[str]) -> str:
    return ", ".join(classes[k] for k in _numbers(present)) or "none"


def _numbers(present: Any) -> list[int]:
    return [k for k, yes in enumerate(present.tolist()) if yes]
