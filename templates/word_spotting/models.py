"""Networks that predict the PHOC of a word image of any width. Change them, add yours: `MODELS` is the list of names."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


class PyramidPooling(nn.Module):
    """Features of any width become a vector per bin of a pyramid: the largest value of each channel in it.

    temporal: 1, 2, 4 and 8 bins over the width, each as high as the image (Sudholt and Fink 2017). spatial: 1 x 1, 2 x 2 and 4 x 4 bins
    (He et al. 2014). Bins cover the columns of the word, not the padding to its right.
    """

    def __init__(self, *, spatial: bool) -> None:
        super().__init__()
        self.rows, self.columns = (4, 4) if spatial else (1, 8)
        self.n_bins = 1 + 4 + 16 if spatial else 1 + 2 + 4 + 8

    def forward(self, features: Tensor, columns: Tensor) -> Tensor:
        """features: (B, C, H, W); columns: int64 (B,) in [1, W], those that the word fills. Returns (B, C, n_bins)."""
        height, width = features.shape[2:]
        bins = torch.arange(self.columns, device=features.device)
        first = bins * columns[:, None] // self.columns  # (B, bins)
        last = -(-(bins + 1) * columns[:, None] // self.columns) - 1
        longest = torch.arange(-(-width // self.columns) + 1, device=features.device)
        places = torch.minimum(first[:, :, None] + longest, last[:, :, None]).flatten(1)  # a bin's last column repeated
        grid = []
        for row in range(self.rows):
            top, bottom = row * height // self.rows, -(-(row + 1) * height // self.rows)
            stripe = features[:, :, top:bottom].amax(2)  # (B, C, W)
            picked = stripe.gather(2, places[:, None].expand(-1, stripe.shape[1], -1))
            grid.append(picked.unflatten(2, (self.columns, -1)).amax(3))
        level = torch.stack(grid, 2)  # (B, C, rows, columns)
        pyramid = [level.flatten(2)]
        while level.shape[3] > 1:
            level = level.unflatten(3, (-1, 2)).amax(4)
            level = level.unflatten(2, (-1, 2)).amax(3) if self.rows > 1 else level
            pyramid.append(level.flatten(2))
        return torch.cat(pyramid, 2)


class PHOCNet(nn.Module):
    """Convolutions of 3 x 3, pyramid pooling, and layers that give one logit per attribute of the PHOC.

    blocks: the widths of the convolutions, a list per block. halvings: by how much max pooling (height, width) divides after each block.
    hidden: units of each hidden layer, dropout after it; () for none.
    Source: Sudholt and Fink 2016, PHOCNet: A Deep Convolutional Neural Network for Word Spotting in Handwritten Documents.
    """

    def __init__(
        self,
        n_attributes: int,
        blocks: tuple[tuple[int, ...], ...],
        halvings: tuple[tuple[int, int], ...],
        hidden: tuple[int, ...],
        *,
        spatial: bool,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for widths, halving in zip(blocks, halvings, strict=True):
            for width in widths:
                layers.append(nn.Conv2d(before, width, 3, padding=1, bias=not batch_norm))
                layers += [nn.BatchNorm2d(width), nn.ReLU()] if batch_norm else [nn.ReLU()]
                before = width
            layers += [nn.MaxPool2d(halving, ceil_mode=True)] if halving != (1, 1) else []
        self.features = nn.Sequential(*layers)
        self.pooling = PyramidPooling(spatial=spatial)
        # The largest value of a bin is far from 0 and varies little: without this, small networks learn nothing for epochs.
        self.balance: nn.Module = nn.BatchNorm1d(before) if batch_norm else nn.Identity()
        self.across = math.prod(halving[1] for halving in halvings)
        before, layers = before * self.pooling.n_bins, []
        for width in hidden:
            layers += [nn.Linear(before, width), nn.ReLU(), nn.Dropout(0.5)]
            before = width
        self.attributes = nn.Sequential(*layers, nn.Linear(before, n_attributes))

    def forward(self, images: Tensor, columns: Tensor) -> Tensor:
        """images: (B, 1, H, W); columns: int64 (B,), of each image those that are not padding. Returns logits (B, A)."""
        features = self.features(images)  # (B, C, H', W / across), rounded up
        pooled = self.balance(self.pooling(features, -(-columns // self.across)))  # (B, C, bins)
        logits: Tensor = self.attributes(pooled.flatten(1))
        return logits


def phocnet_small(n_attributes: int, *, spatial: bool) -> nn.Module:
    """For small images and a minute on two cores: four convolutions with batch norm, no hidden layer."""
    blocks, halvings = ((16,), (32,), (64, 64)), ((2, 2), (2, 1), (1, 1))
    return PHOCNet(n_attributes, blocks, halvings, (), spatial=spatial, batch_norm=True)


def phocnet(n_attributes: int, *, spatial: bool) -> nn.Module:
    """As published: thirteen convolutions and two hidden layers of 4,096 units; it wants a GPU."""
    blocks, halvings = ((64, 64), (128, 128), (256,) * 6 + (512,) * 3), ((2, 2), (2, 2), (1, 1))
    return PHOCNet(n_attributes, blocks, halvings, (4096, 4096), spatial=spatial, batch_norm=False)


MODELS: dict[str, Callable[..., nn.Module]] = {"phocnet_small": phocnet_small, "phocnet": phocnet}
