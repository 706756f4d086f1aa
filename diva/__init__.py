"""diva: deep-learning experiments that anyone can run again, to the last bit.

The names below are what a task may use; each is loaded when it is first asked for, so that `import diva` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pydantic import Field

    from diva.data.augmentation import NOTHING, Augmentation
    from diva.data.image_set import Images
    from diva.data.images import image_statistics, open_image
    from diva.data.layouts import describe, read_splits
    from diva.data.layouts.class_folders import ImageFolder, read_image_folders
    from diva.data.layouts.clips import frames_of
    from diva.data.mask_statistics import mask_statistics
    from diva.data.masks import (
        colour_codes,
        hisdb_name,
        looks_like_hisdb,
        mask_codes,
        read_mask,
        read_mask_and_boundary,
    )
    from diva.data.pixels import Pixels, frame_pixels, padded_width
    from diva.data.sampling import balanced_order
    from diva.data.unseen import find_clips, find_images, find_points, find_texts
    from diva.errors import DataError, DivaError, UsageError
    from diva.experiment.api import run
    from diva.experiment.drawing import classification_figures
    from diva.experiment.find import load_task
    from diva.learning.checkpoints import load_weights
    from diva.learning.drawings import Animation, Drawing, Embedding, Histogram, Picture, Table
    from diva.learning.image_task import ImageTask
    from diva.learning.metrics import (
        class_report,
        classification_scores,
        confusion_counts,
        label_ranks,
        macro_f1,
        precision_recall_f1,
        surest_mistakes,
        top_k_accuracy,
    )
    from diva.learning.multi_label import (
        exact_match,
        micro_f1,
        multi_label_counts,
        multi_label_f1,
        multi_label_jaccard,
        multi_label_report,
        sample_jaccard,
    )
    from diva.learning.overlap import dice_per_class, iou_per_class, mean_dice, mean_iou, pixel_accuracy
    from diva.learning.ranking import (
        RankingCounts,
        average_precision,
        average_precisions,
        best_thresholds,
        mean_over_classes,
        precision_recall_curve,
        precision_recall_curves,
        ranking_counts,
        roc_area,
        roc_areas,
        roc_curve,
        roc_curves,
    )
    from diva.learning.retrieval import Retrieval, nearest_neighbours, pairwise_distances, score_retrieval
    from diva.learning.sizes import count_macs
    from diva.learning.task import Change, Data, DataFolder, Outputs, Split, Step, Task, Unseen
    from diva.learning.weights import start_from
    from diva.learning.zoo import build_zoo_model, logits_and_auxiliary, own_models, zoo_models
    from diva.report.boundary import decision_boundary
    from diva.report.curve_figures import class_scores, precision_recall_figure, roc_figure
    from diva.report.data_figures import point_scatter
    from diva.report.figures import confusion_matrix, curves, image_grid, sample_sheet
    from diva.report.neighbours import RankedRow, neighbour_sheet
    from diva.seeding import Seeds
    from diva.torchvision_shim import import_torchvision

_HOMES = {
    "Field": "pydantic",
    "Augmentation": "diva.data.augmentation",
    "NOTHING": "diva.data.augmentation",
    "Images": "diva.data.image_set",
    "image_statistics": "diva.data.images",
    "open_image": "diva.data.images",
    "describe": "diva.data.layouts",
    "read_splits": "diva.data.layouts",
    "ImageFolder": "diva.data.layouts.class_folders",
    "read_image_folders": "diva.data.layouts.class_folders",
    "frames_of": "diva.data.layouts.clips",
    "mask_statistics": "diva.data.mask_statistics",
    "colour_codes": "diva.data.masks",
    "hisdb_name": "diva.data.masks",
    "looks_like_hisdb": "diva.data.masks",
    "mask_codes": "diva.data.masks",
    "read_mask": "diva.data.masks",
    "read_mask_and_boundary": "diva.data.masks",
    "Pixels": "diva.data.pixels",
    "frame_pixels": "diva.data.pixels",
    "padded_width": "diva.data.pixels",
    "balanced_order": "diva.data.sampling",
    "find_clips": "diva.data.unseen",
    "find_images": "diva.data.unseen",
    "find_points": "diva.data.unseen",
    "find_texts": "diva.data.unseen",
    "DataError": "diva.errors",
    "DivaError": "diva.errors",
    "UsageError": "diva.errors",
    "run": "diva.experiment.api",
    "classification_figures": "diva.experiment.drawing",
    "load_task": "diva.experiment.find",
    "load_weights": "diva.learning.checkpoints",
    "Animation": "diva.learning.drawings",
    "Drawing": "diva.learning.drawings",
    "Embedding": "diva.learning.drawings",
    "Histogram": "diva.learning.drawings",
    "Picture": "diva.learning.drawings",
    "Table": "diva.learning.drawings",
    "ImageTask": "diva.learning.image_task",
    "class_report": "diva.learning.metrics",
    "classification_scores": "diva.learning.metrics",
    "confusion_counts": "diva.learning.metrics",
    "label_ranks": "diva.learning.metrics",
    "macro_f1": "diva.learning.metrics",
    "precision_recall_f1": "diva.learning.metrics",
    "surest_mistakes": "diva.learning.metrics",
    "top_k_accuracy": "diva.learning.metrics",
    "exact_match": "diva.learning.multi_label",
    "micro_f1": "diva.learning.multi_label",
    "multi_label_counts": "diva.learning.multi_label",
    "multi_label_f1": "diva.learning.multi_label",
    "multi_label_jaccard": "diva.learning.multi_label",
    "multi_label_report": "diva.learning.multi_label",
    "sample_jaccard": "diva.learning.multi_label",
    "dice_per_class": "diva.learning.overlap",
    "iou_per_class": "diva.learning.overlap",
    "mean_dice": "diva.learning.overlap",
    "mean_iou": "diva.learning.overlap",
    "pixel_accuracy": "diva.learning.overlap",
    "RankingCounts": "diva.learning.ranking",
    "average_precision": "diva.learning.ranking",
    "average_precisions": "diva.learning.ranking",
    "best_thresholds": "diva.learning.ranking",
    "mean_over_classes": "diva.learning.ranking",
    "precision_recall_curve": "diva.learning.ranking",
    "precision_recall_curves": "diva.learning.ranking",
    "ranking_counts": "diva.learning.ranking",
    "roc_area": "diva.learning.ranking",
    "roc_areas": "diva.learning.ranking",
    "roc_curve": "diva.learning.ranking",
    "roc_curves": "diva.learning.ranking",
    "Retrieval": "diva.learning.retrieval",
    "nearest_neighbours": "diva.learning.retrieval",
    "pairwise_distances": "diva.learning.retrieval",
    "score_retrieval": "diva.learning.retrieval",
    "count_macs": "diva.learning.sizes",
    "Change": "diva.learning.task",
    "Data": "diva.learning.task",
    "DataFolder": "diva.learning.task",
    "Outputs": "diva.learning.task",
    "Split": "diva.learning.task",
    "Step": "diva.learning.task",
    "Task": "diva.learning.task",
    "Unseen": "diva.learning.task",
    "start_from": "diva.learning.weights",
    "build_zoo_model": "diva.learning.zoo",
    "logits_and_auxiliary": "diva.learning.zoo",
    "own_models": "diva.learning.zoo",
    "zoo_models": "diva.learning.zoo",
    "decision_boundary": "diva.report.boundary",
    "class_scores": "diva.report.curve_figures",
    "precision_recall_figure": "diva.report.curve_figures",
    "roc_figure": "diva.report.curve_figures",
    "point_scatter": "diva.report.data_figures",
    "confusion_matrix": "diva.report.figures",
    "curves": "diva.report.figures",
    "image_grid": "diva.report.figures",
    "sample_sheet": "diva.report.figures",
    "RankedRow": "diva.report.neighbours",
    "neighbour_sheet": "diva.report.neighbours",
    "Seeds": "diva.seeding",
    "import_torchvision": "diva.torchvision_shim",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'diva' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*_HOMES, "__version__", "resources"])


def resources(kind: str) -> Path:
    """The folder of `templates` or `datasets`: inside an installed `diva`, beside it in a checkout."""
    inside = Path(__file__).parent / kind
    return inside if inside.is_dir() else Path(__file__).parent.parent / kind
