"""Normalisation: the kernels give the reference's bits in every layout, and the values and gradients of a norm."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diva.kernels.exact import exact
from diva.kernels.library import available, load, native
from diva.kernels.reference import normalization as reference

aten = torch.ops.aten
MASK = [True, True, True]
EPS = 1e-5

# (N, C, *space): one element; lanes and blocks (64, 4096) just missed, hit and passed; planes that begin inside the lanes.
SHAPES = [
    (2, 1),
    (70, 37),
    (2, 3, 5, 7),
    (1, 2, 63),
    (1, 2, 64),
    (1, 2, 65),
    (3, 20, 8, 8),
    (2, 4, 64, 65),
    (2, 6, 2, 3, 4),
    (5, 34, 64, 16),
]


@pytest.fixture(params=available())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    native.use(request.param)
    yield request.param
    native.use()


def made(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random, dtype=dtype) * 3 + 1


def same_bits(found: Tensor | None, expected: np.ndarray) -> None:
    assert found is not None
    values = np.ascontiguousarray(found.numpy())
    assert values.shape == expected.shape and values.dtype == expected.dtype
    nan = np.isnan(values)
    assert np.array_equal(nan, np.isnan(expected))
    integer = np.int32 if values.dtype == np.float32 else np.int64
    assert np.array_equal(values.view(integer)[~nan], np.ascontiguousarray(expected).view(integer)[~nan])


def layouts(x: Tensor) -> list[Tensor]:
    """The same numbers: planes, channels last, transposed memory, and every other one of a larger tensor."""
    found = [x, torch.stack([x, x], -1)[..., 0], x.transpose(0, 1).contiguous().transpose(0, 1)]
    if x.dim() == 4:
        found.append(x.contiguous(memory_format=torch.channels_last))
    if x.dim() == 5:
        found.append(x.contiguous(memory_format=torch.channels_last_3d))
    return found


def check_batch_norm(x: Tensor, g: Tensor, weight: Tensor | None, bias: Tensor | None, inputs: list[Tensor]) -> None:
    channels = x.shape[1]
    means, variances = made(channels, seed=3, dtype=x.dtype), made(channels, seed=4, dtype=x.dtype).abs()
    w, b = None if weight is None else weight.numpy(), None if bias is None else bias.numpy()
    y, mean, inv = reference.batch_norm(x.numpy(), w, b, EPS)
    gradients = reference.batch_norm_backward(g.numpy(), x.numpy(), w, mean, inv, True)
    given = (means.numpy(), variances.numpy())
    evaluated, _, given_inv = reference.batch_norm(x.numpy(), w, b, EPS, given)
    evaluated_gradients = reference.batch_norm_backward(g.numpy(), x.numpy(), w, given[0], given_inv, False)
    moved = (
        reference.running(given[0], mean, 0.1),
        reference.running(given[1], reference.unbiased_variance(x.numpy()), 0.1),
    )
    for t in inputs:
        running = (means.clone(), variances.clone())
        with exact():
            trained = aten.native_batch_norm(t, weight, bias, *running, True, 0.1, EPS)
            back = aten.native_batch_norm_backward(g, t, weight, *running, *trained[1:], True, EPS, MASK)
            still = aten.native_batch_norm(t, weight, bias, means, variances, False, 0.1, EPS)
            still_back = aten.native_batch_norm_backward(g, t, weight, means, variances, None, None, False, EPS, MASK)
        found = (*trained, *back, *running, still[0], *still_back)
        for a, e in zip(found, (y, mean, inv, *gradients, *moved, evaluated, *evaluated_gradients), strict=True):
            same_bits(a, e)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm_has_the_bits_of_the_reference_in_every_layout(shape: tuple[int, ...], instruction_set: str) -> None:
    x, g = made(*shape), made(*shape, seed=1)
    check_batch_norm(
        x, g, made(shape[1], seed=5), made(shape[1], seed=6), layouts(x) if x.numel() < 10000 else layouts(x)[::3]
    )


def test_batch_norm_has_the_bits_of_the_reference_in_float64(instruction_set: str) -> None:
    x, g = made(3, 5, 7, 5, dtype=torch.float64), made(3, 5, 7, 5, seed=1, dtype=torch.float64)
    check_batch_norm(x, g, made(5, seed=5, dtype=torch.float64), None, layouts(x))


@pytest.mark.parametrize("value", [1e-41, -0.0, float("inf"), float("nan"), 3e38])
def test_batch_norm_has_the_bits_of_the_reference_for_extreme_numbers(value: float, instruction_set: str) -> None:
    x = made(4, 3, 5, 5)
    x[:, 1] = value
    x[0, 2, 0, 0] = value
    check_batch_norm(x, made(4, 3, 5, 5, seed=1), None, None, layouts(x))


def test_products_that_underflow_to_minus_zero_keep_the_sign_of_the_reference(instruction_set: str) -> None:
    x, g = made(2, 3, 5), torch.full((2, 3, 5), -1e-45)
    check_batch_norm(x, g, None, None, layouts(x))


def check_layer_norm(x: Tensor, g: Tensor, weight: Tensor | None, bias: Tensor | None) -> None:
    width = x.shape[1]
    w, b = None if weight is None else weight.numpy(), None if bias is None else bias.numpy()
    y, mean, inv = reference.layer_norm(x.numpy(), w, b, EPS)
    expected = (y, mean[:, None], inv[:, None], *reference.layer_norm_backward(g.numpy(), x.numpy(), w, mean, inv))
    for t in (x, x.t().contiguous().t()):
        with exact():
            found = aten.native_layer_norm(t, [width], weight, bias, EPS)
            back = aten.native_layer_norm_backward(g, t, [width], *found[1:], weight, bias, MASK)
        for a, e in zip((*found, *back), expected, strict=True):
            same_bits(a, e)


@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 15), (4, 16), (5, 17), (7, 63), (6, 64), (9, 65), (600, 96), (4200, 20), (2, 4097)], ids=str
)
def test_layer_norm_has_the_bits_of_the_reference(shape: tuple[int, int], instruction_set: str) -> None:
    check_layer_norm(made(*shape), made(*shape, seed=1), made(shape[1], seed=2), made(shape[1], seed=3))


def test_layer_norm_has_the_bits_of_the_reference_without_weight_and_in_float64(instruction_set: str) -> None:
    check_layer_norm(made(5, 70), made(5, 70, seed=1), None, None)
    parts = [made(n, 20, seed=n, dtype=torch.float64) for n in (5, 6)]
    check_layer_norm(parts[0], parts[1][:5], made(20, dtype=torch.float64), None)


@pytest.mark.parametrize(
    "shape", [(2, 6, 5, 7), (3, 20, 8, 8), (1, 2, 3), (2, 4, 64, 65), (1, 4, 1, 1), (5, 4, 16, 16)], ids=str
)
@pytest.mark.parametrize("affine", [True, False])
def test_group_norm_has_the_bits_of_the_reference_in_every_layout(
    shape: tuple[int, ...], affine: bool, instruction_set: str
) -> None:
    x, g, (n, channels) = made(*shape), made(*shape, seed=1), shape[:2]
    weight, bias = (made(channels, seed=2), made(channels, seed=3)) if affine else (None, None)
    w, b = (weight.numpy(), bias.numpy()) if weight is not None and bias is not None else (None, None)
    y, mean, inv = reference.group_norm(x.numpy(), w, b, 2, EPS)
    gradients = reference.group_norm_backward(g.numpy(), x.numpy(), w, mean, inv, 2)
    sizes = (n, channels, x[0, 0].numel(), 2)
    for t in layouts(x):
        with exact():
            found = aten.native_group_norm(t, weight, bias, *sizes, EPS)
            back = aten.native_group_norm_backward(g, t, *found[1:], weight, *sizes, MASK)
        for a, e in zip((*found, *back), (y, mean, inv, *gradients), strict=True):
            same_bits(a, e)


@pytest.mark.parametrize("n_threads", [2, 3, 8])
def test_the_number_of_threads_changes_no_bit(n_threads: int) -> None:
    x, g = made(6, 40, 33, 32), made(6, 40, 33, 32, seed=1)
    pixels = x.contiguous(memory_format=torch.channels_last)

    def everything() -> list[Tensor]:
        with exact():
            found: list[Tensor] = []
            for t in (x, pixels):
                found += aten.native_batch_norm(t, None, None, None, None, True, 0.1, EPS)
                found += aten.native_batch_norm_backward(g, t, None, None, None, *found[-2:], True, EPS, MASK)
            found += aten.native_group_norm(x, None, None, 6, 40, 33 * 32, 4, EPS)
            found += aten.native_group_norm_backward(g, x, *found[-2:], None, 6, 40, 33 * 32, 4, MASK)
            found += aten.native_layer_norm(x, [32], None, None, EPS)
            ones = torch.ones(32)
            return found + list(aten.native_layer_norm_backward(g, x, [32], *found[-2:], ones, ones, MASK))

    native.set_threads(1)
    alone = everything()
    native.set_threads(n_threads)
    for a, b in zip(alone, everything(), strict=True):
        assert torch.equal(a, b)


def test_the_order_of_a_gpus_threads_changes_no_bit() -> None:
    """One thread block and several of a channel, whole rows and odd ones; columns of one block of rows and of two."""
    gpu = native.use("emulated")

    pairs = [
        (made(*shape), made(*shape, seed=1)) for shape in ((3, 2, 1500), (2, 1, 17001), (4100, 9), (70, 5, 6), (70, 65))
    ]

    def everything() -> list[Tensor]:
        found: list[Tensor] = []
        with exact():
            for x, g in pairs:
                found += aten.native_batch_norm(x, None, None, None, None, True, 0.1, EPS)
                found += aten.native_batch_norm_backward(g, x, None, None, None, *found[-2:], True, EPS, MASK)
            found += aten.native_layer_norm(x, [65], None, None, EPS)
            found += aten.native_layer_norm_backward(g, x, [65], *found[-2:], None, None, MASK)
            found += aten.native_group_norm(x, None, None, 7, 10, 65, 2, EPS)
            found += aten.native_group_norm_backward(g, x, *found[-2:], None, 7, 10, 65, 2, MASK)
        return found

    try:
        ascending = everything()
        for order in (1, 2, 3):
            gpu.emulator_order(order)
            for a, b in zip(ascending, everything(), strict=True):
                assert torch.equal(a, b)
    finally:
        load("emulated").emulator_order(0)


MODULES = {
    "batch norm": (lambda: nn.BatchNorm2d(6), (4, 6, 9, 7)),
    "batch norm, cumulative": (lambda: nn.BatchNorm1d(6, momentum=None), (30, 6)),
    "batch norm without weights": (lambda: nn.BatchNorm3d(6, affine=False), (2, 6, 3, 4, 5)),
    "batch norm without statistics": (lambda: nn.BatchNorm2d(6, track_running_stats=False), (4, 6, 9, 7)),
    "batch norm in evaluation": (lambda: nn.BatchNorm2d(6).eval(), (4, 6, 9, 7)),
    "instance norm": (lambda: nn.InstanceNorm2d(6, affine=True), (4, 6, 9, 7)),
    "layer norm": (lambda: nn.LayerNorm([9, 7]), (4, 6, 9, 7)),
    "layer norm without bias": (lambda: nn.LayerNorm(7, bias=False), (4, 6, 9, 7)),
    "group norm": (lambda: nn.GroupNorm(3, 6), (4, 6, 9, 7)),
}


@pytest.mark.parametrize("name", MODULES)
def test_values_and_gradients_are_those_of_float64(name: str) -> None:
    make, shape = MODULES[name]
    torch.manual_seed(0)
    module, x, g = make(), made(*shape), made(*shape, seed=1)

    def run(module: nn.Module, x: Tensor, g: Tensor) -> list[Tensor]:
        x = x.clone().requires_grad_()
        y = module(x)
        y.backward(g)
        running = [b for b in module.buffers() if b.is_floating_point()]
        return [y.detach(), x.grad, *(p.grad for p in module.parameters()), *running]  # type: ignore[list-item]

    import copy

    expected = run(copy.deepcopy(module).double(), x.double(), g.double())
    with exact():
        found = run(module, x, g)
    # The sums are of at most 252 terms below 20: their rounding errors, some units of 2^-24 * 20 * sqrt(252), stay below this.
    for a, e in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), e, rtol=2e-5, atol=5e-5)


def test_results_keep_the_strides_of_torch() -> None:
    for x in layouts(made(2, 4, 3, 5)):
        arguments = (x, None, None, None, None, True, 0.1, EPS)
        expected = aten.native_batch_norm(*arguments)[0]
        with exact():
            assert aten.native_batch_norm(*arguments)[0].stride() == expected.stride()


def test_a_mask_leaves_out_what_nobody_asked_for() -> None:
    x = made(2, 4, 3, 5)
    for mask in ([True, False, False], [False, True, False], [False, False, True]):
        with exact():
            _, mean, inv = aten.native_batch_norm(x, None, None, None, None, True, 0.1, EPS)
            every = aten.native_batch_norm_backward(x, x, None, None, None, mean, inv, True, EPS, MASK)
            some = aten.native_batch_norm_backward(x, x, None, None, None, mean, inv, True, EPS, mask)
        assert [t is not None for t in some] == mask
        assert all(torch.equal(a, b) for a, b in zip(some, every, strict=True) if a is not None)


def test_empty_tensors_pass() -> None:
    with exact():
        assert aten.native_layer_norm(made(0, 8), [8], None, None, EPS)[1].shape == (0, 1)
        back = aten.native_layer_norm_backward(
            made(0, 8), made(0, 8), [8], made(0, 1), made(0, 1), made(8), made(8), MASK
        )
        assert torch.equal(back[1], torch.zeros(8))
        assert aten.native_group_norm(made(0, 4, 3), None, None, 0, 4, 3, 2, EPS)[1].shape == (0, 2)
        assert aten.native_batch_norm(made(0, 4, 3), None, None, made(4), made(4).abs(), False, 0.1, EPS)[0].shape == (
            0,
            4,
            3,
        )


@pytest.mark.parametrize(
    "call",
    [
        lambda: aten.native_batch_norm(made(0, 4, 3), None, None, None, None, True, 0.1, EPS),
        lambda: aten.native_batch_norm(made(2, 4), made(3), None, None, None, True, 0.1, EPS),
        lambda: aten.native_batch_norm(made(2, 4), None, None, made(3), None, True, 0.1, EPS),
        lambda: aten.native_batch_norm(made(2, 4), made(4).double(), None, None, None, True, 0.1, EPS),
        lambda: aten.native_batch_norm(made(2, 4), None, None, None, None, False, 0.1, EPS),
        lambda: aten.native_layer_norm(made(2, 4), [3], None, None, EPS),
        lambda: aten.native_layer_norm(made(2, 4), [4], made(3), None, EPS),
        lambda: aten.native_group_norm(made(2, 4, 3), None, None, 2, 4, 3, 3, EPS),
    ],
)
def test_what_does_not_fit_raises(call: object) -> None:
    with exact(), pytest.raises(RuntimeError):
        call()  # type: ignore[operator]
