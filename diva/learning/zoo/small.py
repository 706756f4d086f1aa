"""A small convolutional network for small images."""

from __future__ import annotations

from torch import Tensor, nn


class SmallCNN(nn.Module):
    """Three blocks of convolution, batch norm and ReLU, the first two halved by max pooling, then the mean over the image and a layer.

    channels, n_classes: of the images and of the answer. About 94,000 parameters. Takes (B, channels, H, W) with H, W >= 4.
    """

    def __init__(self, channels: int, height: int, width: int, n_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 128, 3, padding=1, bias=False), nn.BatchNorm2d(128), nn.ReLU(),
        )  # fmt: skip
        self.classifier = nn.Linear(128, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, channels, H, W). Returns logits (B, n_classes)."""
        features = self.features(images)  # (B, 128, H/4, W/4)
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits
