"""Digests of single tensors: every one, in the order of computation, without a bit of what is computed being another."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diva.learning.digests import digest_model, digest_tensors
from diva.learning.tensor_digests import ForwardRecord, short_digest, step_digests, weight_digests


class Net(nn.Module):
    """Its layers in another order than their names'; one is called twice, one has a buffer, one gives a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.z = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.lstm = nn.LSTM(4, 3, batch_first=True)
        self.a = nn.Linear(3, 2)

    def forward(self, values: Tensor) -> Tensor:
        found = self.norm(self.z(self.z(values)))
        states, _ = self.lstm(found[:, None])
        result: Tensor = self.a(states[:, 0])
        return result


def train(record: bool) -> tuple[Net, torch.optim.Optimizer, dict[str, str]]:
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    seen = ForwardRecord(model) if record else None
    found: dict[str, str] = {}
    try:
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.ones(5, 4)).square().mean().backward()
            optimizer.step()
            found = seen.take() if seen else {}
    finally:
        if seen:
            seen.close()
    return model, optimizer, found


def test_recording_changes_no_bits() -> None:
    (one, _, _), (two, _, _) = train(record=True), train(record=False)
    assert digest_model(one) == digest_model(two)


def test_what_a_forward_pass_computes_is_named_in_its_order() -> None:
    _, _, found = train(record=True)
    assert list(found) == [
        "input:model", "output:z", "output:z#2", "output:norm", "output:lstm/0", "output:lstm/1/0", "output:lstm/1/1", "output:a",
        "output:model",
    ]  # fmt: skip
    assert found["input:model"] == short_digest(torch.ones(5, 4)) and found["output:a"] == found["output:model"]


def test_gradients_come_from_the_last_parameter_back_then_weights_then_state() -> None:
    model, optimizer, _ = train(record=False)
    found = list(step_digests(model, optimizer))
    assert found[:2] == ["gradient:a.bias", "gradient:a.weight"]
    assert found[found.index("weight:z.weight") - 1] == "gradient:z.weight"
    assert found.index("buffer:norm.running_mean") > found.index("weight:a.bias")
    assert found[-3:] == ["optimizer:a.bias/exp_avg", "optimizer:a.bias/exp_avg_sq", "optimizer:a.bias/step"]


def test_one_other_element_is_one_other_digest() -> None:
    model, _, _ = train(record=False)
    before = weight_digests(model)
    with torch.no_grad():
        dict(model.named_parameters())["lstm.bias_hh_l0"][1] += 1
    after = weight_digests(model)
    assert [name for name in before if before[name] != after[name]] == ["weight:lstm.bias_hh_l0"]


def test_a_digest_is_of_values_not_of_their_layout() -> None:
    values = torch.arange(6.0).reshape(2, 3)
    assert short_digest(values) == digest_tensors({"": values.t().contiguous().t()})[7:23]
    assert short_digest(values.to_sparse()) == short_digest(values) != short_digest(values.reshape(3, 2))


def test_only_training_is_recorded_and_only_of_this_model() -> None:
    model = Net()
    seen = ForwardRecord(model)
    try:
        with torch.no_grad():
            model(torch.ones(2, 4))
        nn.Linear(2, 2)(torch.ones(1, 2))
        assert seen.take() == {}
        model.a(torch.ones(1, 3))
        assert list(seen.take()) == ["input:a", "output:a"]
    finally:
        seen.close()
    model(torch.ones(2, 4))
    assert seen.take() == {}


def test_a_forward_pass_that_fails_leaves_no_trace_in_the_next() -> None:
    model = Net()
    seen = ForwardRecord(model)
    try:
        with pytest.raises(RuntimeError):
            model(torch.ones(2, 3))
        seen.take()
        model(torch.ones(2, 4))
        assert next(iter(seen.take())) == "input:model"
    finally:
        seen.close()


def test_a_frozen_transformer_keeps_its_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch leaves the fast path, with other bits, where hooks are attached to the modules themselves."""
    fast, n_fast = torch._transformer_encoder_layer_fwd, 0

    def counted(*args: object) -> Tensor:
        nonlocal n_fast
        n_fast += 1
        return fast(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(torch, "_transformer_encoder_layer_fwd", counted)

    def run(record: bool) -> Tensor:
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval().requires_grad_(False)
        seen = ForwardRecord(layer) if record else None
        result: Tensor = layer(torch.ones(1, 3, 8))
        if seen:
            assert "output:model" in seen.take()
            seen.close()
        return result

    assert torch.equal(run(record=True), run(record=False)) and n_fast == 2
