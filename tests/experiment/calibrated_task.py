"""A task that chooses a constant on validation: the mean of what its model says there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

from diva import Data, DataFolder, Outputs, Step, Task


class Calibrated(Task):
    """y = x; the splits are told apart by their numbers: x is about 0 in train, 1 in val and 2 in test."""

    epochs: int = 2

    def load_data(self, folder: DataFolder | None) -> Data:
        """Four numbers per split."""
        train, val, test = (TensorDataset(split + torch.tensor([[-0.5], [-0.25], [0.25], [0.5]])) for split in range(3))
        return Data(train, val, test)

    def build_model(self, data: Data) -> nn.Module:
        """One weight."""
        return nn.Linear(1, 1)

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        """Mean squared error."""
        (x,) = batch
        return Step(nn.functional.mse_loss(model(x), x), {"x": x})

    def compute_metrics(self, outputs: Outputs, data: Data) -> dict[str, float]:
        """Once a level is chosen, the share of numbers above it."""
        level = data.constants.get("level")
        return {} if level is None else {"above": float((outputs["x"] > level).double().mean()), "level": float(level)}

    def calibrate(self, outputs: Outputs, data: Data) -> Mapping[str, torch.Tensor]:
        """The mean of the numbers."""
        return {"level": outputs["x"].double().mean()}
