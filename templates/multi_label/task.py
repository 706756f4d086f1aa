"""Give images any number of labels: `images/` and `labels.csv` in, a yes or no per image and class out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from diva import Data, DataError, DataFolder, Field, ImageTask, Outputs, Split, Step

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diva import Drawing


class MultiLabel(ImageTask):
    """Find out which labels an image has, by any network of torchvision, one of diva's, or one of this folder."""

    default_data: ClassVar[str | None] = "several_digits"

    epochs: int = Field(12, ge=0, description="passes over the training data")
    batch_size: int = Field(32, ge=1, description="samples per step")
    lr: float = Field(3e-3, gt=0, description="step size")
    schedule: Literal["constant", "step", "multistep", "exponential", "cosine", "plateau"] = Field(
        "cosine", description="how lr changes from epoch to epoch, as in torch.optim.lr_scheduler"
    )
    monitor: str = Field(
        "val/mAP", description="metric that names the best epoch: less is better for loss and error, else more"
    )

    model: str = Field(
        "max_cnn", description="max_cnn, small_cnn, or a classification model of torchvision: diva list models"
    )
    positive_weights: bool = Field(
        True,
        description="weigh each present label by absent / present of its class in train, so that rare classes count",
    )
    threshold: Literal["global", "class"] = Field(
        "global", description="the threshold with the best F1 on val: one for all classes, or one for each"
    )

    def load_data(self, folder: DataFolder | None) -> Data:
        """Read `train|val|test/images/<image>` and `labels.csv`; statistics and weights come from the training split alone."""
        import numpy
        import torch

        from diva import own_models

        from .models import MODELS

        assert folder is not None
        rgb = self.model not in MODELS and self.model not in own_models()
        data = self.load_images(folder, labels="any", rgb=rgb)
        if numpy.ndim(data.train.labels) != 2:  # type: ignore[attr-defined]
            raise DataError(
                f"{folder.path}: images have one label each; expected images/ and labels.csv in train/, val/ and test/. "
                "For class folders there is --task image_classification"
            )
        if not sum(data.facts["class_counts"]["val"]):
            raise DataError(
                f"{folder.path / 'val'}: no image has a label, so nothing could tell which epoch is the best; give some images of val "
                "labels in labels.csv, or split anew: diva split"
            )
        present = torch.tensor(data.facts["class_counts"]["train"], dtype=torch.float64)
        absent = len(data.train) - present  # type: ignore[arg-type]
        weights = torch.where((present > 0) & (absent > 0), absent / present, 1.0).float()  # (C,)
        return replace(data, constants={"positive_weights": weights})

    def build_model(self, data: Data) -> nn.Module:
        """The network that the knob `model` names, with fresh weights."""
        from diva import build_zoo_model

        from .models import MODELS

        facts = data.facts
        if self.model in MODELS:
            return MODELS[self.model](facts["channels"], len(facts["classes"]))
        return build_zoo_model(self.model, len(facts["classes"]), facts["channels"], facts["input_size"])

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        """Binary cross entropy of each label. The weights shape the training loss alone: an evaluation is not weighted."""
        from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

        images, truth = batch  # (B, channels, H, W), (B, C) of 0 and 1
        logits = model(images)  # (B, C)
        weights = data.constants["positive_weights"] if self.positive_weights and model.training else None
        loss = cross_entropy(logits, truth, pos_weight=weights)
        return Step(loss, {"scores": logits.float().sigmoid(), "truth": truth > 0.5})

    def predict(self, model: nn.Module, batch: Any, data: Data) -> Outputs:
        """The probability of each label, and which are given, for `diva apply`."""
        images, _ = batch  # (B, channels, H, W)
        scores = model(images).float().sigmoid()  # (B, C)
        return {"probabilities": scores, "chosen": self._predicted(scores, data)}

    def compute_metrics(self, outputs: Outputs, data: Data) -> dict[str, float]:
        """mAP, which needs no threshold; the rest at 0.5 and, once they are chosen, at the thresholds of `calibrate` as `tuned_...`."""
        from diva import average_precisions, mean_over_classes

        scores, truth = outputs["scores"], outputs["truth"]
        at_half = self._scores_of(scores >= 0.5, truth)
        tuned = self._scores_of(self._predicted(scores, data), truth) if "thresholds" in data.constants else {}
        return {
            "mAP": mean_over_classes(average_precisions(scores, truth)),
            **at_half,
            **{f"tuned_{name}": value for name, value in tuned.items()},
        }

    def calibrate(self, outputs: Outputs, data: Data) -> Mapping[str, Tensor]:
        """The thresholds, float64 (C,), with the best F1 on val; 0.5 for a class that has no image there."""
        import torch

        from diva import best_thresholds

        scores, truth = outputs["scores"], outputs["truth"]
        if self.threshold == "global":
            return {
                "thresholds": torch.from_numpy(best_thresholds(scores.view(-1, 1), truth.view(-1, 1))).repeat(
                    scores.shape[1]
                )
            }
        return {"thresholds": torch.from_numpy(best_thresholds(scores, truth))}

    def draw_figures(
        self, model: nn.Module, outputs: Outputs, data: Data, split: Split
    ) -> Iterator[tuple[str, Drawing]]:
        """The training images as the network sees them; then curves, scores and a report per class, and the worst mistakes."""
        from . import figures

        if split == "train":
            yield "samples", figures.samples(data)
        else:
            yield from figures.of_split(outputs, self._thresholds(outputs["scores"], data), data, split)

    def _predicted(self, scores: Tensor, data: Data) -> Tensor:
        """Which labels are given, bool (n, C)."""
        return scores.double() >= self._thresholds(scores, data)

    def _thresholds(self, scores: Tensor, data: Data) -> Tensor:
        """The chosen thresholds, or 0.5 as long as none is chosen, float64 (C,), on the device of the scores."""
        thresholds = data.constants.get("thresholds")
        return scores.new_full(scores.shape[1:], 0.5).double() if thresholds is None else thresholds.to(scores.device)

    def _scores_of(self, predicted: Tensor, truth: Tensor) -> dict[str, float]:
        from diva import exact_match, mean_over_classes, micro_f1, multi_label_counts, multi_label_f1, sample_jaccard

        counts = multi_label_counts(predicted, truth)
        return {
            "macro_f1": mean_over_classes(multi_label_f1(counts)),
            "micro_f1": micro_f1(counts),
            "jaccard": sample_jaccard(predicted, truth),
            "exact_match": exact_match(predicted, truth),
        }
