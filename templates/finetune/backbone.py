"""The part of a network that is kept from elsewhere, and the last layer, which is new."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import nn

from diva import Table, UsageError, load_weights, start_from

FILE = Path(__file__).parent / "backbone.safetensors"
SHIPPED_MODEL = "small_cnn"
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def digest_of(file: Path) -> str:
    """The SHA-256 of a file."""
    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def head_of(model: nn.Module) -> str:
    """The name of the last layer: the linear or convolutional one that is defined last, as in all networks of the zoo."""
    layers: list[str] = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    if not layers:
        raise UsageError(f"{type(model).__name__} has neither a linear nor a convolutional layer that could be new")
    return layers[-1]


def start_backbone(model: nn.Module) -> None:
    """Put this folder's weights into all layers but the last; the model remembers what matched."""
    vars(model)["origin"] = start_from(model, load_weights(FILE), [f"{head_of(model)}.*"], FILE.name)


def origin_of(model: nn.Module) -> str:
    """A sentence on where the weights come from; `--load` says its own in the run's log and its manifest."""
    return str(vars(model).get("origin", "fresh weights in all layers")) + "; what --load put over them is in log.txt"


def freeze(model: nn.Module, *, probe: bool, norm: bool) -> None:
    """Take parameters out of the training: all but the last layer's, or those of batch norms, which then also keep their statistics."""
    head = f"{head_of(model)}."
    for name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            if (probe and not f"{name}.{own}".startswith(head)) or (norm and isinstance(module, NORMS)):
                parameter.requires_grad_(False)


def plan(model: nn.Module, lr: float, head_lr: float) -> Table:
    """Each layer that has parameters: how many, and the step size they are trained with."""
    head = head_of(model)
    rows = []
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if own:
            is_trained = any(p.requires_grad for p in own)
            step = f"{head_lr if name == head else lr:g}" if is_trained else "frozen"
            rows.append([name, type(module).__name__, sum(p.numel() for p in own), step])
    return Table(["layer", "class", "parameters", "step size"], rows)
