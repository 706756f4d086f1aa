"""Activations: what every layer of a network makes of a sample, caught by forward hooks, so that skip connections do not matter."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from diva.learning.sizes import first_tensor, left_as_found

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy

MOST_MAPS = 8
MOST_PIXELS = 64
_AS_BEFORE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Flatten)
_FEATURES_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.MultiheadAttention, nn.RNNBase)
_OVER_TIME = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AvgPool1d)


@dataclass(frozen=True)
class Activation:
    """What one module returned for one sample; its second call in a forward pass is called "name#2".

    shape: of the output without the batch. means, float64 (C,): of each filter over all its places; where there are no places, as after
    a fully connected layer, the values themselves. strength: the mean of all absolute values. strongest: up to 8 filters by the mean of
    their absolute values, ties by the lower number. maps, float64 (K, h, w): those of the strongest, at most 64 x 64; None where
    there are no places in two dimensions.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    means: numpy.ndarray
    strength: float
    strongest: tuple[int, ...]
    maps: numpy.ndarray | None


def capture(model: nn.Module, forward: Callable[[], Any]) -> list[Activation]:
    """The activations of the modules that run during `forward()`, in the order in which they end, in evaluation mode.

    Recorded are modules that hold no others, and of the rest those that return something else than their last module did, as a block
    does that adds a skip connection. Modes, buffers and global generators are given back as they were.
    """
    found: list[Activation] = []
    calls: Counter[str] = Counter()
    last: list[Tensor] = []

    def ended(name: str, module: nn.Module, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is None or not tensor.is_floating_point() or not tensor.numel() or isinstance(module, _AS_BEFORE):
            return
        holds_others = next(module.children(), None) is not None
        if holds_others and last and tensor is last[0]:
            return
        last[:] = [tensor]
        calls[name] += 1
        called = name if calls[name] == 1 else f"{name}#{calls[name]}"
        found.append(_summary(called or "model", module, tensor.detach().float()))

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, inputs, output: ended(name, module, output)

    handles = [module.register_forward_hook(hook(name)) for name, module in model.named_modules()]
    try:
        with left_as_found(model), torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return found


def _summary(name: str, module: nn.Module, output: Tensor) -> Activation:
    places = _filters_first(module, output)  # (C, ...)
    flat = places.flatten(1) if places.dim() > 1 else places[:, None]  # (C, places)
    strengths = flat.abs().mean(1).double().cpu().numpy()
    strongest = tuple((-strengths).argsort(kind="stable")[:MOST_MAPS].tolist())
    maps = None
    if places.dim() == 3:
        chosen = places[list(strongest)]
        size = (min(chosen.shape[1], MOST_PIXELS), min(chosen.shape[2], MOST_PIXELS))
        maps = functional.adaptive_avg_pool2d(chosen, size).double().cpu().numpy()
    means = flat.mean(1).double().cpu().numpy()
    strength = float(flat.abs().mean())
    return Activation(name, type(module).__name__, _shape(output), means, strength, strongest, maps)


def _shape(output: Tensor) -> tuple[int, ...]:
    return tuple(output.shape[1:]) if output.dim() > 1 and output.shape[0] == 1 else tuple(output.shape)


def _filters_first(module: nn.Module, output: Tensor) -> Tensor:
    """The activation of one sample with its filters first: (C,), (C, places) or (C, H, W); means over whatever else there is.

    Of an output with four dimensions the second are the filters, and the last two make a map; with five dimensions the third is time.
    Features come last after layers that work on the last dimension, and in three dimensions unless a layer over time returned them.
    """
    if output.dim() == 0:
        return output.reshape(1)
    features_last = isinstance(module, _FEATURES_LAST) or (output.dim() == 3 and not isinstance(module, _OVER_TIME))
    if output.dim() > 2 and features_last:
        output = output.movedim(-1, 1)  # (N, C, ...)
    if output.dim() == 1:
        return output
    sample = output[0] if output.shape[0] == 1 else output.mean(0)
    while sample.dim() > 3:
        sample = sample.mean(1)
    return sample
