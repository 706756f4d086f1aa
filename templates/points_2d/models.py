"""Small fully connected networks. Change them, add yours: `MODELS` is the list of names."""

from __future__ import annotations

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
        for n_in, n_out in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(n_in, n_out), ACTIVATIONS[activation]()]
            layers += [nn.Dropout(dropout)] if dropout else []
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(widths[-1], n_classes)

    def forward(self, points: Tensor) -> Tensor:
        """points: (B, n_features). Returns logits (B, n_classes)."""
        logits: Tensor = self.classifier(self.features(points))
        return logits


def fc_simple(n_features: int, n_classes: int, hidden: int = 20, depth: int = 1, activation: str = "tanh", dropout: float = 0.0) -> nn.Module:  # fmt: skip
    """One hidden layer of 20 units, as in DeepDIVA."""
    return FullyConnected(n_features, n_classes, hidden, depth, activation, dropout)


def fc_medium(n_features: int, n_classes: int, hidden: int = 8, depth: int = 3, activation: str = "tanh", dropout: float = 0.0) -> nn.Module:  # fmt: skip
    """Three hidden layers of 8 units, as in DeepDIVA."""
    return FullyConnected(n_features, n_classes, hidden, depth, activation, dropout)


def fc_wide(n_features: int, n_classes: int, hidden: int = 64, depth: int = 2, activation: str = "tanh", dropout: float = 0.0) -> nn.Module:  # fmt: skip
    """Two hidden layers of 64 units: enough for a spiral."""
    return FullyConnected(n_features, n_classes, hidden, depth, activation, dropout)


MODELS: dict[str, Callable[..., nn.Module]] = {"fc_simple": fc_simple, "fc_medium": fc_medium, "fc_wide": fc_wide}
