"""The zoo: networks that classify images, by name; torchvision's, and small ones of diva's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diva.errors import UsageError, nearest
from diva.learning.zoo.small import SmallCNN
from diva.torchvision_shim import import_torchvision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

OWN: dict[str, Callable[[int, int, int, int], nn.Module]] = {"small_cnn": SmallCNN}
"""diva's own: name -> network from (channels, height, width, n_classes)."""


def own_models() -> list[str]:
    """Names of diva's own models, which take images of any size with any number of channels."""
    return list(OWN)


def zoo_models() -> list[str]:
    """Names of all models: diva's own, then torchvision's for classification; takes 2 s, the import of torchvision."""
    torchvision = import_torchvision()
    return [*OWN, *torchvision.models.list_models(module=torchvision.models)]


def build_zoo_model(name: str, n_classes: int, channels: int = 3, size: Sequence[int] = (32, 32)) -> nn.Module:
    """A freshly initialised model for images (B, channels, *size); UsageError names the nearest one.

    torchvision's take 3 channels. GoogLeNet and Inception v3 are built without their auxiliary outputs.
    """
    if name in OWN:
        return OWN[name](channels, size[0], size[1], n_classes)
    torchvision = import_torchvision()
    if name not in zoo_models():
        raise UsageError(f"no model is called {name!r}; {nearest(name, zoo_models())}")
    if channels != 3:
        raise UsageError(f"{name} is torchvision's and takes 3 channels, not {channels}")
    extra: dict[str, Any] = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=n_classes, **extra)
    return model
