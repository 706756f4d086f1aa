"""Weights from elsewhere fit wholly or not at all."""

import pytest
import torch
from torch import nn

from diva.errors import UsageError
from diva.learning.weights import start_from


def net(n_classes=3):
    return nn.Sequential(nn.Linear(2, 4), nn.Linear(4, n_classes))


def weights(**changes):
    """Weights for `net`, all ones; a change of None leaves a tensor out."""
    found: dict = {name: torch.ones_like(value) for name, value in net().state_dict().items()}
    found |= {name.replace("_", ".", 1): value for name, value in changes.items()}
    return {name: value for name, value in found.items() if value is not None}


def refused(given, skip=(), *words):
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UsageError) as raised:
        start_from(model, given, skip, "old.pth")
    for word in ("old.pth", *words):
        assert word in str(raised.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_all_weights_are_taken_and_counted():
    model = net()
    assert start_from(model, weights(), (), "old.pth") == "loaded 4 of 4 tensors from old.pth"
    assert all(bool((value == 1).all()) for value in model.state_dict().values())


def test_a_missing_tensor_is_refused_by_name():
    refused(weights(**{"1_bias": None}), (), "1.bias is missing", "--load-skip")


def test_a_surplus_tensor_is_refused_by_name():
    refused(weights(**{"2_bias": torch.ones(1)}), (), "2.bias is not in the model")


def test_another_shape_is_refused_with_both():
    refused(weights(**{"1_bias": torch.ones(7)}), (), "1.bias is [7], the model's is [3]")


def test_a_scalar_does_not_fit_a_vector():
    refused(weights(**{"1_bias": torch.ones(())}), (), "1.bias is [], the model's is [3]")


def test_of_many_problems_three_are_named_and_all_counted():
    refused({}, (), "0.bias is missing", "and 1 more")


def test_skipped_tensors_keep_their_fresh_values():
    model = net()
    fresh = model[1].weight.detach().clone()
    line = start_from(model, weights(**{"1_weight": torch.ones(7, 4), "1_bias": torch.ones(7)}), ["1.*"], "old.pth")
    assert line == "loaded 2 of 4 tensors from old.pth; left as initialised: 1.bias, 1.weight"
    assert torch.equal(model[1].weight, fresh) and bool((model[0].weight == 1).all())


def test_skip_covers_missing_and_surplus_tensors():
    assert start_from(net(), weights(**{"1_bias": None, "aux_head": torch.ones(1)}), ["1.bias", "aux*"], "old.pth")


def test_skip_covers_only_what_it_names():
    refused(weights(**{"1_bias": None, "0_bias": None}), ["1.*"], "0.bias is missing")


def test_a_skip_that_names_nothing_is_refused():
    """A misspelt pattern must not pass for one that was heeded."""
    refused(weights(), ["hed.*"], "hed.*")


def test_values_are_taken_in_the_models_own_precision():
    model = net()
    start_from(model, {name: value.half() for name, value in weights().items()}, (), "old.pth")
    assert all(value.dtype == torch.float32 for value in model.state_dict().values())
