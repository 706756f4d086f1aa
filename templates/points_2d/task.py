"""Classify points: a table of numbers with a label in the last column, and a picture of what the network makes of the plane."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from diva import Data, DataFolder, Field, Outputs, Split, Step, Task, Unseen, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from diva import Drawing


class Points2D(Task):
    """Classify rows of numbers by a small fully connected network; its decisions are drawn in the plane after every epoch."""

    default_data: ClassVar[str | None] = "shapes_spiral"
    draws_every_epoch: ClassVar[bool] = True
    animations: ClassVar[tuple[str, ...]] = ("boundary",)

    epochs: int = Field(40, ge=0, description="passes over the training data")
    batch_size: int = Field(32, ge=1, description="samples per step")
    lr: float = Field(1e-2, gt=0, description="step size")
    schedule: Literal["constant", "step", "multistep", "exponential", "cosine", "plateau"] = Field(
        "cosine", description="how lr changes from epoch to epoch, as in torch.optim.lr_scheduler"
    )
    monitor: str = Field(
        "val/loss", description="metric that names the best epoch: less is better for loss and error, else more"
    )

    features: tuple[str, ...] = Field((), description="columns of the table to use, as in x,y; default: all")
    projection: Literal["none", "pca"] = Field(
        "none", description="pca shows the network the first two principal components of the columns, no more"
    )
    model: str = Field("fc_wide", description="fc_simple, fc_medium or fc_wide")
    hidden: int | None = Field(None, ge=1, description="units of each hidden layer; default: as the model has it")
    depth: int | None = Field(None, ge=0, description="number of hidden layers; default: as the model has it")
    activation: Literal["tanh", "relu", "gelu", "silu", "sigmoid"] = Field(
        "relu", description="after each hidden layer"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="share of hidden units left out at random, in training")

    def load_data(self, folder: DataFolder | None) -> Data:
        """Read `train|val|test/points.csv`; every number taken off or divided by comes from the training split alone."""
        import torch
        from torch.utils.data import TensorDataset

        from diva import read_splits

        from .table import choose_columns, plane, prepare

        assert folder is not None
        splits: dict[str, Any] = dict(read_splits(folder.path, "points"))
        columns, values = choose_columns(splits, self.features)
        prepared = prepare(columns, values["train"], project=self.projection == "pca")
        inputs = {name: prepared.apply(found) for name, found in values.items()}
        train, val, test = (
            TensorDataset(torch.from_numpy(inputs[name]).float(), torch.tensor(splits[name].labels))
            for name in ("train", "val", "test")
        )
        classes = splits["train"].classes
        counts = {name: [split.labels.count(k) for k in range(len(classes))] for name, split in splits.items()}
        facts = {"classes": list(classes), "columns": list(columns), "n_features": inputs["train"].shape[1], "class_counts": counts,
                 "mean": list(prepared.mean), "std": list(prepared.std), "axes": [list(axis) for axis in prepared.axes],
                 "axes_std": list(prepared.axes_std)}  # fmt: skip
        return Data(train, val, test, facts, {"plane": torch.from_numpy(plane(inputs["train"])).float()})

    def build_model(self, data: Data) -> nn.Module:
        """The network that the knob `model` names, with the width and depth asked for."""
        from .models import MODELS

        if self.model not in MODELS:
            raise UsageError(f"--model {self.model}: no model is called so; there are {', '.join(MODELS)}")
        sizes = {name: value for name, value in (("hidden", self.hidden), ("depth", self.depth)) if value is not None}
        return MODELS[self.model](
            data.facts["n_features"],
            len(data.facts["classes"]),
            activation=self.activation,
            dropout=self.dropout,
            **sizes,
        )

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        """Cross entropy."""
        from torch.nn.functional import cross_entropy

        points, labels = batch  # (B, D), (B,)
        logits = model(points)  # (B, C)
        outputs = {"labels": labels, "predictions": logits.argmax(1)}
        return Step(cross_entropy(logits, labels), outputs if model.training else {**outputs, "logits": logits})

    def read_unseen(self, folder: Path, data: Data) -> Unseen:
        """The rows of a table with the columns that were learnt from, prepared as those were."""
        import numpy
        import torch
        from torch.utils.data import TensorDataset

        from diva import find_points

        from .table import Preparation

        facts = data.facts
        found = find_points(folder, facts["columns"])
        prepared = Preparation(*(facts[name] for name in ("columns", "mean", "std", "axes", "axes_std")))
        inputs = prepared.apply(numpy.array(found.features))
        return Unseen(TensorDataset(torch.from_numpy(inputs).float()), found.names, found.labels)

    def predict(self, model: nn.Module, batch: Any, data: Data) -> Outputs:
        """The probability of each class, for `diva apply`."""
        return {"probabilities": model(batch[0]).softmax(1)}  # (B, C)

    def compute_metrics(self, outputs: Outputs, data: Data) -> dict[str, float]:
        """Accuracy, and F1 averaged over the classes."""
        from diva import classification_scores

        return classification_scores(outputs["labels"], outputs["predictions"], len(data.facts["classes"]))

    def draw_figures(
        self, model: nn.Module, outputs: Outputs, data: Data, split: Split
    ) -> Iterator[tuple[str, Drawing]]:
        """The training points; then the regions of the classes in the plane, with this split's points; at last the report."""
        from diva import classification_figures

        from .boundary import draw_boundary, draw_points

        if split == "train":
            yield "points", draw_points(data)
            return
        yield "boundary", draw_boundary(model, data, split, outputs)
        if split == "test":
            yield from classification_figures(outputs["labels"], outputs["predictions"], data.facts["classes"], split)
