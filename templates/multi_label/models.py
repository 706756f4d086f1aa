"""Networks of this task; others come by name from diva and torchvision. Change it, add yours: `MODELS` is the list of names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


class MaxCNN(nn.Module):
    """Four convolutions, of which two halve the image, and for each class the strongest answer anywhere: a label is found, not averaged.

    channels, n_classes: of the images and of the answer. About 95,000 parameters. Takes (B, channels, H, W) with H, W >= 4.
    """

    def __init__(self, channels: int, n_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 128, 3, padding=1, bias=False), nn.BatchNorm2d(128), nn.ReLU(),
        )  # fmt: skip
        self.classifier = nn.Conv2d(128, n_classes, 1)
        self.pool = nn.AdaptiveMaxPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, channels, H, W). Returns logits (B, n_classes)."""
        found = self.classifier(self.features(images))  # (B, n_classes, H/4, W/4)
        logits: Tensor = self.pool(found).flatten(1)
        return logits


MODELS: dict[str, Callable[[int, int], nn.Module]] = {"max_cnn": MaxCNN}
