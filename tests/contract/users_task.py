"""A task as a user would write it: data made in memory, dropout, randomness from every library, no folder."""

from typing import Any

import numpy
import torch
from torch import nn
from torch.utils.data import Dataset

from diva import Data, DataFolder, Field, Outputs, Step, Task


class Noisy(Dataset[Any]):
    """Points of two classes, each read with noise from NumPy's global generator."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        label = index % 2
        noise = numpy.random.normal(size=4).astype("float32") + torch.rand(1).item()
        return {"x": torch.from_numpy(noise) + 3 * label, "y": label}


class TwoClouds(Task):
    """Tell two clouds of points apart."""

    batch_size: int = Field(8, ge=1, description="samples per step")
    width: int = Field(16, ge=1, description="hidden units")

    def load_data(self, folder: DataFolder | None) -> Data:
        return Data(Noisy(30), Noisy(10), Noisy(10))

    def build_model(self, data: Data) -> nn.Module:
        return nn.Sequential(nn.Linear(4, self.width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(self.width, 2))

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        logits = model(batch["x"])
        return Step(nn.functional.cross_entropy(logits, batch["y"]), {"right": logits.argmax(1) == batch["y"]})

    def compute_metrics(self, outputs: Outputs, data: Data) -> dict[str, float]:
        return {"accuracy": outputs["right"].float().mean().item()}
