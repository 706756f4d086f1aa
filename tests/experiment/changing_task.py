"""A task whose model grows twice, freezes what it was, and ends before its last epoch."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

from diva import Change, Data, DataFolder, Field, Outputs, Split, Step, Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

EPOCHS_OF_A_LAYER = 2


class Growing(nn.Module):
    """Layers one after the other, each with batch norm; all but the last are frozen. `seen` is what the changes were made from."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = nn.ModuleList([_layer(3)]), nn.Linear(4, 2)
        self.seen: list[Any] = []

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: (B, 3). Returns logits (B, 2)."""
        for layer in self.layers:
            inputs = nn.functional.dropout(layer(inputs), 0.2, self.training)
        logits: Tensor = self.head(inputs)
        return logits

    def structure(self) -> Any:
        """How many layers there are, and why."""
        return {"layers": len(self.layers), "seen": self.seen}

    def restructure(self, structure: Any) -> None:
        """So many layers."""
        self.layers = nn.ModuleList(_layer(4 if i else 3) for i in range(structure["layers"]))
        self.seen = list(structure["seen"])


def _layer(n_inputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n_inputs, 4), nn.BatchNorm1d(4), nn.ReLU())


class Changing(Task):
    """Two classes of points. Each layer adds one to the loss outside of training: no change is for the better."""

    epochs: int = 30
    batch_size: int = 8
    optimizer: Any = "adamw"
    schedule: Any = "cosine"
    layers: int = Field(3, ge=1, description="layers in the end")

    def load_data(self, folder: DataFolder | None) -> Data:
        """40 points for each split."""
        inputs = torch.randn(120, 3)
        labels = (inputs.sum(1) > 0).long()
        train, val, test = (TensorDataset(inputs[i::3], labels[i::3]) for i in range(3))
        return Data(train, val, test)

    def build_model(self, data: Data) -> nn.Module:
        """One layer."""
        return Growing()

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        """Cross entropy."""
        inputs, labels = batch
        logits = model(inputs)
        loss = nn.functional.cross_entropy(logits, labels)
        if not model.training:
            assert isinstance(model, Growing)
            loss = loss + len(model.layers)
        return Step(loss, {"labels": labels, "logits": logits})

    def end_epoch(self, model: nn.Module, evaluate: Callable[[Split], Outputs], data: Data, epoch: int) -> Change:
        """A layer every two epochs, with a look at two splits; the end two epochs after the last."""
        assert isinstance(model, Growing)
        if epoch == 0 or epoch % EPOCHS_OF_A_LAYER:
            return "go on"
        if len(model.layers) == self.layers:
            return "finished"
        model.seen.append([float(evaluate(split)["logits"][0, 0]) for split in ("train", "val")])
        model.layers.requires_grad_(False)
        model.layers.append(_layer(4))
        warnings.warn(f"layer {len(model.layers)} was added", stacklevel=1)
        return "changed"
