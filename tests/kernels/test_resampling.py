"""Interpolation and padding gradients: the bits of the specification, stock's values and layouts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diva.errors import KernelError
from diva.kernels import library
from diva.kernels.exact import exact
from diva.kernels.library import native
from diva.kernels.operators import resampling
from diva.kernels.reference import resampling as reference
from diva.kernels.table import OURS

FUNCTIONS = {
    ("nearest", 1): "upsample_nearest1d",
    ("nearest", 2): "upsample_nearest2d",
    ("nearest", 3): "upsample_nearest3d",
    ("nearest-exact", 1): "_upsample_nearest_exact1d",
    ("nearest-exact", 2): "_upsample_nearest_exact2d",
    ("nearest-exact", 3): "_upsample_nearest_exact3d",
    ("linear", 1): "upsample_linear1d",
    ("linear", 2): "upsample_bilinear2d",
    ("linear", 3): "upsample_trilinear3d",
    ("cubic", 2): "upsample_bicubic2d",
}
SHAPES: dict[int, list[tuple[tuple[int, ...], tuple[int, ...]]]] = {
    1: [((1,), (1,)), ((1,), (5,)), ((7,), (1,)), ((16,), (16,)), ((15,), (31,)), ((16,), (32,)), ((17,), (35,)), ((300,), (40,)),
        ((41,), (600,)), ((2,), (700,)), ((5000,), (5000,))],
    2: [((1, 1), (3, 4)), ((5, 7), (10, 14)), ((8, 16), (16, 33)), ((17, 33), (5, 33)), ((6, 6), (6, 18)), ((9, 40), (31, 17)),
        ((2, 3), (30, 600)), ((33, 65), (66, 130))],
    3: [((1, 1, 1), (2, 3, 4)), ((3, 4, 5), (6, 8, 10)), ((3, 5, 17), (3, 10, 40)), ((4, 4, 4), (7, 4, 3)), ((2, 3, 18), (5, 7, 18))],
}  # fmt: skip


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before, threads = library.choose(), native.threads()
    yield
    native.use(before)
    native.set_threads(threads)


def numbers(*shape: int, dtype: Any = np.float32, seed: int = 0, special: bool = False) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    if special and x.size:
        flat = x.reshape(-1)
        for k, value in enumerate((np.inf, -np.inf, np.nan, -0.0, 1e-40, -1e-45, 3e38, 0.0)):
            flat[(7 * k + 3) % flat.size] = value
    return x


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    width = np.int32 if a.dtype == np.float32 else np.int64
    nan = np.isnan(a) & np.isnan(b)
    return a.shape == b.shape and bool(np.all((a.view(width) == b.view(width)) | nan))


def scales_of(sizes: tuple[int, ...], out: tuple[int, ...], given: bool) -> tuple[float, ...]:
    return tuple(o / i * (1 + 0.3 / (o + 1)) if given else 0.0 for i, o in zip(sizes, out, strict=True))


def arguments(mode: str, align: bool, scales: tuple[float, ...]) -> list[Any]:
    return [*([align] if mode in ("linear", "cubic") else []), *(s or None for s in scales)]


CASES = [
    (mode, axes, align, given)
    for (mode, axes), align, given in itertools.product(FUNCTIONS, (False, True), (False, True))
    if not align or (mode in ("linear", "cubic") and not given)
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("mode", "axes", "align", "given"), CASES)
def test_every_instruction_set_gives_the_bits_of_the_reference(
    mode: Any, axes: int, align: bool, given: bool, dtype: Any
) -> None:
    forward, backward = OURS[FUNCTIONS[mode, axes]], OURS[FUNCTIONS[mode, axes] + "_backward"]
    shapes = SHAPES[axes] if dtype == np.float32 else SHAPES[axes][:4]
    for (sizes, out), special in itertools.product(shapes, (False, True)):
        if dtype == np.float64 and special:
            continue
        x, gy = (
            numbers(1, 2, *sizes, dtype=dtype, special=special),
            numbers(1, 2, *out, dtype=dtype, seed=1, special=special),
        )
        scales = scales_of(sizes, out, given)
        y = reference.resample(x, out, mode, align, scales)
        gx = reference.resample_backward(gy, sizes, mode, align, scales)
        rest = arguments(mode, align, scales)
        for isa in library.available():
            native.use(isa)
            got = forward(torch.from_numpy(x), out, *rest)
            assert same_bits(got.numpy(), y), (isa, sizes, out)
            got = backward(torch.from_numpy(gy), out, x.shape, *rest)
            assert same_bits(got.numpy(), gx), (isa, sizes, out, "backward")


@pytest.mark.parametrize("pads", [(1, 2), (0, 3), (4, 0), (0, 0), (-1, 2), (2, -2)])
@pytest.mark.parametrize("kind", ["reflection", "replication"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_padding_gradients_have_the_bits_of_the_reference(kind: str, axes: int, pads: tuple[int, int]) -> None:
    backward = OURS[f"{kind}_pad{axes}d_backward"]
    rule: Any = "reflect" if kind == "reflection" else "replicate"
    for width in (5, 16, 17, 37):
        sizes = (*(5, 6)[: axes - 1], width)
        outs = tuple(n + sum(pads) for n in sizes)
        gy = numbers(2, 3, *outs, special=width == 17)
        expected = reference.pad_backward(gy, sizes, (pads[0],) * axes, rule)
        for isa in library.available():
            native.use(isa)
            got = backward(torch.from_numpy(gy), torch.empty(2, 3, *sizes), pads * axes)
            assert same_bits(got.numpy(), expected), (isa, width)


@pytest.mark.parametrize("kind", ["reflect", "replicate"])
def test_padding_trains_like_stock(kind: str) -> None:
    for shape, pad in (((2, 3, 9), (2, 1)), ((2, 3, 6, 9), (2, 1, 3, 0)), ((1, 2, 4, 5, 6), (2, 1, 3, 0, 1, 1))):
        x = torch.randn(shape, requires_grad=True)
        g = torch.randn(F.pad(x, pad, mode=kind).shape)
        (stock,) = torch.autograd.grad(F.pad(x, pad, mode=kind), x, g)
        with exact():
            (ours,) = torch.autograd.grad(F.pad(x, pad, mode=kind), x, g)
        torch.testing.assert_close(ours, stock)  # both add at most 8 numbers of order 1, in float32


@pytest.mark.parametrize(("mode", "axes", "align", "given"), CASES)
def test_values_and_gradients_are_stocks_in_every_layout(mode: Any, axes: int, align: bool, given: bool) -> None:
    name = {"linear": {1: "linear", 2: "bilinear", 3: "trilinear"}[axes], "cubic": "bicubic"}.get(mode, mode)
    sizes, out = {1: ((20,), (47,)), 2: ((12, 20), (31, 13)), 3: ((4, 6, 7), (9, 6, 19))}[axes]
    base = torch.from_numpy(numbers(2, 6, *sizes))
    layouts = [base, base.transpose(0, 1).contiguous().transpose(0, 1), base[:1].expand_as(base)]
    layouts.append(
        torch.from_numpy(numbers(2, 6, *(2 * n for n in sizes)))[
            (slice(None), slice(None), *[slice(None, None, 2)] * axes)
        ]
    )
    if axes > 1:
        last = torch.channels_last if axes == 2 else torch.channels_last_3d
        layouts += [
            base.contiguous(memory_format=last),
            torch.cat([base, base], 1).contiguous(memory_format=last)[:, :6],
        ]
    for x in layouts:
        x = x.detach().requires_grad_()
        kwargs: dict[str, Any] = {"mode": name, **({"align_corners": align} if mode in ("linear", "cubic") else {})}
        kwargs |= (
            {"scale_factor": tuple(1.7 if o > i else 0.6 for i, o in zip(sizes, out, strict=True))}
            if given
            else {"size": out}
        )
        wide = x.detach().double().requires_grad_()
        y64 = F.interpolate(wide, **kwargs)
        g = torch.from_numpy(numbers(*y64.shape, seed=2))
        if axes > 1 and not x.is_contiguous():
            g = g.contiguous(memory_format=torch.channels_last if axes == 2 else torch.channels_last_3d)
        (gx64,) = torch.autograd.grad(y64, wide, g.double())
        y_stock = F.interpolate(x, **kwargs)
        (gx_stock,) = torch.autograd.grad(y_stock, x, g)
        with exact():
            y = F.interpolate(x, **kwargs)
            (gx,) = torch.autograd.grad(y, x, g)
        assert y.stride() == y_stock.stride()
        assert gx.stride() == gx_stock.stride()
        # positions of stock's float64 come from the same ratios; weights of ours are rounded to float32 once (2^-24 of 1),
        # and each output adds at most 64 products of numbers below 5
        torch.testing.assert_close(y.double(), y64, atol=2e-6, rtol=1e-6)
        torch.testing.assert_close(gx.double(), gx64, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_threads_and_layouts_do_not_change_bits(layout: Any) -> None:
    x, gy = torch.from_numpy(numbers(3, 20, 40, 50)), torch.from_numpy(numbers(3, 20, 83, 90))
    y = reference.resample(x.numpy(), (83, 90), "linear", False, (0.0, 0.0))
    gx = reference.resample_backward(gy.numpy(), (40, 50), "linear", False, (0.0, 0.0))
    for threads in (1, 2, 3, 8):
        native.set_threads(threads)
        got = OURS["upsample_bilinear2d"](x.contiguous(memory_format=layout), (83, 90), False)
        assert same_bits(got.contiguous().numpy(), y)
        got = OURS["upsample_bilinear2d_backward"](gy.contiguous(memory_format=layout), (83, 90), x.shape, False)
        assert same_bits(got.contiguous().numpy(), gx)
    volume = torch.from_numpy(numbers(2, 3, 9, 10, 11))
    expected = reference.resample_backward(volume.numpy(), (5, 4, 6), "linear", True, (0.0,) * 3)
    for threads in (1, 2, 3, 8):
        native.set_threads(threads)
        got = OURS["upsample_trilinear3d_backward"](volume, (9, 10, 11), (2, 3, 5, 4, 6), True)
        assert same_bits(got.numpy(), expected)


def test_the_order_of_a_gpus_threads_and_blocks_changes_no_bit() -> None:
    x = torch.from_numpy(numbers(2, 3, 5, 6))
    small, large = torch.from_numpy(numbers(2, 3, 2, 1)), torch.from_numpy(numbers(2, 3, 21, 30))

    def everything() -> list[Tensor]:
        doubled = OURS["upsample_bilinear2d"](x, (10, 12), False)
        return [
            doubled,
            OURS["upsample_bilinear2d_backward"](doubled, (10, 12), x.shape, False),
            OURS["upsample_bicubic2d"](x, (7, 13), False),
            OURS["upsample_bicubic2d_backward"](doubled, (10, 12), x.shape, True),
            OURS["upsample_bilinear2d_backward"](large, (21, 30), small.shape, False),  # one axis after the other
            OURS["reflection_pad2d_backward"](doubled, torch.empty(2, 3, 6, 9), (1, 2, 3, 1)),
        ]

    native.use(library.choose())
    expected = everything()
    native.use("emulated")
    try:
        for order in range(4):
            library.load("emulated").emulator_order(order)
            assert all(torch.equal(a, b) for a, b in zip(everything(), expected, strict=True)), order
    finally:
        library.load("emulated").emulator_order(0)


def test_bytes_are_enlarged_at_the_indices_of_floats() -> None:
    x = torch.arange(48, dtype=torch.uint8).reshape(1, 3, 4, 4)
    with exact():
        assert torch.equal(F.interpolate(x, size=(7, 9)).float(), F.interpolate(x.float(), size=(7, 9)))


def test_a_factor_that_is_a_whole_number_never_misses_a_pixel() -> None:
    for factor in (3, 41, 47, 83):
        x = torch.arange(12.0).reshape(1, 1, 12)
        with exact():
            assert torch.equal(F.interpolate(x, scale_factor=factor), x.repeat_interleave(factor, 2))
            assert torch.equal(F.interpolate(x, size=12 * factor), x.repeat_interleave(factor, 2))


def test_empty_batches_pass() -> None:
    with exact():
        assert F.interpolate(torch.zeros(0, 3, 4, 4), size=(8, 8), mode="bilinear").shape == (0, 3, 8, 8)
        x = torch.zeros(0, 3, 4, 4, requires_grad=True)
        F.interpolate(x, size=(8, 8)).sum().backward()
        assert x.grad is not None and x.grad.shape == (0, 3, 4, 4)


def test_bad_shapes_and_types_are_refused() -> None:
    x = torch.zeros(1, 2, 4, 4)
    for call in (
        lambda: OURS["upsample_bilinear2d"](torch.zeros(2, 4, 4), (8, 8), False),
        lambda: OURS["upsample_bilinear2d"](x, (8, 0), False),
        lambda: OURS["upsample_nearest2d"](x[:, :, :0], (8, 8)),
        lambda: OURS["upsample_nearest2d_backward"](x, (8, 8), (1, 2, 2, 2)),
        lambda: OURS["reflection_pad2d_backward"](x, torch.zeros(1, 2, 1, 1), (1, 2, 1, 2)),
        lambda: OURS["replication_pad1d_backward"](x, torch.zeros(1, 2, 3), (1, 1)),
    ):
        with pytest.raises(RuntimeError):
            call()
    with pytest.raises(KernelError):
        OURS["upsample_bilinear2d"](x.to(torch.float16), (8, 8), False)


def test_channels_last_of_one_pixel_stays_channels_last() -> None:
    x: Tensor = (
        torch.zeros(2, 5, 1, 1).contiguous(memory_format=torch.channels_last).as_strided((2, 5, 1, 1), (5, 1, 5, 5))
    )
    assert resampling.is_channels_last(x)
    assert not resampling.is_channels_last(torch.zeros(2, 5, 1, 1))
