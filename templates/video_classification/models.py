"""Networks that watch clips. Change them, add yours: `MODELS` is the list of names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTHS = (16, 32, 64)
GRID = 2  # quarters: where all places are averaged, what goes apart (zoom in) looks like what comes together (zoom out)


def _normalised(convolution: nn.Module, channels: int) -> list[nn.Module]:
    return [convolution, nn.BatchNorm3d(channels), nn.ReLU()]


class R2Plus1D(nn.Module):
    """Three blocks, each a convolution within the frames and then one over three neighbouring frames; `pooled`, and a layer.

    The first two blocks halve height and width. About 44,000 parameters. After "(2+1)D" of Tran et al. 2018, without its skips.
    """

    def __init__(self, channels: int, n_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, size, stride in zip(WIDTHS, (5, 3, 3), (2, 2, 1), strict=True):
            within = nn.Conv3d(
                channels, width, (1, size, size), (1, stride, stride), (0, size // 2, size // 2), bias=False
            )
            between = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0), bias=False)
            layers += [*_normalised(within, width), *_normalised(between, width)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(GRID * GRID * channels, n_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """clips: (B, channels, T, H, W) with H, W >= 4. Returns logits (B, n_classes)."""
        logits: Tensor = self.classifier(pooled(self.features(clips)))
        return logits


class C3D(nn.Module):
    """Three blocks of convolution over place and time at once; `pooled`, and a layer. After C3D of Tran et al. 2015."""

    def __init__(self, channels: int, n_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, size, stride in zip(WIDTHS, (5, 3, 3), (2, 2, 1), strict=True):
            convolution = nn.Conv3d(
                channels, width, (3, size, size), (1, stride, stride), (1, size // 2, size // 2), bias=False
            )
            layers += _normalised(convolution, width)
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(GRID * GRID * channels, n_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """As `R2Plus1D.forward`."""
        logits: Tensor = self.classifier(pooled(self.features(clips)))
        return logits


class FrameCNN(nn.Module):
    """Each frame by itself through three blocks; `pooled`, and a layer.

    It is blind to the order of frames: from a single frame nobody can tell where the camera goes. With `differences` it can.
    """

    def __init__(self, channels: int, n_classes: int) -> None:
        super().__init__()
        self.features = frame_features(channels)
        self.classifier = nn.Linear(GRID * GRID * WIDTHS[-1], n_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """As `R2Plus1D.forward`."""
        logits: Tensor = self.classifier(pooled(of_each_frame(self.features, clips).transpose(1, 2)))
        return logits


class FrameGRU(nn.Module):
    """Each frame through three blocks to a grid of 4 x 4 places, then a gated recurrent unit over the frames (Cho et al. 2014)."""

    def __init__(self, channels: int, n_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(frame_features(channels), nn.AdaptiveAvgPool2d(4))
        self.seen = nn.Linear(WIDTHS[-1] * 16, 64)
        self.gru = nn.GRU(64, 64, batch_first=True)
        self.classifier = nn.Linear(64, n_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """As `R2Plus1D.forward`."""
        seen = self.seen(of_each_frame(self.features, clips).flatten(2)).relu()  # (B, T, 64)
        logits: Tensor = self.classifier(self.gru(seen)[0].mean(1))
        return logits


def pooled(features: Tensor) -> Tensor:
    """The mean over time and over each quarter of the picture: (B, C, T, h, w) -> (B, 4 C)."""
    return adaptive_avg_pool2d(features.mean(2), GRID).flatten(1)


def frame_features(channels: int) -> nn.Sequential:
    """Three blocks of convolution for single frames, the first two halving height and width: (N, channels, H, W) -> (N, 64, H/4, W/4)."""
    layers: list[nn.Module] = []
    for width, size, stride in zip(WIDTHS, (5, 3, 3), (2, 2, 1), strict=True):
        layers += [nn.Conv2d(channels, width, size, stride, size // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers)


def of_each_frame(features: nn.Module, clips: Tensor) -> Tensor:
    """The features of every frame by itself: clips (B, channels, T, H, W) -> (B, T, C, h, w)."""
    frames = clips.transpose(1, 2)  # (B, T, channels, H, W)
    found: Tensor = features(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
    return found


class WithDifferences(nn.Module):
    """A network that is also shown what changed since the frame before: as many channels again, zero for the first frame."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        """clips: (B, 3, T, H, W); the network gets (B, 6, T, H, W)."""
        changes = clips[:, :, 1:] - clips[:, :, :-1]
        logits: Tensor = self.network(torch.cat([clips, torch.cat([torch.zeros_like(clips[:, :, :1]), changes], 2)], 1))
        return logits


MODELS: dict[str, Callable[[int, int], nn.Module]] = {
    "r2plus1d": R2Plus1D,
    "c3d": C3D,
    "frame_cnn": FrameCNN,
    "frame_gru": FrameGRU,
}
