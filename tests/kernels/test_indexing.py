"""Indexed sums, selection, bags and folded windows: the bits of the specification, stock's values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diva.kernels import library, operators
from diva.kernels.exact import exact
from diva.kernels.library import native
from diva.kernels.reference import indexing as reference
from diva.kernels.table import OURS

operators.load()


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before, threads = library.choose(), native.threads()
    yield
    native.use(before)
    native.set_threads(threads)


def numbers(*shape: int, dtype: Any = np.float32, seed: int = 0, special: bool = False) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    if special and x.size:
        for k, value in enumerate((np.inf, -np.inf, np.nan, -0.0, 1e-40, -1e-45, 3e38, 0.0)):
            x.reshape(-1)[(7 * k + 3) % x.size] = value
    return x


def places(n: int, n_dest: int, seed: int = 0) -> np.ndarray:
    """n indices into n_dest places, half of them into the first: it is hot."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < 0.5, 0, rng.integers(0, n_dest, n))


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    width = {4: np.int32, 8: np.int64}[a.dtype.itemsize]
    nan = np.isnan(a) & np.isnan(b)
    return a.dtype == b.dtype and a.shape == b.shape and bool(np.all((a.view(width) == b.view(width)) | nan))


def bits(t: Tensor) -> bytes:
    """Its bytes, every NaN the same."""
    return (torch.where(t.isnan(), torch.nan, t) if t.is_floating_point() else t).numpy().tobytes()


def in_every_set(run: Callable[[], Tensor], expected: np.ndarray) -> None:
    for isa in library.available():
        native.use(isa)
        assert same_bits(run().numpy(), expected), isa


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 7, 16, 33, 70])
@pytest.mark.parametrize("n", [0, 1, 300, 1400])
def test_indexed_sums_have_the_bits_of_the_reference(n: int, width: int, dtype: Any) -> None:
    for special in (False, True):
        x, source = (
            numbers(5, width, dtype=dtype, special=special),
            numbers(n, width, dtype=dtype, seed=1, special=special),
        )
        index = places(n, 5)
        for alpha in (1.0, -0.3):
            expected = reference.index_reduce(x, index, source, "sum", alpha)
            t = torch.from_numpy
            in_every_set(lambda: OURS["index_add"](t(x), 0, t(index), t(source), alpha=alpha), expected)  # noqa: B023


@pytest.mark.parametrize("operation", ["sum", "prod", "amax", "amin"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 9), (2, 20)])
def test_scattered_reductions_have_the_bits_of_the_reference(operation: Any, shape: tuple[int, int]) -> None:
    outer, inner = shape
    for n, special in ((1, False), (200, True), (1400 if inner < 20 else 520, False)):
        x, source = numbers(outer, 4, inner), numbers(outer, n, inner, seed=1, special=special)
        if operation == "prod":
            source = np.where(np.isfinite(source) & (source != 0), 1 + source / np.float32(64), source).astype(
                np.float32
            )
        index = (
            np.stack([places(n, 4, seed) for seed in range(outer * inner)], -1)
            .reshape(n, outer, inner)
            .swapaxes(0, 1)
            .copy()
        )
        expected = reference.scatter_reduce(x, index, source, operation)
        run = lambda: OURS["scatter_reduce.two"](*map(torch.from_numpy, (x,)), 1, torch.from_numpy(index), torch.from_numpy(source), operation)  # noqa: B023, E731, E501  # fmt: skip
        in_every_set(run, expected)


def test_one_index_for_a_row_gives_the_bits_of_an_index_for_each_element() -> None:
    index, source, x = (
        torch.from_numpy(places(1000, 7)),
        torch.from_numpy(numbers(1000, 12)),
        torch.from_numpy(numbers(7, 12)),
    )
    spread = index[:, None].expand(1000, 12)
    a, b = (OURS["scatter_add"](x, 0, i, source) for i in (spread, spread.contiguous()))
    assert same_bits(a.numpy(), b.numpy())
    assert same_bits(a.numpy(), OURS["index_add"](x, 0, index, source).numpy())


@pytest.mark.parametrize("by_count", [False, True])
@pytest.mark.parametrize("skip", [-1, 0, 3])
def test_embedding_gradients_have_the_bits_of_the_reference(skip: int, by_count: bool) -> None:
    grad, index = numbers(700, 19, special=True), places(700, 9)
    expected = reference.index_reduce(np.zeros((9, 19), np.float32), index, grad, "sum", by_count=by_count, skip=skip)
    in_every_set(
        lambda: OURS["embedding_dense_backward"](
            torch.from_numpy(grad).view(70, 10, 19), torch.from_numpy(index).view(70, 10), 9, skip, by_count
        ),
        expected,
    )


def test_threads_do_not_change_bits() -> None:
    index = torch.from_numpy(places(5000, 50))
    source, x = torch.from_numpy(numbers(5000, 100)), torch.zeros(50, 100)
    spread = torch.from_numpy(np.stack([places(5000, 50, seed) for seed in range(100)], 1))
    rows = torch.from_numpy(np.round(numbers(40, 3000), 2))
    seen = set()
    for threads in (1, 2, 3, 8):
        native.set_threads(threads)
        results = [
            OURS["index_add"](x, 0, index, source),
            OURS["scatter_add"](x, 0, spread, source),
            OURS["scatter_add"](x.T, 1, spread.T, source.T),
            OURS["_index_put_impl_"](x.clone(), [index], source, False),
            *OURS["topk"](rows, 7),
        ]
        seen.add(b"".join(r.contiguous().numpy().tobytes() for r in results))
    assert len(seen) == 1


def test_the_order_of_a_gpus_threads_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    few, some, many = (torch.from_numpy(places(n, 7)) for n in (90, 1100, 16900))  # a warp, a block, tiles sort them
    x, numbers_ = torch.from_numpy(numbers(7, 3)), torch.from_numpy(numbers(16900, 3, seed=1))
    rows = torch.from_numpy(np.round(numbers(2, 8300), 2))
    bytes_ = torch.from_numpy(rng.integers(0, 99, (1100, 3), dtype=np.uint8))
    spread = torch.from_numpy(rng.integers(0, 7, (300, 3)))
    bags = torch.from_numpy(numbers(7, 40))

    def results() -> list[Tensor]:
        return [
            *(OURS["index_add"](x, 0, index, numbers_[: len(index)]) for index in (few, some, many)),
            OURS["scatter_add"](x, 0, spread, numbers_[:300]),
            *(OURS["_index_put_impl_"](bytes_[:7].clone(), [index], bytes_[: len(index)]) for index in (few, some)),
            *OURS["topk"](rows[:, :2100], 9),
            *OURS["topk"](rows, 2100),
            *(t for t in OURS["_embedding_bag"](bags, some, torch.tensor([0, 3, 700]))[::2]),
        ]

    expected = [bits(t) for t in results()]
    native.use("emulated")
    gpu = library.load("emulated")
    try:
        for order in (1, 2):
            gpu.emulator_order(order)
            assert [bits(t) for t in results()] == expected, order
    finally:
        gpu.emulator_order(0)


def test_index_put_adds_in_order_and_the_last_one_wins() -> None:
    x, values, index = numbers(6, 4), numbers(900, 4, seed=1), places(900, 6)
    expected = reference.index_reduce(x, index, values, "sum")
    put = OURS["_index_put_impl_"]
    in_every_set(
        lambda: put(torch.from_numpy(x.copy()), [torch.from_numpy(index)], torch.from_numpy(values), True), expected
    )
    negative = torch.from_numpy(np.where(np.arange(900) % 2 == 0, index, index - 6))
    in_every_set(lambda: put(torch.from_numpy(x.copy()), [negative], torch.from_numpy(values), True), expected)
    last = x.copy()
    for i, value in zip(index, values, strict=True):
        last[i] = value
    in_every_set(
        lambda: put(torch.from_numpy(x.copy()), [torch.from_numpy(index)], torch.from_numpy(values), False), last
    )


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.int16, torch.bool])
def test_index_put_means_what_stock_means(accumulate: bool, dtype: torch.dtype) -> None:
    base = torch.randint(0, 9, (3, 4, 5, 6)).to(dtype)
    i, j = torch.tensor([2, 0, -1]), torch.tensor([1, 3, -4])
    mask = torch.rand(4, 5) > 0.5
    nothing = torch.zeros(0, dtype=torch.int64)
    keys: list[tuple[Any, ...]] = [
        *((i,), (slice(None), j), (slice(None), i, j), (i, slice(None), j), (i[:, None], j), (slice(None), mask)),
        *((i, None, j), (slice(1, 3), slice(None), slice(0, 5, 2), j), (nothing,), (..., torch.tensor(3))),
        (torch.tensor(1), torch.tensor([0, 2])),
    ]
    layouts = (
        base,
        base.permute(2, 0, 3, 1).contiguous().permute(1, 3, 0, 2),
        base.transpose(1, 2).contiguous().transpose(1, 2),
    )
    calls = [(layout, key, torch.randint(0, 9, layout[key].shape).to(dtype)) for layout in layouts for key in keys]
    ours, stock = ([layout.clone() for layout, _, _ in calls] for _ in range(2))
    for x, (_, key, value) in zip(stock, calls, strict=True):
        _put(x, key, value, accumulate)
    with exact():
        for x, (_, key, value) in zip(ours, calls, strict=True):
            _put(x, key, value, accumulate)
    for a, b in zip(ours, stock, strict=True):
        assert torch.equal(a, b)  # all places differ and the numbers are small integers: no order matters
        assert a.stride() == b.stride()


def _put(x: Tensor, key: tuple[Any, ...], value: Tensor, accumulate: bool) -> None:
    if accumulate:
        # through autograd's formula: index, then index_put of the gradient
        indices = [k for k in key if isinstance(k, Tensor)]
        if len(indices) == len(key):
            x.index_put_(tuple(indices), value, accumulate=True)
    else:
        x[key] = value


def test_gradients_of_indexing_are_stocks() -> None:
    index = torch.tensor([2, 0, 2, 2, 4])
    programs: list[Callable[[Tensor], Tensor]] = [
        lambda x: x[index],
        lambda x: x[:, index],
        lambda x: x[index, index],
        lambda x: x[index, :, index],
        lambda x: x[x.detach() > 0],
        lambda x: x.index_select(1, index),
        lambda x: x.gather(0, index[:, None, None].expand(5, 5, 5) % 3),
        lambda x: x.take(index),
        lambda x: x.unfold(1, 3, 1),
        lambda x: x.unfold(2, 2, 2),
        lambda x: x.sort(1).values,
        lambda x: x.topk(2, 0).values,
        lambda x: x.median(1).values,
        lambda x: x.kthvalue(2, 2).values,
        lambda x: x.index_add(0, index, x * 2, alpha=0.5),
        lambda x: x.scatter_add(0, index[:, None, None].expand(5, 5, 5), x),
        *(
            lambda x, how=how, own=own: x.scatter_reduce(
                0, index[:, None, None].expand(5, 4, 3), x[:, :4, :3], how, include_self=own
            )
            for how in ("sum", "mean", "prod", "amax", "amin")
            for own in (True, False)
        ),
        *(lambda x, how=how: x.index_reduce(1, index, x, how) for how in ("mean", "prod", "amax", "amin")),
        lambda x: x.put(index, x[0, 0] * 2, accumulate=True),
        lambda x: F.fold(F.unfold(x[None], 3, padding=1, stride=2), (5, 5), 3, padding=1, stride=2),
    ]
    for number, program in enumerate(programs):
        x = torch.randn(5, 5, 5, generator=torch.Generator().manual_seed(number), requires_grad=True)
        y = program(x)
        g = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
        (gx,) = torch.autograd.grad(y, x, g)
        with exact():
            ours = program(x)
            (ours_gx,) = torch.autograd.grad(ours, x, g)
        # at most 25 numbers of order 1 are added or multiplied in float32
        torch.testing.assert_close(ours, y, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours_gx, gx, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("largest", [False, True])
def test_selection_takes_equal_values_by_index_and_nan_as_greatest(largest: bool, dtype: Any) -> None:
    for n, k in ((1, 1), (5, 5), (40, 3), (300, 250), (1000, 7), (9, 0)):
        x = np.round(numbers(4, n, dtype=dtype), 1)
        x[:, :: 1 + n // 5] = np.nan
        x[1, 1::3] = -0.0
        x[2] = np.where(np.arange(n) % 2 == 0, 0.0, -0.0)
        expected = reference.order(x, largest)[:, :k]
        for isa in library.available():
            native.use(isa)
            values, indices = OURS["topk"](torch.from_numpy(x), k, 1, largest)
            assert np.array_equal(indices.numpy(), expected)
            assert same_bits(values.numpy(), np.take_along_axis(x, expected, 1))
        if k and not largest:
            value, index = torch.empty(0, dtype=values.dtype), torch.empty(0, dtype=torch.int64)
            OURS["kthvalue.values"](torch.from_numpy(x), k, 1, values=value, indices=index)
            assert np.array_equal(index.numpy(), expected[:, -1])
        ordered = OURS["sort.stable"](torch.from_numpy(x), stable=None, dim=1, descending=largest)[1]
        assert np.array_equal(ordered.numpy(), reference.order(x, largest))


def test_medians_are_stocks_and_the_first_nan_wins() -> None:
    x = torch.from_numpy(numbers(6, 31))
    x[2, 4], x[2, 9], x[3] = torch.nan, torch.nan, torch.nan
    with exact():
        ours, ours_nan = x.median(1), x.nanmedian(1)
        whole = x[:2].median()
    assert torch.equal(ours.values.nan_to_num(7), x.median(1).values.nan_to_num(7))
    assert torch.equal(ours_nan.values.nan_to_num(7), x.nanmedian(1).values.nan_to_num(7))
    assert (int(ours.indices[2]), int(ours.indices[3]), int(ours_nan.indices[3])) == (4, 0, 0)
    assert torch.equal(whole, x[:2].median())


def test_distinct_values_and_counts_are_stocks() -> None:
    x = torch.from_numpy(np.round(numbers(50, 4), 1)) + 0.0
    stock = torch.unique(x, return_inverse=True, return_counts=True)
    with exact():
        ours = torch.unique(x, return_inverse=True, return_counts=True)
        assert torch.equal(
            torch.bincount(torch.tensor([1, 3, 1]), torch.tensor([0.5, 1.0, 2.0])), torch.tensor([0, 2.5, 0, 1.0])
        )
        assert torch.bincount(torch.tensor([1]), torch.tensor([1]), minlength=3).dtype == torch.float64
    assert all(torch.equal(a, b) for a, b in zip(ours, stock, strict=True))


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
def test_bags_have_the_bits_of_the_reference(mode: Any, weighted: bool) -> None:
    if weighted and mode == "mean":
        return
    weight, index, offsets = numbers(9, 21), places(900, 9), np.array([0, 0, 700, 800])
    samples = numbers(900, seed=3) if weighted else None
    for padding in (-1, 0):
        expected = reference.embedding_bag(weight, index, offsets, mode, samples, padding)
        in_every_set(
            lambda: OURS["_embedding_bag"](
                torch.from_numpy(weight), torch.from_numpy(index), torch.from_numpy(offsets), False, 0 if mode == "sum" else 1,
                False, None if samples is None else torch.from_numpy(samples), False, padding,  # noqa: B023
            )[0],
            expected,
        )  # fmt: skip


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 1}, {"include_last_offset": True}])
def test_bags_and_their_gradients_are_stocks(mode: str, options: dict[str, Any]) -> None:
    module = nn.EmbeddingBag(6, 5, mode=mode, **options)
    tokens, offsets = (
        torch.tensor([1, 2, 1, 0, 3, 3, 5]),
        torch.tensor([0, 2, 2, 5, 7] if "include_last_offset" in options else [0, 2, 2, 5]),
    )
    results = []
    for scope in (False, True):
        module.zero_grad()
        if scope:
            with exact():
                y = module(tokens, offsets)
                (y * y).sum().backward()
        else:
            y = module(tokens, offsets)
            (y * y).sum().backward()
        results.append((y.detach(), module.weight.grad))
    torch.testing.assert_close(results[0], results[1])  # at most 3 numbers of order 1 are added


def test_gradients_of_bags_are_scaled_by_each_rows_own_frequency() -> None:
    weight, tokens = torch.zeros(6, 2, requires_grad=True), torch.tensor([1, 2, 1, 0, 3, 3, 5])
    with exact():  # stock divides by the counts of other rows here
        F.embedding_bag(
            tokens, weight, torch.tensor([0, 2, 2, 5]), scale_grad_by_freq=True, mode="sum"
        ).sum().backward()
    assert weight.grad is not None
    assert weight.grad[:, 0].tolist() == [1, 1, 1, 1, 0, 1]


def test_renormed_rows_are_stocks() -> None:
    weight, tokens = torch.from_numpy(numbers(7, 5)), torch.tensor([[1, 3], [3, 5]])
    stock = torch.embedding_renorm_(weight.clone(), tokens, 1.0, 2.0)
    with exact():
        torch.testing.assert_close(torch.embedding_renorm_(weight.clone(), tokens, 1.0, 2.0), stock)


@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
def test_folded_windows_have_the_bits_of_the_reference(stride: tuple[int, int]) -> None:
    size, window, dilation, padding = (9, 11), (3, 2), (1, 2), (1, 0)
    rows = [(size[k] + 2 * padding[k] - dilation[k] * (window[k] - 1) - 1) // stride[k] + 1 for k in (0, 1)]
    x = numbers(2 * 3, 6, *rows, special=True)
    expected = reference.fold_windows(x, *size, window, dilation, padding, stride).reshape(2, 3, *size)
    columns = torch.from_numpy(x).reshape(2, 18, -1)
    in_every_set(lambda: OURS["col2im"](columns, size, window, dilation, padding, stride), expected)


@pytest.mark.parametrize("isa", library.available())
def test_bad_indices_and_shapes_are_refused(isa: str) -> None:
    native.use(isa)
    x, i = torch.zeros(3, 4), torch.tensor([0, 3])
    for call in (
        lambda: OURS["index_add"](x, 0, i, torch.zeros(2, 4)),
        lambda: OURS["scatter_add"](x, 0, i[:, None], torch.zeros(2, 1)),
        lambda: OURS["_index_put_impl_"](x, [i], torch.zeros(2, 4), True),
        lambda: OURS["embedding_dense_backward"](torch.zeros(2, 4), i, 3, -1, False),
        lambda: OURS["_embedding_bag"](x, i, torch.tensor([0])),
        lambda: OURS["index_add"](x, 2, i, torch.zeros(2, 4)),
    ):
        with pytest.raises(IndexError):
            call()
    for call in (
        lambda: OURS["index_add"](x, 0, i, torch.zeros(3, 4)),
        lambda: OURS["index_add"](x, 0, i, torch.zeros(2, 4, dtype=torch.float64)),
        lambda: OURS["scatter_add"](x, 0, i[:, None], torch.zeros(1, 1)),
        lambda: OURS["scatter_reduce.two"](x, 0, i[:, None], torch.zeros(2, 1), "median"),
        lambda: OURS["_index_put_impl_"](x, [torch.tensor([0])], torch.zeros(1, 4, dtype=torch.float64)),
        lambda: OURS["topk"](x, 5),
        lambda: OURS["col2im"](torch.zeros(1, 9, 5), (4, 4), (3, 3), (1, 1), (0, 0), (1, 1)),
    ):
        with pytest.raises(RuntimeError):
            call()


def test_nothing_to_add_changes_nothing() -> None:
    x, none = torch.full((3, 4), -0.0), torch.zeros(0, dtype=torch.int64)
    for result in (
        OURS["index_add"](x, 0, none, torch.zeros(0, 4)),
        OURS["scatter_add"](x, 0, none.reshape(0, 4), torch.zeros(0, 4)),
        OURS["_index_put_impl_"](x.clone(), [none], torch.zeros(0, 4), True),
    ):
        assert same_bits(result.numpy(), x.numpy())
    assert OURS["embedding_dense_backward"](torch.zeros(0, 4), none, 0, -1, False).shape == (0, 4)
