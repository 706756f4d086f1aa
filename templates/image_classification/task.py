"""Classify images: class folders in, a label per image out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from diva import Data, DataFolder, Field, ImageTask, Outputs, Split, Step, UsageError

if TYPE_CHECKING:
    from torch import nn

    from diva import Drawing


class ImageClassification(ImageTask):
    """Classify images by any network of torchvision, one of diva's, or one of this folder."""

    default_data: ClassVar[str | None] = "digits"

    epochs: int = Field(15, ge=0, description="passes over the training data")
    lr: float = Field(3e-3, gt=0, description="step size")
    schedule: Literal["constant", "step", "multistep", "exponential", "cosine", "plateau"] = Field(
        "cosine", description="how lr changes from epoch to epoch, as in torch.optim.lr_scheduler"
    )
    monitor: str = Field(
        "val/accuracy", description="metric that names the best epoch: less is better for loss and error, else more"
    )

    model: str = Field(
        "small_cnn", description="small_cnn, mlp, or a classification model of torchvision: diva list models"
    )
    auxiliary: bool = Field(False, description="train googlenet and inception_v3 with their auxiliary outputs")
    pretext: Literal["none", "rotation"] = Field(
        "none",
        description="rotation learns without labels: the class is by how much an image was turned, 0, 90, 180 or 270 degrees",
    )
    class_weights: bool = Field(
        False,
        description="weigh the training loss by the inverse frequency of each class; one without training images weighs 0",
    )
    balance: Literal["none", "oversample"] = Field(
        "none",
        description="oversample reads every class as often in an epoch as the largest one, augmented afresh each time",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target spread over all classes, in training"
    )
    top_k: int = Field(3, ge=1, description="also report the accuracy within so many highest answers")

    def load_data(self, folder: DataFolder | None) -> Data:
        """Read `train|val|test/<class>/<image>`; statistics come from the training split alone."""
        import torch

        from diva import own_models

        from .models import MODELS
        from .pretext import turned

        assert folder is not None
        if self.class_weights and self.balance != "none":
            raise UsageError("--class-weights and --balance both make up for rare classes; choose one")
        if self.pretext != "none" and (self.class_weights or self.balance != "none"):
            raise UsageError("--pretext has as many images of each class; leave out --class-weights and --balance")
        any_channels = self.model in MODELS or self.model in own_models()
        labels: Any = "one" if self.pretext == "none" else "any"
        data = self.load_images(folder, labels=labels, rgb=not any_channels, balanced=self.balance == "oversample")
        data = turned(data) if self.pretext == "rotation" else data
        counts = torch.tensor(data.facts["class_counts"]["train"], dtype=torch.float64)
        n_present = int((counts > 0).sum())
        weights = torch.where(counts > 0, counts.sum() / (n_present * counts), 0.0).float()  # (C,), mean 1 over samples
        return replace(data, constants={"class_weights": weights})

    def build_model(self, data: Data) -> nn.Module:
        """The network that the knob `model` names, with fresh weights."""
        from diva import build_zoo_model

        from .models import MODELS

        height, width = data.facts["input_size"]
        n_classes = len(data.facts["classes"])
        if self.model in MODELS:
            return MODELS[self.model](data.facts["channels"], height, width, n_classes)
        return build_zoo_model(self.model, n_classes, data.facts["channels"], (height, width), auxiliary=self.auxiliary)

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        """Cross entropy. Class weights and label smoothing shape the training loss alone: an evaluation is not weighted."""
        from torch.nn.functional import cross_entropy

        from diva import label_ranks, logits_and_auxiliary

        images, labels = batch  # (B, channels, H, W), (B,)
        logits, auxiliary = logits_and_auxiliary(model(images))  # (B, C), in training perhaps more of them
        if model.training:
            weight = data.constants["class_weights"] if self.class_weights else None
            loss = cross_entropy(logits, labels, weight, label_smoothing=self.label_smoothing)
            for share, others in auxiliary:
                loss = loss + share * cross_entropy(others, labels, weight, label_smoothing=self.label_smoothing)
        else:
            loss = cross_entropy(logits, labels)
        outputs = {"labels": labels, "predictions": logits.argmax(1), "ranks": label_ranks(logits, labels)}
        return Step(loss, outputs if model.training else {**outputs, "logits": logits})

    def predict(self, model: nn.Module, batch: Any, data: Data) -> Outputs:
        """The probability of each class, for `diva apply`."""
        images, _ = batch  # (B, channels, H, W)
        return {"probabilities": model(images).softmax(1)}  # (B, C)

    def compute_metrics(self, outputs: Outputs, data: Data) -> dict[str, float]:
        """Accuracy, accuracy within the `top_k` highest answers, and F1 averaged over the classes."""
        from diva import classification_scores, top_k_accuracy

        scores = classification_scores(outputs["labels"], outputs["predictions"], len(data.facts["classes"]))
        within = {f"top{self.top_k}_accuracy": top_k_accuracy(outputs["ranks"], self.top_k)}
        return {"accuracy": scores["accuracy"], **within, "macro_f1": scores["macro_f1"]}

    def draw_figures(
        self, model: nn.Module, outputs: Outputs, data: Data, split: Split
    ) -> Iterator[tuple[str, Drawing]]:
        """The training images as the network sees them; then confusions, a report and curves per class, and the worst mistakes."""
        from . import figures

        if split == "train":
            yield "samples", figures.samples(data)
        else:
            yield from figures.of_split(outputs, data, split)
