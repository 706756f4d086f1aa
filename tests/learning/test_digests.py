"""A digest is a function of names, dtypes, shapes and values, and of nothing else."""

import hashlib
import json
import struct

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from diva.learning.digests import digest_losses, digest_model, digest_optimizer, digest_order, digest_tensors


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def by_hand(*parts):
    """The documented digest, from (name, dtype, shape, bytes)."""
    return sha256(b"".join(json.dumps([name, kind, shape]).encode() + b"\n" + raw for name, kind, shape, raw in parts))


def test_a_known_digest_stays_what_it_was():
    tensors = {"b": torch.tensor([1, -2], dtype=torch.int16), "a": torch.tensor([[0.5, -0.0]])}
    assert digest_tensors(tensors) == "sha256:a8f3402ae0cfce6a4d28482befd3326e8af3b1f983d103b2bf2c394d3bcc4f7e"
    assert digest_tensors(tensors) == by_hand(
        ("a", "float32", [1, 2], struct.pack("<2f", 0.5, -0.0)), ("b", "int16", [2], struct.pack("<2h", 1, -2))
    )


@pytest.mark.parametrize(
    ("tensor", "kind", "raw"),
    [
        (torch.tensor([True, False]), "bool", b"\x01\x00"),
        (torch.tensor([1, 255], dtype=torch.uint8), "uint8", b"\x01\xff"),
        (torch.tensor([1, -1]), "int64", struct.pack("<2q", 1, -1)),
        (torch.tensor([0.1, 1e300], dtype=torch.float64), "float64", struct.pack("<2d", 0.1, 1e300)),
        (torch.tensor([1.0, -2.0], dtype=torch.bfloat16), "bfloat16", b"\x80\x3f\x00\xc0"),
        (torch.tensor([1.0, -2.0], dtype=torch.float16), "float16", struct.pack("<2e", 1, -2)),
        (torch.tensor([1 + 2j], dtype=torch.complex64), "complex64", struct.pack("<2f", 1, 2)),
        (torch.zeros(0), "float32", b""),
    ],
)
def test_every_dtype_is_digested_by_its_little_endian_bytes(tensor, kind, raw):
    assert digest_tensors({"x": tensor}) == by_hand(("x", kind, list(tensor.shape), raw))


def test_a_scalar_is_a_tensor_without_dimensions():
    assert digest_tensors({"x": torch.tensor(2.5)}) == by_hand(("x", "float32", [], struct.pack("<f", 2.5)))


def test_the_order_of_insertion_is_irrelevant():
    a, b = torch.rand(3), torch.rand(3)
    assert digest_tensors({"a": a, "b": b}) == digest_tensors({"b": b, "a": a}) != digest_tensors({"a": b, "b": a})


def test_no_tensors_have_a_digest():
    assert digest_tensors({}) == sha256(b"")


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.randoms())
def test_layout_is_irrelevant(shape, random):
    values = torch.rand(shape)
    order = random.sample(range(len(shape)), len(shape))
    back = [order.index(i) for i in range(len(shape))]
    permuted = values.permute(order).contiguous().permute(back)
    strided = torch.stack([values, values], -1)[..., 0]
    expanded = values[:1].expand(shape)
    assert digest_tensors({"x": permuted}) == digest_tensors({"x": strided}) == digest_tensors({"x": values})
    assert digest_tensors({"x": expanded}) == digest_tensors({"x": expanded.clone()})


def test_channels_last_and_gradients_are_irrelevant():
    values = torch.rand(2, 3, 4, 5)
    same = [values.to(memory_format=torch.channels_last), values.clone().requires_grad_(), nn.Parameter(values)]
    assert {digest_tensors({"x": tensor}) for tensor in same} == {digest_tensors({"x": values})}


def test_lazily_conjugated_and_negated_values_count_as_what_they_are():
    values = torch.tensor([1 + 2j, 3 - 4j])
    assert digest_tensors({"x": values.conj()}) == digest_tensors({"x": values.conj().resolve_conj()})
    assert digest_tensors({"x": values.conj().imag}) == digest_tensors({"x": values.conj().imag.clone()})


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_the_device_is_irrelevant(device, dtype):
    values = torch.arange(-3, 9).to(dtype)
    assert digest_tensors({"x": values.to(device)}) == digest_tensors({"x": values})


def changes():
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    other = values.clone()
    other[1, 1] = torch.nextafter(other[1, 1], torch.tensor(5.0))
    return {
        "name": {"y": values},
        "value": {"x": other},
        "dtype": {"x": values.view(torch.int32)},
        "shape": {"x": values.reshape(4)},
        "order": {"x": values.T},
        "added": {"x": values, "z": torch.zeros(0)},
        "sign": {"x": -values},
    }


@pytest.mark.parametrize("change", changes())
def test_every_change_changes_the_digest(change):
    assert digest_tensors(changes()[change]) != digest_tensors({"x": torch.tensor([[1.0, 2.0], [3.0, 4.0]])})


def test_the_sign_of_zero_counts():
    assert digest_tensors({"x": torch.tensor([0.0])}) != digest_tensors({"x": torch.tensor([-0.0])})


def test_the_shape_of_nothing_counts():
    assert digest_tensors({"x": torch.zeros(0, 3)}) != digest_tensors({"x": torch.zeros(3, 0)})


def test_a_cut_between_tensors_cannot_move():
    one = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])}
    two = {"a": torch.tensor([1.0]), "b": torch.tensor([2.0, 3.0])}
    assert digest_tensors(one) != digest_tensors(two)


@pytest.mark.parametrize(
    ("dtype", "bits", "payloads"),
    [
        (torch.float32, torch.int32, [0x7FC00000, -0x400000, 0x7F800001, 0x7FFFFFFF]),
        (torch.float64, torch.int64, [0x7FF8000000000000, -0x8000000000000, 0x7FF0000000000001]),
        (torch.bfloat16, torch.int16, [0x7FC0, -0x40, 0x7F81]),
        (torch.float16, torch.int16, [0x7E00, -0x200, 0x7C01]),
    ],
)
def test_every_nan_is_one_nan(dtype, bits, payloads):
    found = {digest_tensors({"x": torch.tensor([payload, 0], dtype=bits).view(dtype)}) for payload in payloads}
    assert len(found) == 1
    assert found != {digest_tensors({"x": torch.tensor([float("inf"), 0], dtype=dtype)})}


def test_digesting_changes_nothing():
    values = torch.tensor([0x7F800001, 0], dtype=torch.int32).view(torch.float32)
    digest_tensors({"x": values})
    assert values.view(torch.int32).tolist() == [0x7F800001, 0]


def test_a_models_digest_covers_parameters_and_buffers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    before = digest_model(model)
    assert before == digest_tensors(model.state_dict())
    model.get_buffer("1.num_batches_tracked").add_(1)
    assert digest_model(model) != before


def stepped(lr=0.1, n=1, kind=torch.optim.Adam):
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = kind(model.parameters(), lr)
    for _ in range(n):
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    return optimizer


def test_an_optimizers_digest_covers_its_state_and_its_numbers():
    same = digest_optimizer(stepped())
    assert digest_optimizer(stepped()) == same
    others = [stepped(lr=0.2), stepped(n=2), stepped(n=0), stepped(kind=torch.optim.AdamW)]
    assert len({same, *map(digest_optimizer, others)}) == 5
    kept = stepped()
    kept.state[kept.param_groups[0]["params"][1]]["exp_avg"][0] += 1e-6
    assert digest_optimizer(kept) != same


def test_sgd_without_momentum_has_a_digest():
    assert digest_optimizer(torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1)).startswith("sha256:")


def test_an_orders_digest_is_that_of_its_int64_bytes():
    order = numpy.array([2, 0, 1])
    assert digest_order(order) == sha256(struct.pack("<3q", 2, 0, 1)) == digest_order(order.astype(numpy.int32))
    assert digest_order(order) == digest_order(order.astype(">i8")) != digest_order(order[::-1])


def test_a_losses_digest_is_that_of_their_binary64_bytes():
    assert digest_losses([0.1, -2.0]) == sha256(struct.pack("<2d", 0.1, -2.0)) != digest_losses([-2.0, 0.1])
    other = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000001))[0]
    assert digest_losses([float("nan")]) == digest_losses([other]) == digest_losses([-float("nan")])
    assert digest_losses([]) == sha256(b"")
