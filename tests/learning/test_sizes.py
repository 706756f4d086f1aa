"""Parameters, MACs and shapes: equal to what is counted by hand and to what papers and torchvision state."""

import itertools
import random
from contextlib import nullcontext
from typing import Any

import numpy
import pytest
import torch
from torch import nn

from diva.kernels.exact import exact
from diva.learning.digests import digest_model
from diva.learning.sizes import count_macs, measure
from diva.torchvision_shim import import_torchvision

# module, inputs, MACs by hand: places of the output times what one of them takes
BY_HAND: dict[str, tuple[Any, Any, int]] = {
    "linear": (nn.Linear(3, 4), torch.rand(3), 3 * 4),
    "linear over 2 x 5 places": (nn.Linear(3, 4), torch.rand(2, 5, 3), 10 * 3 * 4),
    "convolution": (nn.Conv2d(3, 8, 5, stride=2, padding=2), torch.rand(1, 3, 9, 7), 8 * (5 * 4) * 3 * 25),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), torch.rand(1, 4, 5, 5), 6 * 9 * 2 * 9),
    "depthwise, dilated": (nn.Conv2d(4, 4, 3, dilation=2, groups=4), torch.rand(1, 4, 7, 7), 4 * 9 * 1 * 9),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), torch.rand(1, 4, 5, 5), 4 * 25 * 3 * 9),
    "over time": (nn.Conv1d(2, 5, 3), torch.rand(1, 2, 10), 5 * 8 * 2 * 3),
    "volume": (nn.Conv3d(2, 3, (1, 3, 3)), torch.rand(1, 2, 4, 5, 5), 3 * (4 * 9) * 2 * 9),
    "bilinear": (nn.Bilinear(3, 4, 5), (torch.rand(2, 3), torch.rand(2, 4)), 2 * 3 * 4 * 5),
    "lstm, two layers, both ways": (nn.LSTM(5, 7, 2, bidirectional=True), torch.rand(11, 1, 5), 11 * 2 * 28 * (12 + 21)),
    "gru": (nn.GRU(5, 7), torch.rand(11, 1, 5), 11 * 3 * 7 * (5 + 7)),
    "attention": (nn.MultiheadAttention(8, 2), (torch.rand(6, 1, 8),) * 3, 6 * 8 * 24 + 6 * 8 * 8 + 2 * 6 * 6 * 8),
    "encoder": (nn.TransformerEncoderLayer(8, 2, 16), torch.rand(6, 1, 8), 6 * 8 * 24 + 6 * 64 + 2 * 36 * 8 + 2 * 6 * 128),
    "nothing counted": (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)), torch.rand(1, 3, 4, 4), 0),
}  # fmt: skip


@pytest.mark.parametrize("case", BY_HAND)
@pytest.mark.parametrize("backend", [exact, nullcontext], ids=["exact", "torch"])
def test_macs_are_those_counted_by_hand(backend, case):
    model, inputs, macs = BY_HAND[case]
    with backend():
        assert count_macs(model, inputs) == macs


def on_meta(name: str, side: int = 224):
    with torch.device("meta"):
        return import_torchvision().models.get_model(name, weights=None), torch.empty(1, 3, side, side)


def test_resnet18_has_the_published_sizes():
    model, images = on_meta("resnet18")
    sizes = measure(model, lambda: model(images))
    assert (sizes.parameters, sizes.macs) == (11_689_512, 1_814_073_344)
    assert sum(layer.parameters for layer in sizes.layers) == sizes.parameters
    stem, head = (next(layer for layer in sizes.layers if layer.name == name) for name in ("conv1", "fc"))
    assert (stem.output, stem.parameters, stem.macs) == ((1, 64, 112, 112), 9408, 64 * 112 * 112 * 3 * 49)
    assert (head.output, head.parameters, head.macs) == ((1, 1000), 513_000, 512_000)


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t", "mobilenet_v3_small", "densenet121"])
def test_macs_are_what_torchvision_states(name):
    stated = import_torchvision().models.get_model_weights(name).DEFAULT.meta["_ops"]
    assert round(count_macs(*on_meta(name)) / 1e9, 3) == stated


def test_the_root_of_the_published_tree_has_its_published_sizes():
    """TRUNK on CIFAR-10: 161,413 parameters and 80.74 million MACs."""
    widths = [3, 16, 32, 32, 32, 64, 64]
    blocks = [
        layer
        for inputs, outputs in itertools.pairwise(widths)
        for layer in (nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())
    ]
    root = nn.Sequential(*blocks, nn.MaxPool2d(2), nn.Dropout2d(0.5), nn.Flatten(), nn.Linear(64 * 16 * 16, 5))
    sizes = measure(root, lambda: root(torch.rand(1, 3, 32, 32)))
    assert (sizes.parameters, sizes.macs) == (161_413, 80_740_352)


class Forked(nn.Module):
    """A layer used twice, one never, one product outside any layer."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.unused = nn.Linear(4, 4), nn.Linear(9, 9)

    def forward(self, x):
        return {"logits": self.shared(self.shared(x)) @ x.T}


def test_a_layer_used_twice_counts_twice_and_an_unused_one_not():
    sizes = measure(model := Forked(), lambda: model(torch.rand(1, 4)))
    whole, shared, unused = sizes.layers
    assert (shared.macs, shared.calls, shared.output) == (2 * 16, 2, (1, 4))
    assert (unused.macs, unused.calls, unused.output, unused.parameters) == (0, 0, None, 90)
    assert (whole.macs, whole.output, sizes.macs) == (4, (1, 1), 36)


def test_only_the_model_is_counted():
    """A loss, or another network, multiplies too."""
    model, other = nn.Linear(3, 4), nn.Linear(4, 50)
    assert measure(model, lambda: other(model(torch.rand(1, 3))).square().sum()).macs == 12


class Restless(nn.Module):
    """Draws numbers and changes a buffer, also in evaluation mode."""

    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.drop = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += 1
        random.random(), numpy.random.rand()
        return self.drop(self.norm(self.layer(x))) + torch.rand(1)


def test_nothing_is_left_changed():
    model = Restless().train()
    model.norm.eval()
    before, state = digest_model(model), (random.getstate(), torch.get_rng_state())
    old = numpy.random.get_state(legacy=False)["state"]["key"].tolist()
    assert count_macs(model, torch.rand(1, 1, 3, 3)) == 18 and digest_model(model) == before
    drawn = torch.get_rng_state()
    torch.set_rng_state(state[1])
    torch.rand(1, 1, 3, 3)  # the inputs above were drawn too
    assert torch.equal(torch.get_rng_state(), drawn)
    assert random.getstate() == state[0] and numpy.random.get_state(legacy=False)["state"]["key"].tolist() == old
    assert [m.training for m in model.modules()] == [True, True, False, True]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.backends.mha.get_fastpath_enabled()


def test_it_is_left_as_found_when_it_fails():
    model = Restless().train()
    with pytest.raises(RuntimeError):
        count_macs(model, torch.rand(1, 5, 3, 3))
    assert model.training and float(model.seen) == 0 and not model.layer._forward_hooks


def test_frozen_parameters_are_not_trainable():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    sizes = measure(model, lambda: model(torch.rand(1, 2)))
    assert (sizes.parameters, sizes.trainable_parameters) == (13, 4)
