"""Small fully connected networks. Change them, add yours: `MODELS` is the list of names."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "sigmoid": nn.Sigmoid,
}  # fmt: skip


class FullyConnected(nn.Module):
    """`depth` layers of `hidden` units, each followed by the activation and dropout, then the layer that answers.

    Takes (B, n_features).
    """

    def __init__(
        self, n_features: int, n_classes: int, hidden: int, depth: int, activation: str = "tanh", dropout: float = 0.0
    ) -> None:
        super().__init__()
        widths = [n_features, *[hidden] * depth]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), ACTIVATIONS[activation]()]
            layers += [nn.Dropout(dropout)] if dropout else []
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(widths[-1], n_classes)

    def forward(self, points: Tensor) -> Tensor:
        """points: (B, n_features). Returns logits (B, n_classes)."""
        logits: Tensor = self.classifier(self.features(points))
        return logits


MODELS: dict[str, Callable[..., nn.Module]] = {
    "fc_simple": partial(FullyConnected, hidden=20, depth=1),  # as in DeepDIVA
    "fc_medium": partial(FullyConnected, hidden=8, depth=3),  # as in DeepDIVA
    "fc_wide": partial(FullyConnected, hidden=64, depth=2),  # enough for a spiral
}
