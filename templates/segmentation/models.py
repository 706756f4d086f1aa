"""Networks that give every pixel a class; torchvision's DeepLabV3 come by name. Add yours: `MODELS` is the list of names.

Each takes images float32 (B, channels, H, W), H and W multiples of 32, and returns logits (B, n_classes, H, W). `width` scales the number
of channels: 1 is the published network.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diva import import_torchvision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIDE = 32  # sides of images must be multiples of this: some networks halve them five times


def _scaled(channels: int, width: float) -> int:
    return max(4, round(channels * width))


def _conv(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    """Convolution 3 x 3, batch norm and ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class UNet(nn.Module):
    """Contracting path, expanding path, and connections between levels; with padding and batch norm.

    Source: Ronneberger et al. 2015, U-Net: convolutional networks for biomedical image segmentation.
    """

    def __init__(self, channels: int, n_classes: int, width: float) -> None:
        super().__init__()
        sizes = [_scaled(64 << level, width) for level in range(5)]
        self.down = nn.ModuleList(
            nn.Sequential(_conv(inputs, outputs), _conv(outputs, outputs))
            for inputs, outputs in zip([channels, *sizes], sizes, strict=False)
        )
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
            for inputs, outputs in zip(sizes[:0:-1], sizes[-2::-1], strict=True)
        )
        self.up = nn.ModuleList(
            nn.Sequential(_conv(2 * size, size), _conv(size, size)) for size in reversed(sizes[:-1])
        )
        self.classifier = nn.Conv2d(sizes[0], n_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, channels, H, W). Returns logits (B, n_classes, H, W)."""
        x, levels = images, []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)  # (B, sizes[level], H / 2**level, W / 2**level)
            levels.append(x)
        for enlarge, block, skipped in zip(self.enlarge, self.up, levels[-2::-1], strict=True):
            x = block(torch.cat([skipped, enlarge(x)], 1))
        return cast(Tensor, self.classifier(x))


class SegNet(nn.Module):
    """The convolutions of VGG-16 and their mirror image; the decoder puts values back to where the maxima were.

    Source: Badrinarayanan et al. 2017, SegNet: a deep convolutional encoder-decoder architecture for image segmentation.
    """

    def __init__(self, channels: int, n_classes: int, width: float) -> None:
        super().__init__()
        sizes = [_scaled(size, width) for size in (64, 128, 256, 512, 512)]
        depths = (2, 2, 3, 3, 3)
        before = [channels, *sizes[:-1]]
        self.encoder = nn.ModuleList(
            nn.Sequential(*(_conv(inputs if i == 0 else size, size) for i in range(depth)))
            for inputs, size, depth in zip(before, sizes, depths, strict=True)
        )
        after = [sizes[0], *sizes[:-1]]
        self.decoder = nn.ModuleList(
            nn.Sequential(*(_conv(size, outputs if i == depth - 1 else size) for i in range(depth)))
            for outputs, size, depth in zip(reversed(after), reversed(sizes), reversed(depths), strict=True)
        )
        self.classifier = nn.Conv2d(sizes[0], n_classes, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, channels, H, W). Returns logits (B, n_classes, H, W)."""
        x, places = images, []
        for block in self.encoder:
            x, indices = F.max_pool2d(block(x), 2, return_indices=True)
            places.append(indices)
        for block, indices in zip(self.decoder, reversed(places), strict=True):
            x = block(unpool(x, indices))
        return cast(Tensor, self.classifier(x))


def unpool(x: Tensor, indices: Tensor) -> Tensor:
    """Each value at the place of the maximum it came from, zero elsewhere: `max_unpool2d` of windows of 2 x 2, by `scatter`.

    x, indices: (B, C, H, W), the indices those of `max_pool2d`. Returns (B, C, 2 H, 2 W).
    """
    samples, channels, height, width = x.shape
    flat = x.new_zeros(samples, channels, 4 * height * width).scatter(2, indices.flatten(2), x.flatten(2))
    return flat.view(samples, channels, 2 * height, 2 * width)


class _DenseBlock(nn.Module):
    """Layers of which each sees what all before it made; returns what they made, and before it the input where `keep`."""

    def __init__(self, inputs: int, growth: int, depth: int, *, keep: bool) -> None:
        super().__init__()
        self.keep = keep
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(inputs + i * growth), nn.ReLU(inplace=True),
                nn.Conv2d(inputs + i * growth, growth, 3, padding=1), nn.Dropout2d(0.2),
            )
            for i in range(depth)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        made = [x]
        for layer in self.layers:
            made.append(layer(torch.cat(made, 1)))
        return torch.cat(made if self.keep else made[1:], 1)


class FCDenseNet(nn.Module):
    """Dense blocks down and up again, the hundred layers Tiramisu; a block going up passes on only what it made itself.

    Source: Jegou et al. 2017, The one hundred layers Tiramisu: fully convolutional DenseNets for semantic segmentation.
    """

    def __init__(
        self, channels: int, n_classes: int, width: float, depths: Sequence[int], bottleneck: int, growth: int
    ) -> None:
        super().__init__()
        growth, size = _scaled(growth, width), _scaled(48, width)
        self.first = nn.Conv2d(channels, size, 3, padding=1)
        self.down, self.halve, skipped = nn.ModuleList(), nn.ModuleList(), []
        for depth in depths:
            self.down.append(_DenseBlock(size, growth, depth, keep=True))
            size += growth * depth
            skipped.append(size)
            self.halve.append(
                nn.Sequential(
                    nn.BatchNorm2d(size), nn.ReLU(inplace=True), nn.Conv2d(size, size, 1), nn.Dropout2d(0.2), nn.MaxPool2d(2)
                )
            )  # fmt: skip
        self.bottleneck = _DenseBlock(size, growth, bottleneck, keep=False)
        self.enlarge, self.up = nn.ModuleList(), nn.ModuleList()
        made = growth * bottleneck
        for i, (depth, beside) in enumerate(zip(reversed(depths), reversed(skipped), strict=True)):
            self.enlarge.append(nn.ConvTranspose2d(made, made, 3, stride=2, padding=1, output_padding=1))
            last = i == len(depths) - 1
            self.up.append(_DenseBlock(made + beside, growth, depth, keep=last))
            made = growth * depth + (made + beside if last else 0)
        self.classifier = nn.Conv2d(made, n_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, channels, H, W). Returns logits (B, n_classes, H, W)."""
        x, levels = self.first(images), []
        for block, halve in zip(self.down, self.halve, strict=True):
            x = block(x)
            levels.append(x)
            x = halve(x)
        x = self.bottleneck(x)
        for enlarge, block, beside in zip(self.enlarge, self.up, reversed(levels), strict=True):
            x = block(torch.cat([enlarge(x), beside], 1))
        return cast(Tensor, self.classifier(x))


class DocUFCN(nn.Module):
    """Blocks of dilated convolutions that see far on few parameters, then as many upward steps; for lines and regions of documents.

    After: Boillet et al. 2020, Multiple document datasets pre-training improves text line detection with deep neural networks.
    """

    def __init__(self, channels: int, n_classes: int, width: float) -> None:
        super().__init__()
        sizes = [_scaled(32 << level, width) for level in range(4)]
        self.encoder = nn.ModuleList(
            nn.Sequential(
                *(
                    nn.Sequential(_conv(inputs if dilation == 1 else size, size, dilation), nn.Dropout(0.4))
                    for dilation in (1, 2, 4, 8, 16)
                )
            )
            for inputs, size in zip([channels, *sizes], sizes, strict=False)
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(
                _conv(inputs if i == 0 else 2 * inputs, outputs), nn.Dropout(0.4),
                nn.ConvTranspose2d(outputs, outputs, 2, stride=2), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), nn.Dropout(0.4),
            )
            for i, (inputs, outputs) in enumerate(zip(sizes[:0:-1], sizes[-2::-1], strict=True))
        )  # fmt: skip
        self.classifier = nn.Conv2d(2 * sizes[0], n_classes, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, channels, H, W). Returns logits (B, n_classes, H, W)."""
        x, levels = images, []
        for level, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2) if level else x)
            levels.append(x)
        for block, beside in zip(self.decoder, levels[-2::-1], strict=True):
            x = torch.cat([block(x), beside], 1)
        return cast(Tensor, self.classifier(x))


class DeepLabV3(nn.Module):
    """DeepLabV3 of torchvision without auxiliary classifier, freshly initialised; for RGB. `width` is not heeded.

    Source: Chen et al. 2017, Rethinking atrous convolution for semantic image segmentation.
    """

    def __init__(self, channels: int, n_classes: int, width: float, name: str) -> None:
        super().__init__()
        segmentation = import_torchvision().models.segmentation
        build = getattr(segmentation, name)
        self.network = build(weights=None, weights_backbone=None, num_classes=n_classes, aux_loss=False)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W). Returns logits (B, n_classes, H, W)."""
        return cast(Tensor, self.network(images)["out"])


MODELS: dict[str, Callable[[int, int, float], nn.Module]] = {
    "unet": UNet,
    "segnet": SegNet,
    "doc_ufcn": DocUFCN,
    "fcdensenet57": partial(FCDenseNet, depths=(4,) * 5, bottleneck=4, growth=12),
    "fcdensenet67": partial(FCDenseNet, depths=(5,) * 5, bottleneck=5, growth=16),
    "fcdensenet103": partial(FCDenseNet, depths=(4, 5, 7, 10, 12), bottleneck=15, growth=16),
    "deeplabv3_mobilenet_v3_large": partial(DeepLabV3, name="deeplabv3_mobilenet_v3_large"),
    "deeplabv3_resnet50": partial(DeepLabV3, name="deeplabv3_resnet50"),
    "deeplabv3_resnet101": partial(DeepLabV3, name="deeplabv3_resnet101"),
}
RGB_ONLY = tuple(name for name in MODELS if name.startswith("deeplabv3"))
