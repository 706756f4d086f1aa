"""Sizes of the zoo's models for the input that each is meant for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from diva.learning.sizes import measure
from diva.torchvision_shim import import_torchvision

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

SMALL = (3, 32, 32)


def usual_sizes(
    build: Callable[[int, tuple[int, int, int]], nn.Module], shape: tuple[int, int, int], n_classes: int
) -> dict[str, Any]:
    """Parameters and billions of MACs of `build(n_classes, shape)`, counted without computing, on the device "meta"."""
    with torch.device("meta"):
        model, image = build(n_classes, shape), torch.empty(1, *shape)
    sizes = measure(model, lambda: model(image))
    return _row(sizes.parameters, round(sizes.macs / 1e9, 4), shape, n_classes)


def stated_sizes(name: str) -> dict[str, Any]:
    """What torchvision states of one of its models: counted by others, and equal to our count, which tests compare."""
    first = next(iter(import_torchvision().models.get_model_weights(name)))
    side = first.transforms.keywords["crop_size"]
    return _row(first.meta["num_params"], first.meta["_ops"], (3, side, side), len(first.meta["categories"]))


def _row(parameters: int, giga_macs: float, shape: tuple[int, int, int], n_classes: int) -> dict[str, Any]:
    return {"parameters": parameters, "GMACs": giga_macs, "input": " x ".join(map(str, shape)), "classes": n_classes}
