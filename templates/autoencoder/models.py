"""Auto-encoders for images of any size: an image becomes a few numbers, its code, and the code an image. `MODELS` is the list of names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

if TYPE_CHECKING:
    from collections.abc import Callable

SMALLEST = 4  # pixels: images are halved until no side is longer


def stages(height: int, width: int, n_channels: int) -> list[tuple[int, int, int]]:
    """Channels, height and width after each halving, the first being the image's own size; channels double, up to four times."""
    found = [(n_channels, height, width)]
    while max(height, width) > SMALLEST:
        height, width = -(-height // 2), -(-width // 2)
        found.append((n_channels * min(4, 2 ** (len(found) - 1)), height, width))
    return found


def block(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    """A convolution, batch norm and ReLU; a stride of 2 halves the image."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()
    )


class Encoder(nn.Module):
    """Blocks of convolution, all but the first halving the image, then a layer to `n_numbers`."""

    def __init__(self, channels: int, sizes: list[tuple[int, int, int]], n_numbers: int) -> None:
        super().__init__()
        widths = [channels, *(size[0] for size in sizes)]
        self.features = nn.Sequential(*(block(widths[k], widths[k + 1], 2 if k else 1) for k in range(len(sizes))))
        n_channels, height, width = sizes[-1]
        self.head = nn.Linear(n_channels * height * width, n_numbers)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, channels, H, W). Returns (B, n_numbers)."""
        numbers: Tensor = self.head(self.features(images).flatten(1))
        return numbers


class Decoder(nn.Module):
    """The way back: a layer, then blocks of convolution, before all but the first of which the image is enlarged by repeating pixels."""

    def __init__(self, channels: int, sizes: list[tuple[int, int, int]], bottleneck: int) -> None:
        super().__init__()
        self.sizes = sizes[::-1]
        n_channels, height, width = self.sizes[0]
        self.head = nn.Linear(bottleneck, n_channels * height * width)
        widths = [n_channels, *(size[0] for size in self.sizes)]
        self.blocks = nn.ModuleList(block(widths[k], widths[k + 1]) for k in range(len(sizes)))
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """codes: (B, bottleneck). Returns logits of pixels in [0, 1], (B, channels, H, W)."""
        features = self.head(codes).view(-1, *self.sizes[0]).relu()
        for (_, height, width), convolutions in zip(self.sizes, self.blocks, strict=True):
            features = convolutions(interpolate(features, size=(height, width), mode="nearest"))
        logits: Tensor = self.last(features)
        return logits


class AutoEncoder(nn.Module):
    """A convolutional auto-encoder: the code is what the encoder says."""

    variational = False

    def __init__(self, channels: int, height: int, width: int, bottleneck: int, n_channels: int = 32) -> None:
        super().__init__()
        sizes = stages(height, width, n_channels)
        self.encoder = Encoder(channels, sizes, bottleneck)
        self.decoder = Decoder(channels, sizes, bottleneck)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """images: (B, channels, H, W). Returns codes (B, bottleneck), and None: they are certain."""
        return self.encoder(images), None

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, channels, H, W). Returns logits of their pixels, (B, channels, H, W)."""
        logits: Tensor = self.decoder(self.encode(images)[0])
        return logits


class VariationalAutoEncoder(nn.Module):
    """A convolutional auto-encoder whose encoder says a normal distribution of codes: Kingma and Welling 2014."""

    variational = True

    def __init__(self, channels: int, height: int, width: int, bottleneck: int, n_channels: int = 32) -> None:
        super().__init__()
        sizes = stages(height, width, n_channels)
        self.encoder = Encoder(channels, sizes, 2 * bottleneck)
        self.decoder = Decoder(channels, sizes, bottleneck)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """images: (B, channels, H, W). Returns mean and logarithm of the variance of their codes, (B, bottleneck) each."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return mean, log_variance

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, channels, H, W). Returns logits of the pixels that the mean code stands for, (B, channels, H, W)."""
        logits: Tensor = self.decoder(self.encode(images)[0])
        return logits


def sampled(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Codes drawn from normal distributions, such that gradients flow to both, (B, bottleneck)."""
    return mean + torch.randn_like(mean) * (log_variance / 2).exp()


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """From the standard normal distribution, in nats, per image (B,)."""
    return (log_variance.exp() + mean * mean - 1 - log_variance).sum(1) / 2


MODELS: dict[str, Callable[..., nn.Module]] = {"cae": AutoEncoder, "vae": VariationalAutoEncoder}
