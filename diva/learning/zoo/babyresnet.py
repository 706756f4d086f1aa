"""ResNets for small images, 32 x 32 pixels or so: those of torchvision but for a stem that keeps the resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from diva.torchvision_shim import import_torchvision

if TYPE_CHECKING:
    from collections.abc import Callable

DEPTHS = (18, 34, 50, 101, 152)


def babyresnet(depth: int, channels: int, n_classes: int) -> nn.Module:
    """A ResNet of this depth for images (B, channels, H, W) of any size; 32 x 32 pixels end as 4 x 4 before the mean is taken.

    The first convolution is 3 x 3 with stride 1 instead of 7 x 7 with stride 2, and no pooling follows it, as He et al. 2016
    ("Deep residual learning for image recognition", 4.2) do for CIFAR-10; widths (64 to 512) and blocks are those of ImageNet's
    networks. Other layers are named as torchvision's, so that its weights can be loaded without `conv1.weight`.
    """
    torchvision = import_torchvision()
    model: Any = torchvision.models.get_model(f"resnet{depth}", weights=None, num_classes=n_classes)
    model.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(
        model.conv1.weight, mode="fan_out", nonlinearity="relu"
    )  # as torchvision's own convolutions
    model.maxpool = nn.Identity()
    net: nn.Module = model
    return net


def _of_depth(depth: int) -> Callable[[int, int, int, int], nn.Module]:
    return lambda channels, height, width, n_classes: babyresnet(depth, channels, n_classes)


BABYRESNETS: dict[str, Callable[[int, int, int, int], nn.Module]] = {f"babyresnet{n}": _of_depth(n) for n in DEPTHS}
