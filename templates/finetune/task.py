"""Fine-tune: a network that has learnt from other images learns yours, from few of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from diva import Data, DataFolder, Field, ImageTask, Outputs, Split, Step, UsageError

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from diva import Drawing


class Finetune(ImageTask):
    """Classify images, starting from trained weights: this folder's, or those of a run or file named with --load."""

    default_data: ClassVar[str | None] = "digits"

    epochs: int = Field(10, ge=0, description="passes over the training data")
    batch_size: int = Field(32, ge=1, description="samples per step")
    lr: float = Field(1e-3, gt=0, description="step size of the backbone")
    schedule: Literal["constant", "step", "multistep", "exponential", "cosine", "plateau"] = Field(
        "cosine", description="how lr changes from epoch to epoch, as in torch.optim.lr_scheduler"
    )
    monitor: str = Field(
        "val/accuracy", description="metric that names the best epoch: less is better for loss and error, else more"
    )

    model: str = Field("small_cnn", description="small_cnn, or any other name that diva list models shows")
    backbone: Literal["auto", "shipped", "fresh"] = Field(
        "auto",
        description="shipped: the weights of this folder, for small_cnn on grey images; fresh: random ones; auto: shipped where they "
        "fit. --load goes over either",
    )
    head_lr_factor: float = Field(10.0, gt=0, description="the last layer's step size as a multiple of lr")
    probe: bool = Field(False, description="train the last layer alone: a linear probe of what the backbone knows")
    frozen_norm: bool = Field(False, description="leave batch norms as they were loaded: statistics, scale and shift")

    def load_data(self, folder: DataFolder | None) -> Data:
        """Read `train|val|test/<class>/<image>`; statistics come from the training split alone."""
        from diva import own_models

        from .backbone import FILE, SHIPPED_MODEL, digest_of

        assert folder is not None
        data = self.load_images(folder, rgb=self.model not in own_models())
        fits = self.model == SHIPPED_MODEL and data.facts["channels"] == 1
        if self.backbone == "shipped" and not fits:
            raise UsageError(
                f"{FILE.name} fits --model {SHIPPED_MODEL} on grey images, not {self.model} with {data.facts['channels']} channels; "
                "use --backbone fresh, and --load for weights of your own"
            )
        is_shipped = fits and self.backbone != "fresh"
        return replace(
            data, facts={**data.facts, "backbone": f"{FILE.name}, {digest_of(FILE)}" if is_shipped else None}
        )

    def build_model(self, data: Data) -> nn.Module:
        """The network that the knob `model` names, its backbone started from this folder's weights or fresh; parts of it frozen."""
        from diva import build_zoo_model

        from .backbone import freeze, start_backbone

        facts = data.facts
        model = build_zoo_model(self.model, len(facts["classes"]), facts["channels"], facts["input_size"])
        if facts["backbone"]:
            start_backbone(model)
        freeze(model, probe=self.probe, norm=self.frozen_norm)
        return model

    def build_optimizer(self, model: nn.Module) -> Optimizer:
        """What the knobs name, with a step size of its own for the last layer."""
        from .backbone import head_of

        optimizer = super().build_optimizer(model)
        group = optimizer.param_groups[0]
        head = set(model.get_submodule(head_of(model)).parameters())
        inner = [p for p in group["params"] if p not in head]
        faster = {**group, "params": [p for p in group["params"] if p in head], "lr": self.lr * self.head_lr_factor}
        if not inner:
            group["lr"] = faster["lr"]
        elif faster["params"]:
            group["params"] = inner
            optimizer.add_param_group(faster)
        return optimizer

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        """Cross entropy."""
        from torch.nn.functional import cross_entropy

        images, labels = batch  # (B, channels, H, W), (B,)
        logits = model(images)  # (B, C)
        outputs = {"labels": labels, "predictions": logits.argmax(1)}
        return Step(cross_entropy(logits, labels), outputs if model.training else {**outputs, "logits": logits})

    def predict(self, model: nn.Module, batch: Any, data: Data) -> Outputs:
        """The probability of each class, for `diva apply`."""
        images, _ = batch  # (B, channels, H, W)
        return {"probabilities": model(images).softmax(1)}  # (B, C)

    def compute_metrics(self, outputs: Outputs, data: Data) -> dict[str, float]:
        """Accuracy, and F1 averaged over the classes."""
        from diva import classification_scores

        return classification_scores(outputs["labels"], outputs["predictions"], len(data.facts["classes"]))

    def draw_figures(
        self, model: nn.Module, outputs: Outputs, data: Data, split: Split
    ) -> Iterator[tuple[str, Drawing]]:
        """Before training its images, where the weights come from and what is trained; then confusions and the report per class."""
        from diva import classification_figures, sample_sheet

        from .backbone import origin_of, plan

        classes = data.facts["classes"]
        images: Any = data.split(split)
        if split == "train":
            captions = [classes[int(label)] for label in images.labels]
            yield "samples", sample_sheet(len(images), images.sample, captions.__getitem__, "training images")
            yield "weights", origin_of(model)
            yield "layers", plan(model, self.lr, self.lr * self.head_lr_factor)
            return
        yield from classification_figures(outputs["labels"], outputs["predictions"], classes, split)
