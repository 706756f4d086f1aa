"""Features: what the hooks see of a model, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diva.errors import UsageError
from diva.learning.features import FeatureTap


class Net(nn.Module):
    """Its head is registered before its body, and `spare` is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.body = nn.Conv2d(1, 3, 1)
        self.spare = nn.Linear(3, 3)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.parts = nn.ModuleDict({"mean": nn.Identity()})

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.head(self.mean(self.body(images)).flatten(1))
        return answer


def test_penultimate_is_the_input_of_the_linear_layer_that_is_called_last() -> None:
    model, images = Net(), torch.rand(4, 1, 2, 2)
    with FeatureTap(model) as tap:
        answer = model(images)
        features = tap.take(4)
    assert features is not None and tap.name == "input of head"
    assert torch.equal(model.head(features), answer)
    assert not model.head._forward_pre_hooks


def test_the_output_of_a_named_layer_is_flattened() -> None:
    model, images = Net(), torch.rand(4, 1, 2, 2)
    with FeatureTap(model, "body") as tap:
        model(images)
        features = tap.take(4)
    assert features is not None and torch.equal(features, model.body(images).flatten(1))


def test_a_model_without_linear_layers_has_no_penultimate_features() -> None:
    with FeatureTap(nn.Conv2d(1, 1, 1)) as tap:
        assert tap.take(4) is None


@pytest.mark.parametrize(("layer", "told"), [
    ("hed", r"no such layer; did you mean head\?"),
    ("spare", "the model does not call this layer when it predicts; name another layer"),
    ("parts", r"does not call this layer when it predicts; name one of those in it, such as parts\.mean"),
    ("mean", r"gives a tensor \(4, 3, 1, 1\), not numbers for each of 5 samples"),
])  # fmt: skip
def test_a_layer_that_gives_no_features_is_refused(layer: str, told: str) -> None:
    def features_of(model: nn.Module) -> Tensor | None:
        with FeatureTap(model, layer) as tap:
            model(torch.rand(4, 1, 2, 2))
            return tap.take(5)

    with pytest.raises(UsageError, match=told):
        features_of(Net())
