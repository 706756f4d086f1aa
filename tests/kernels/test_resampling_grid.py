"""grid_sample: the bits of the specification, stock's values and gradients."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diva.kernels import library, operators
from diva.kernels.exact import exact
from diva.kernels.library import native
from diva.kernels.reference import resampling_grid as reference
from diva.kernels.table import OURS

operators.load()
MODES = [
    (mode, padding, align, axes)
    for mode in ("bilinear", "nearest", "bicubic")
    for padding in ("zeros", "border", "reflection")
    for align in (False, True)
    for axes in (2, 3)
    if mode != "bicubic" or axes == 2
]


def inputs(axes: int, positions: int, dtype: Any, wide: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(axes)
    x = rng.standard_normal((2, 3, *(4, 5, 3)[:axes])).astype(dtype)
    grid = rng.uniform(-wide, wide, (2, positions, axes)).astype(dtype)
    return x, grid, rng.standard_normal((2, 3, positions)).astype(dtype)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    width = {4: np.int32, 8: np.int64}[a.dtype.itemsize]
    return bool(np.all((a.view(width) == b.view(width)) | (np.isnan(a) & np.isnan(b))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("mode", "padding", "align", "axes"), MODES)
def test_every_instruction_set_gives_the_bits_of_the_reference(
    mode: Any, padding: Any, align: bool, axes: int, dtype: Any
) -> None:
    x, grid, gy = inputs(axes, 24 if dtype == np.float32 else 6, dtype, 2.5)
    if dtype == np.float32:
        grid[0, :8, 0] = [np.nan, np.inf, -np.inf, 3e38, -1.0, 1.0, 0.0, -0.0]
        grid[0, 8:12, 1] = [0.25, -0.25, 0.5, 1e9]
    y, gx, ggrid = reference.grid_sample(x, grid, gy, mode, padding, align)
    ways = ("bilinear", "nearest", "bicubic").index(mode), ("zeros", "border", "reflection").index(padding), align
    shape = (2, -1, *[1] * (axes - 1), axes)
    for isa in library.available():
        native.use(isa)
        tensors = torch.from_numpy(x), torch.from_numpy(grid).reshape(shape)
        got = OURS[f"grid_sampler_{axes}d"](*tensors, *ways)
        assert same_bits(got.reshape(y.shape).numpy(), y), isa
        up = torch.from_numpy(gy).reshape(got.shape)
        got_x, got_grid = OURS[f"grid_sampler_{axes}d_backward"](up, *tensors, *ways, (True, True))
        assert same_bits(got_x.numpy(), gx), isa
        assert same_bits(got_grid.reshape(ggrid.shape).numpy(), ggrid), isa


@pytest.mark.parametrize(("mode", "padding", "align", "axes"), MODES)
def test_values_and_gradients_are_stocks(mode: Any, padding: Any, align: bool, axes: int) -> None:
    x, grid, gy = inputs(axes, 40, np.float64, 1.7)
    grid = (np.round(grid * 64) / 64 + 1 / 1000).astype(np.float32).astype(np.float64)  # away from the jumps of nearest

    def run(kind: torch.dtype) -> tuple[Tensor, ...]:
        a = torch.from_numpy(x).to(kind).requires_grad_()
        b = torch.from_numpy(grid).to(kind).reshape(2, 40, *[1] * (axes - 1), axes).requires_grad_()
        y = F.grid_sample(a, b, mode=mode, padding_mode=padding, align_corners=align)
        return y.detach(), *torch.autograd.grad(y, (a, b), torch.from_numpy(gy).to(kind).reshape(y.shape))

    stock = run(torch.float64)
    with exact():
        ours = run(torch.float32)
    for a, b in zip(ours, stock, strict=True):
        # positions up to 5 are rounded to 2^-22, slopes are below 3 and sums have at most 3 * 16 terms of order 3
        torch.testing.assert_close(a.double(), b, atol=1e-4, rtol=1e-5)


def test_threads_do_not_change_bits() -> None:
    x, grid, gy = torch.randn(1, 40, 20, 20), torch.rand(1, 90, 90, 2) * 2 - 1, torch.randn(1, 40, 90, 90)
    seen = set()
    for threads in (1, 2, 3, 8):
        native.set_threads(threads)
        y = OURS["grid_sampler_2d"](x, grid, 0, 0, False)
        parts = OURS["grid_sampler_2d_backward"](gy, x, grid, 0, 0, False, (True, True))
        seen.add(b"".join(part.numpy().tobytes() for part in (y, *parts)))
    native.set_threads(1)
    assert len(seen) == 1


@pytest.mark.parametrize("spread", [0.0, 0.2, 1.3])
def test_the_order_of_a_gpus_threads_and_blocks_changes_no_bit(spread: float) -> None:
    # 1100 positions: where they all are in one place, lists of taps that are put in order by a block each.
    random = torch.Generator().manual_seed(0)
    x, gy = torch.randn(2, 5, 6, 7, generator=random), torch.randn(2, 5, 25, 44, generator=random)
    grid = (torch.rand(2, 25, 44, 2, generator=random) * 2 - 1) * spread

    def everything() -> list[Tensor]:
        parts = OURS["grid_sampler_2d_backward"](gy, x, grid, 0, 1, False, (True, True))
        return [OURS["grid_sampler_2d"](x, grid, 0, 1, False), *parts]

    expected = everything()
    native.use("emulated")
    try:
        for order in range(4):
            library.load("emulated").emulator_order(order)
            assert all(torch.equal(a, b) for a, b in zip(everything(), expected, strict=True)), order
    finally:
        library.load("emulated").emulator_order(0)


def test_bad_shapes_are_refused_and_empty_ones_pass() -> None:
    sample = OURS["grid_sampler_2d"]
    for x, grid in (
        (torch.zeros(1, 2, 3), torch.zeros(1, 2, 2, 2)),
        (torch.zeros(1, 2, 3, 3), torch.zeros(2, 2, 2, 2)),
        (torch.zeros(1, 2, 3, 0), torch.zeros(1, 2, 2, 2)),
        (torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 2, 3)),
        (torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 2, 2, dtype=torch.float64)),
    ):
        with pytest.raises(RuntimeError):
            sample(x, grid, 0, 0, False)
    assert sample(torch.zeros(0, 2, 3, 3), torch.zeros(0, 4, 5, 2), 0, 0, False).shape == (0, 2, 4, 5)


def test_an_empty_grid_has_gradients() -> None:
    code = (
        "import torch; from diva.kernels.exact import exact\n"
        "x, g = torch.ones(1, 1, 3, 3, requires_grad=True), torch.zeros(1, 0, 2, 2, requires_grad=True)\n"
        "with exact(): torch.nn.functional.grid_sample(x, g, align_corners=False).sum().backward()\n"
        "print(x.grad.abs().sum().item(), tuple(g.grad.shape))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )  # a process without scratch memory yet
    assert done.stdout.split() == ["0.0", "(1,", "0,", "2,", "2)"], done.stderr
