"""Activations: what each layer returned, caught by hooks wherever it stands; the model is left as it was."""

from typing import Any

import numpy
import torch
from torch import nn
from torch.nn import functional

from diva.learning.activations import MOST_MAPS, capture
from diva.learning.digests import digest_model


class Skip(nn.Module):
    """A block with a skip connection, one ReLU used twice and in place, dropout, and a linear layer over places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(3, 2)

    def forward(self, x):
        y = self.relu(self.norm(self.conv(x)))
        return self.head(self.drop(self.relu(y - 1).mean((2, 3))))


class Outer(nn.Module):
    """Returns more than its inside does."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.plain = nn.Sequential(nn.Conv2d(1, 2, 1)), nn.Sequential(nn.Conv2d(2, 2, 1))

    def forward(self, x):
        return self.plain(x + self.inside(x))


def by_name(model, inputs):
    return {a.name: a for a in capture(model, lambda: model(inputs))}


def test_layers_are_found_in_the_order_in_which_they_end_and_once_per_call():
    model, image = Skip().eval(), torch.rand(1, 1, 4, 5)
    found = by_name(model, image)
    assert list(found) == ["conv", "norm", "relu", "relu#2", "head"]
    assert [a.kind for a in found.values()] == ["Conv2d", "BatchNorm2d", "ReLU", "ReLU", "Linear"]
    assert found["conv"].shape == (3, 4, 5) and found["head"].shape == (2,)


def test_values_are_those_of_a_plain_forward_pass():
    torch.manual_seed(0)
    model, image = Skip().eval(), torch.rand(1, 1, 4, 5)
    with torch.no_grad():
        before = model.norm(model.conv(image))
        after = functional.relu(before)
        logits = model(image)
    found = by_name(model, image)
    for name, expected in (("norm", before), ("relu", after)):
        a = found[name]
        assert numpy.allclose(a.means, expected[0].mean((1, 2)), atol=1e-6)
        assert abs(a.strength - float(expected.abs().mean())) < 1e-6
        order = (-expected[0].abs().mean((1, 2))).argsort(stable=True).tolist()
        assert list(a.strongest) == order
        assert numpy.allclose(a.maps, expected[0][order], atol=1e-6), (
            "in-place ReLU must not reach what was caught before it"
        )
    assert numpy.allclose(found["head"].means, logits[0]) and found["head"].maps is None


def test_a_block_counts_when_it_returns_something_else_than_its_last_layer():
    assert list(by_name(Outer(), torch.rand(1, 1, 3, 3))) == ["inside.0", "plain.0"]
    block: Any = Outer()
    block.plain = nn.Identity()
    assert list(by_name(block, torch.rand(1, 1, 3, 3))) == ["inside.0", "model"]


def test_of_many_filters_the_strongest_are_kept_and_ties_go_to_the_lower_number():
    model = nn.Conv2d(1, 20, 1)
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.weight[7] = -3.0
        model.bias.fill_(0.0)  # type: ignore[union-attr]
    found = by_name(model, torch.ones(1, 1, 100, 2))["model"]
    assert found.strongest == (7, 0, 1, 2, 3, 4, 5, 6) and len(found.strongest) == MOST_MAPS
    assert found.maps.shape == (MOST_MAPS, 64, 2) and (found.maps[0] == -3).all()
    assert len(found.means) == 20


def test_sequences_and_clips_have_their_filters_found():
    words = by_name(nn.LSTM(3, 5, batch_first=True), torch.rand(1, 7, 3))["model"]
    assert words.shape == (7, 5) and len(words.means) == 5 and words.maps is None
    time = by_name(nn.Conv1d(3, 6, 1), torch.rand(1, 3, 9))["model"]
    assert len(time.means) == 6
    clip = by_name(nn.Conv3d(1, 4, 1), torch.rand(1, 1, 5, 6, 7))["model"]
    assert len(clip.means) == 4 and clip.maps.shape == (4, 6, 7)
    frames = by_name(nn.Conv2d(1, 4, 1), torch.rand(5, 1, 6, 7))["model"]  # a frame network takes time as its batch
    assert len(frames.means) == 4 and frames.maps.shape == (4, 6, 7)
    normed = by_name(nn.LayerNorm(3), torch.rand(1, 6, 7, 3))["model"]
    assert len(normed.means) == 3 and normed.maps.shape == (3, 6, 7)


def test_the_model_is_left_as_it_was():
    model = Skip().train()
    model.norm.eval()
    before, generator = digest_model(model), torch.get_rng_state()
    image = torch.zeros(1, 1, 4, 4)
    by_name(model, image)
    assert digest_model(model) == before and torch.equal(torch.get_rng_state(), generator)
    assert model.training and not model.norm.training
    assert not any(module._forward_hooks for module in model.modules())
