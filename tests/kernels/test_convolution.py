"""Convolution: the compiled kernels give the reference's bits, on every route, and the values of a convolution."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diva.kernels.exact import exact
from diva.kernels.library import available, native
from diva.kernels.operators.convolution import convolution, convolution_backward
from diva.kernels.reference import convolution as reference

Bits = tuple[np.ndarray, ...]


class Case(NamedTuple):
    """One convolution: batch, channels in and out, size and kernel (of any number of axes), and the rest."""

    batch: int
    channels: int
    out: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    transposed: bool = False
    extra: int = 0

    @property
    def n(self) -> int:
        return len(self.size)

    def spread(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return (self.stride,) * self.n, (self.padding,) * self.n, (self.dilation,) * self.n

    def arguments(self) -> tuple[object, ...]:
        stride, padding, dilation = self.spread()
        return list(stride), list(padding), list(dilation), self.transposed, [self.extra] * self.n, self.groups

    def tensors(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
        random = torch.Generator().manual_seed(seed)
        first, second = (self.channels, self.out) if self.transposed else (self.out, self.channels)
        x = torch.randn(self.batch, self.channels, *self.size, generator=random, dtype=dtype)
        w = torch.randn(first, second // self.groups, *self.kernel, generator=random, dtype=dtype)
        return x, w, torch.randn(self.out, generator=random, dtype=dtype)


# Small ones for the reference: each route and each kind of remainder by lanes, tiles and chunks occurs.
CASES = {
    "1x1": Case(2, 5, 3, (4, 5), (1, 1)),
    "3x3": Case(2, 3, 5, (7, 6), (3, 3), padding=1),
    "3x3 over 256 taps": Case(1, 30, 14, (5, 5), (3, 3), padding=1),
    "wide": Case(1, 2, 3, (3, 67), (3, 3), padding=1),
    "strided": Case(2, 3, 4, (9, 8), (3, 3), stride=2, padding=1),
    "1x1 strided": Case(2, 3, 4, (6, 6), (1, 1), stride=2),
    "stride over kernel": Case(1, 2, 3, (11, 7), (2, 2), stride=3),
    "dilated": Case(1, 3, 4, (9, 9), (3, 3), padding=2, dilation=2),
    "dilated and strided": Case(2, 2, 3, (11, 10), (3, 2), stride=2, padding=2, dilation=3),
    "even kernel": Case(2, 2, 3, (6, 6), (4, 4), padding=2),
    "padding beyond kernel": Case(1, 2, 2, (3, 3), (2, 2), padding=3),
    "grouped": Case(2, 8, 12, (5, 5), (3, 3), padding=1, groups=4),
    "grouped by 4": Case(3, 32, 32, (6, 5), (3, 3), padding=1, groups=8),
    "depthwise": Case(2, 18, 18, (6, 7), (3, 3), padding=1, groups=18),
    "depthwise strided": Case(2, 17, 17, (9, 18), (3, 3), stride=2, padding=1, groups=17),
    "depthwise 5x5": Case(1, 3, 3, (8, 21), (5, 5), padding=2, groups=3),
    "depthwise multiplied": Case(2, 3, 6, (6, 6), (3, 3), padding=1, groups=3),
    "batch of 32, 4x4": Case(32, 4, 5, (4, 4), (3, 3), padding=1),
    "batch of 33, 3x3 strided": Case(33, 3, 6, (3, 3), (3, 3), stride=2, padding=1),
    "batch of 17, over 256 taps": Case(17, 29, 30, (2, 2), (3, 3), padding=1),
    "image of one": Case(70, 3, 4, (1, 1), (1, 1)),
    "many pixels": Case(5, 2, 3, (17, 18), (3, 3), padding=1),
    "lenet": Case(2, 1, 6, (12, 12), (5, 5), padding=2),
    "one dimension": Case(2, 3, 4, (19,), (3,), stride=2, padding=1),
    "three dimensions": Case(1, 2, 3, (3, 4, 5), (2, 3, 3), padding=1),
    "transposed": Case(2, 4, 3, (4, 5), (3, 3), stride=2, padding=1, transposed=True, extra=1),
    "transposed 1x1": Case(2, 4, 3, (4, 5), (1, 1), transposed=True),
    "transposed, kernel 2, stride 2": Case(2, 6, 4, (5, 4), (2, 2), stride=2, transposed=True),
    "transposed and grouped": Case(2, 4, 6, (4, 4), (3, 3), padding=1, groups=2, transposed=True),
    "transposed, one dimension": Case(2, 3, 2, (7,), (4,), stride=2, padding=1, transposed=True),
    "transposed, three dimensions": Case(1, 2, 2, (2, 3, 2), (2, 2, 2), stride=2, transposed=True),
}
MORE = {  # compared with float64 and over threads, instruction sets and layouts, not with the slow reference
    "resnet": Case(32, 16, 24, (16, 16), (3, 3), padding=1),
    "resnet, 4x4": Case(32, 70, 40, (4, 4), (3, 3), padding=1),
    "resnet, stride": Case(16, 32, 48, (16, 16), (3, 3), stride=2, padding=1),
    "resnet, shortcut": Case(16, 32, 48, (16, 16), (1, 1), stride=2),
    "unet": Case(2, 32, 32, (64, 64), (3, 3), padding=1),
    "stem": Case(2, 3, 20, (60, 60), (7, 7), stride=2, padding=3),
    "pointwise": Case(4, 64, 100, (14, 14), (1, 1)),
    "mobilenet": Case(8, 40, 40, (28, 28), (3, 3), padding=1, groups=40),
    "mobilenet, stride": Case(8, 40, 40, (28, 28), (3, 3), stride=2, padding=1, groups=40),
    "resnext": Case(4, 64, 64, (14, 14), (3, 3), padding=1, groups=16),
    "lenet, batch": Case(64, 6, 16, (14, 14), (5, 5)),
    "first of lenet": Case(64, 1, 6, (28, 28), (5, 5), padding=2),
    "first of a network": Case(32, 3, 32, (32, 32), (5, 5), padding=2),
    "upwards": Case(4, 32, 16, (16, 16), (2, 2), stride=2, transposed=True),
    "upwards, 4x4": Case(4, 16, 16, (16, 16), (4, 4), stride=2, padding=1, transposed=True),
    "volume": Case(2, 6, 8, (8, 9, 10), (3, 3, 3), padding=1),
    "speech": Case(8, 40, 64, (100,), (5,), padding=2),
}


@pytest.fixture(autouse=True)
def _library_restored() -> Iterator[None]:
    threads = native.threads()
    yield
    native.use()
    native.set_threads(threads)


def gradient_like(y: Tensor, seed: int = 1) -> Tensor:
    return torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=y.dtype)


def ours(case: Case, x: Tensor, w: Tensor, b: Tensor | None) -> tuple[Tensor, ...]:
    """y, dx, dw, db of our kernels."""
    y = convolution(x, w, b, *case.arguments())
    dx, dw, db = convolution_backward(gradient_like(y), x, w, None, *case.arguments(), [True, True, True])
    assert dx is not None and dw is not None and db is not None
    return y, dx, dw, db


def specified(case: Case, x: Tensor, w: Tensor, b: Tensor | None, y: Tensor) -> Bits:
    """The same four by the reference."""
    image, weight, bias, g = x.numpy(), w.numpy(), None if b is None else b.numpy(), gradient_like(y).numpy()
    spread = case.spread()
    with np.errstate(all="ignore"):
        db = reference.bias_gradient(g)
        if case.transposed:
            first = reference.input_gradient(image, weight, g.shape[2:], *spread, case.groups, bias)
            second = reference.forward(g, weight, None, *spread, case.groups)
            return first, second, reference.weight_gradient(image, g, case.kernel, *spread, case.groups), db
        first = reference.forward(image, weight, bias, *spread, case.groups)
        second = reference.input_gradient(g, weight, image.shape[2:], *spread, case.groups)
        return first, second, reference.weight_gradient(g, image, case.kernel, *spread, case.groups), db


def same(got: tuple[Tensor, ...], expected: tuple[Tensor, ...] | Bits) -> None:
    for name, a, b in zip(("y", "dx", "dw", "db"), got, expected, strict=True):
        left, right = (
            np.ascontiguousarray(a.numpy()),
            np.ascontiguousarray(b if isinstance(b, np.ndarray) else b.numpy()),
        )
        assert left.shape == right.shape, name
        differ = (left.view(f"i{left.itemsize}") != right.view(f"i{right.itemsize}")) & ~(
            np.isnan(left) & np.isnan(right)
        )
        assert not differ.any(), (
            f"{name}: {int(differ.sum())} of {differ.size} differ, first at {np.argwhere(differ)[0]}"
        )


@pytest.mark.parametrize("name", CASES)
def test_every_instruction_set_gives_the_bits_of_the_reference(name: str) -> None:
    case = CASES[name]
    x, w, b = case.tensors()
    expected: Bits | None = None
    for isa in available():
        native.use(isa)
        got = ours(case, x, w, b)
        expected = expected or specified(case, x, w, b, got[0])
        same(got, expected)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e-42, -0.0, 3e38])
@pytest.mark.parametrize(
    "name", ["3x3", "strided", "depthwise", "grouped by 4", "batch of 33, 3x3 strided", "transposed", "1x1"]
)
@pytest.mark.parametrize("where", ["x", "w", "g"])
def test_special_numbers_and_padding_follow_the_reference(
    name: str, value: float, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    x, w, b = case.tensors()
    original = gradient_like

    def spoiled(y: Tensor, seed: int = 1) -> Tensor:
        g = original(y, seed)
        if where == "g":
            g.view(-1)[:: max(1, g.numel() // 5)] = value
        return g

    monkeypatch.setattr(f"{__name__}.gradient_like", spoiled)
    tensor = {"x": x, "w": w}.get(where)
    if tensor is not None:
        tensor.view(-1)[:: max(1, tensor.numel() // 5)] = value
    got = ours(case, x, w, b)
    same(got, specified(case, x, w, b, got[0]))


def test_float64_follows_the_same_order() -> None:
    case = Case(2, 2, 3, (3, 4), (3, 2), stride=2, padding=1)
    x, w, b = case.tensors(dtype=torch.float64)
    for isa in available():
        native.use(isa)
        got = ours(case, x, w, b)
        same(got, specified(case, x, w, b, got[0]))


@pytest.mark.parametrize("name", MORE)
def test_instruction_sets_and_threads_change_no_bit(name: str) -> None:
    case = MORE[name]
    x, w, b = case.tensors()
    native.set_threads(1)
    expected = ours(case, x, w, b)
    for isa, threads in [("avx512", 2), ("avx512", 3), ("avx512", 8), ("avx2", 2), ("neon", 2), ("scalar", 1)]:
        if isa in available():
            native.use(isa)
            native.set_threads(threads)
            same(ours(case, x, w, b), expected)


# Each kernel of the GPU: tiles of every shape with one chunk, several, and several rounds of them, with edges on all sides.
ON_A_GPU = {
    "tall tiles": Case(4, 29, 70, (8, 9), (3, 3), padding=1),
    "wide tiles, then tall": Case(5, 70, 40, (9, 9), (3, 3), padding=1),
    "few tiles, two rounds": Case(1, 130, 40, (6, 6), (3, 3), padding=1),
    "one chunk": Case(3, 40, 100, (9, 9), (1, 1)),
    "few columns, much scratch": Case(10, 3, 24, (28, 28), (3, 3), stride=2, padding=1),
    "phases": Case(1, 33, 40, (13, 14), (4, 3), stride=3, padding=2, dilation=2),
    "groups": Case(2, 40, 44, (7, 6), (3, 3), padding=1, groups=2),
    "transposed": Case(2, 40, 20, (9, 7), (4, 4), stride=2, padding=1, transposed=True, extra=1),
    "long kernel": Case(1, 3, 4, (50,), (40,), padding=20),
    "long bias": Case(1, 1, 1, (370, 370), (1, 1)),
    "volume": Case(1, 12, 20, (5, 6, 7), (3, 3, 3), padding=1),
    "channels-last bias": Case(1, 1, 8, (36, 37), (1, 1)),
}


@pytest.mark.parametrize("name", ON_A_GPU)
def test_gpu_kernels_give_the_bits_of_the_processor(name: str) -> None:
    case = ON_A_GPU[name]
    x, w, b = case.tensors()
    expected = ours(case, x, w, b)
    emulated = native.use("emulated")
    try:
        for order in {"tall tiles": (0, 2), "few columns, much scratch": (0, 1, 3)}.get(name, (0,)):
            emulated.emulator_order(order)
            same(ours(case, x, w, b), expected)
    finally:
        emulated.emulator_order(0)
    if name in ("one chunk", "phases", "groups", "channels-last bias"):
        last = torch.channels_last
        x_last, w_last = x.to(memory_format=last), w.to(memory_format=last)
        same(ours(case, x_last, w_last, b), expected)
        g = gradient_like(expected[0]).to(memory_format=last)
        got = convolution_backward(g, x_last, w_last, None, *case.arguments(), [True, True, True])
        same((expected[0], *(t for t in got if t is not None)), expected)
        x.view(-1)[::101], w.view(-1)[::37] = float("inf"), -1e-42
        got = ours(case, x[:1], w, b)
        native.use()
        same(got, ours(case, x[:1], w, b))


@pytest.mark.parametrize("name", ["tall tiles", "one chunk"])
def test_gpu_kernels_give_the_bits_of_the_processor_in_float64(name: str) -> None:
    case = ON_A_GPU[name]._replace(batch=1)
    x, w, b = case.tensors(dtype=torch.float64)
    expected = ours(case, x, w, b)
    native.use("emulated")
    same(ours(case, x, w, b), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*CASES, *MORE])
def test_values_and_gradients_are_those_of_a_convolution(name: str, dtype: torch.dtype) -> None:
    case = (CASES | MORE)[name]
    x, w, b = case.tensors(dtype=dtype)
    wide = [t.double().requires_grad_() for t in (x, w, b)]
    with torch.backends.mkldnn.flags(enabled=False):
        y = torch.convolution(*wide, *case.arguments())
        g = gradient_like(torch.empty(y.shape, dtype=dtype))
        expected = (y, *torch.autograd.grad(y, wide, g.double()))
    # a chunked sum of n products is off by far less than (256 + n / 256) rounding errors of the sum of their magnitudes
    sizes = [t.abs().double().requires_grad_() for t in (x, w, b)]
    with torch.backends.mkldnn.flags(enabled=False):
        above = torch.convolution(*sizes, *case.arguments())
        bounds = (above, *torch.autograd.grad(above, sizes, g.abs().double()))
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    with exact():
        found = torch.convolution(*leaves, *case.arguments())
        got = (found, *torch.autograd.grad(found, leaves, g))
    unit = torch.finfo(dtype).eps / 2
    for a, e, bound in zip(got, expected, bounds, strict=True):
        terms = 256 + max(x.numel(), g.numel()) / 256
        slack = 1e-15 if dtype == torch.float32 else 0.0  # the float64 sum that we compare with has errors of its own
        factor = terms * unit * (2 if dtype == torch.float64 else 1)
        assert bool(((a.double() - e).abs() <= bound * (factor + slack)).all())


LAYOUTS = ["channels-last input", "channels-last weight", "both", "transposed input", "sliced", "expanded gradient"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "name", ["3x3", "strided", "depthwise", "resnet, 4x4", "resnet", "pointwise", "resnext", "mobilenet", "stem"]
)
def test_layout_changes_no_bit(name: str, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = (CASES | MORE)[name]
    x, w, b = case.tensors()
    if layout == "expanded gradient":
        flat = gradient_like(torch.empty(1))
        monkeypatch.setattr(f"{__name__}.gradient_like", lambda y: flat.expand(y.shape).clone())
    expected = ours(case, x, w, b)
    if layout in ("channels-last input", "both"):
        x = x.to(memory_format=torch.channels_last)
    if layout in ("channels-last weight", "both"):
        w = w.to(memory_format=torch.channels_last)
    if layout == "transposed input":
        x = x.transpose(2, 3).contiguous().transpose(2, 3)
    if layout == "sliced":
        x = torch.cat([x, x], dim=1)[:, : case.channels]
        w = torch.stack([w, w], dim=-1)[..., 0]
    if layout == "expanded gradient":
        monkeypatch.setattr(f"{__name__}.gradient_like", lambda y: flat.expand(y.shape))
    same(ours(case, x, w, b), expected)


@pytest.mark.parametrize("transposed", [False, True])
def test_channels_last_in_gives_channels_last_out(transposed: bool) -> None:
    case = Case(2, 6, 4, (5, 6), (3, 3), transposed=transposed)
    x, w, b = case.tensors()
    for x_last, w_last in itertools.product([False, True], repeat=2):
        a = x.to(memory_format=torch.channels_last) if x_last else x
        c = w.to(memory_format=torch.channels_last) if w_last else w
        for result in ours(case, a, c, b)[:3]:
            assert result.is_contiguous(
                memory_format=torch.channels_last if x_last or w_last else torch.contiguous_format
            )


def test_a_1x1_convolution_equals_linear_by_the_definition_of_dot() -> None:
    from diva.kernels.reference.arithmetic import dot

    x, w, _ = Case(2, 300, 3, (2, 3), (1, 1)).tensors()
    y = convolution(x, w, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    rows = x.permute(0, 2, 3, 1).numpy()  # (N, H, W, C)
    expected = np.stack([dot(rows, w[o, :, 0, 0].numpy()) for o in range(3)], axis=1)
    assert np.array_equal(y.numpy().view(np.int32), expected.view(np.int32))


def test_a_sample_does_not_depend_on_its_batch() -> None:
    for case in (MORE["resnet, 4x4"], MORE["lenet, batch"], MORE["resnet, stride"], MORE["resnext"]):
        x, w, b = case.tensors()
        whole, alone = ours(case, x, w, b), ours(case, x[:3], w, b)
        assert torch.equal(whole[0][:3], alone[0])
        y = whole[0]
        part = convolution_backward(gradient_like(y)[:3], x[:3], w, None, *case.arguments(), [True, False, False])[0]
        assert part is not None and torch.equal(whole[1][:3], part)


def test_only_what_the_mask_asks_for_is_returned() -> None:
    case = CASES["3x3"]
    x, w, b = case.tensors()
    g = gradient_like(convolution(x, w, b, *case.arguments()))
    for mask in itertools.product([False, True], repeat=3):
        got = convolution_backward(g, x, w, None, *case.arguments(), list(mask))
        assert [t is not None for t in got] == list(mask)


def test_modules_reach_these_kernels_and_batch_and_channels_may_be_missing() -> None:
    module = torch.nn.Conv2d(3, 4, 3, padding="same", padding_mode="replicate")
    upwards = torch.nn.ConvTranspose1d(3, 2, 3)
    x, row = torch.randn(2, 3, 5, 5), torch.randn(1, 3, 5)
    with exact():
        y = module(x)
        y.backward(torch.ones_like(y))
        assert module(x[0]).shape == (4, 5, 5)
        assert module(x[:0]).shape == (0, 4, 5, 5)
        assert upwards(row).shape == (1, 2, 7)
    assert module.weight.grad is not None


def test_an_empty_batch_gives_zero_gradients() -> None:
    case = Case(0, 3, 4, (5, 5), (3, 3))
    x, w, b = case.tensors()
    y, dx, dw, db = ours(case, x, w, b)
    assert y.shape == (0, 4, 3, 3) and dx.shape == x.shape
    assert not dw.any() and not db.any()


def test_second_derivatives_come_from_the_same_kernels() -> None:
    x, w, _ = Case(2, 3, 4, (5, 5), (3, 3), padding=1).tensors(dtype=torch.float64)
    x.requires_grad_()
    w.requires_grad_()
    g = gradient_like(torch.empty(2, 4, 5, 5, dtype=torch.float64)).requires_grad_()
    u, v = gradient_like(x, 2), gradient_like(w, 3)

    def second() -> tuple[Tensor, ...]:
        first = torch.autograd.grad(torch.conv2d(x, w, None, 1, 1), (x, w), g, create_graph=True)
        return torch.autograd.grad(first, (x, w, g), (u, v))

    expected = second()
    with exact():
        got = second()
    for a, b in zip(got, expected, strict=True):  # sums of at most 100 products of numbers near 1
        assert torch.allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "stride", "groups"),
    [
        ((1, 3, 5, 5), (4, 2, 3, 3), 1, 1),
        ((1, 3, 5, 5), (4, 3, 7, 3), 1, 1),
        ((1, 3, 5, 5), (4, 3, 3, 3), 0, 1),
        ((1, 3, 5, 5), (4, 3, 3, 3), 1, 3),
        ((1, 3, 5, 5), (4, 3, 3), 1, 1),
        ((1, 3, 5, 5), (4, 3, 3, 3), 1, 0),
    ],
)
def test_bad_shapes_raise(x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: int, groups: int) -> None:
    with pytest.raises(RuntimeError, match=r"convolution|Given groups"):
        convolution(
            torch.zeros(x_shape), torch.zeros(w_shape), None, [stride] * 2, [0] * 2, [1] * 2, False, [0] * 2, groups
        )


def test_a_transposed_1x1_kernel_with_output_padding_has_rows_of_two_lengths():
    x, w = torch.randn(1, 3, 4, 6), torch.randn(3, 4, 1, 1)
    wanted = F.conv_transpose2d(x, w, dilation=3, output_padding=2)
    for name in available():
        native.use(name)
        with exact():
            torch.testing.assert_close(F.conv_transpose2d(x, w, dilation=3, output_padding=2), wanted)
