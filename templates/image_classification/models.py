"""Networks of this task; others come by name from diva and torchvision. Change it, add yours: `MODELS` is the list of names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


class MLP(nn.Module):
    """The baseline: one hidden layer of 128 units; 101,770 parameters for 28 x 28 grey images and 10 classes."""

    def __init__(self, channels: int, height: int, width: int, n_classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels * height * width, 128)
        self.classifier = nn.Linear(128, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, channels, H, W). Returns logits (B, n_classes)."""
        logits: Tensor = self.classifier(self.hidden(images.flatten(1)).relu())
        return logits


MODELS: dict[str, Callable[[int, int, int, int], nn.Module]] = {"mlp": MLP}
