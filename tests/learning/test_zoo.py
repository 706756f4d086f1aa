"""The zoo: diva's own models and torchvision's, by name."""

import pytest
import torch

from diva.errors import UsageError
from diva.learning.zoo import build_zoo_model, own_models, zoo_models


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 32), ("squeezenet1_1", 64), ("mobilenet_v3_small", 32), ("googlenet", 32)]
)
def test_a_model_of_torchvision_learns_from_images(name, size):
    torch.manual_seed(0)
    model = build_zoo_model(name, 5)
    model.train()
    logits = model(torch.rand(2, 3, size, size))
    assert logits.shape == (2, 5)
    logits.logsumexp(1).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_same_seed_gives_the_same_weights():
    states = []
    for _ in range(2):
        torch.manual_seed(1)
        states.append(build_zoo_model("mobilenet_v3_small", 2).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_names_are_those_of_classification_models():
    names = zoo_models()
    assert {"small_cnn", "resnet18", "vit_b_16", "convnext_tiny", "inception_v3"} <= set(names)
    assert not any(word in name for name in names for word in ("segmentation", "rcnn", "raft", "r3d", "deeplab"))


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"'resnet81'; did you mean resnet18\?"):
        build_zoo_model("resnet81", 2)


@pytest.mark.parametrize("name", own_models())
def test_own_models_take_any_channels_and_size(name):
    for channels, size in ((1, (8, 8)), (2, (9, 5)), (3, (12, 12))):
        assert build_zoo_model(name, 4, channels, size)(torch.rand(2, channels, *size)).shape == (2, 4)


def test_models_of_torchvision_refuse_other_channels():
    with pytest.raises(UsageError, match="3 channels, not 1"):
        build_zoo_model("resnet18", 2, 1)
