"""Distributions, permutations and draws: the reference's bits everywhere, and the right frequencies."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from diva.kernels import library
from diva.kernels.exact import exact
from diva.kernels.library import native
from diva.kernels.operators import randomness_sampling as operators
from diva.kernels.reference import randomness as reference

NONCE = 0x13198A2E03707344
SIZES = (0, 1, 8, 17, 31, 33, 65, 130)
TYPES = {torch.float32: np.float32, torch.float64: np.float64}


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    native.use()
    native.set_threads(torch.get_num_threads())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("exponential", (1.0,)),
        ("exponential", (0.3,)),
        ("cauchy", (0.1, 2.0)),
        ("truncated_normal", (0.0, 1.0, -2.0, 2.0, 0.02275, 0.9545)),
        ("truncated_normal", (0.5, -0.02, -3.0, 3.0, 0.0, 1.0)),
    ],
)
def test_every_instruction_set_gives_the_reference_s_numbers(
    name: str, arguments: tuple[float, ...], dtype: torch.dtype
) -> None:
    expected = getattr(reference, name)(NONCE, max(SIZES), *arguments, dtype=TYPES[dtype])
    for isa in library.available():
        native.use(isa)
        for n in SIZES:
            out = torch.empty(n, dtype=dtype)
            assert getattr(native[dtype], name)(out.data_ptr(), n, NONCE, *arguments) == 0
            assert out.numpy().tobytes() == expected[:n].tobytes(), (isa, n)


@pytest.mark.parametrize("p", [1e-18, 0.01, 0.5, 0.999])
def test_geometric_gives_the_reference_s_numbers(p: float) -> None:
    expected = reference.geometric(NONCE, 130, operators.log_failure(p))
    assert expected.min() >= 1
    for isa in library.available():
        native.use(isa)
        out = torch.empty(130, dtype=torch.float64)
        native.geometric(out.data_ptr(), 130, NONCE, operators.log_failure(p))
        assert out.numpy().tobytes() == expected.tobytes(), isa


@pytest.mark.parametrize("dtype", TYPES)
def test_log_normal_is_the_exponential_of_normal_and_the_same_everywhere(dtype: torch.dtype) -> None:
    found = set()
    for isa in library.available():
        native.use(isa)
        out = torch.empty(1000, dtype=dtype)
        native[dtype].log_normal(out.data_ptr(), 1000, NONCE, 0.5, 3.0)
        found.add(out.numpy().tobytes())
    assert len(found) == 1
    exponents = torch.empty(1000, dtype=dtype)
    native[dtype].normal(exponents.data_ptr(), 1000, NONCE, 0.5, 3.0)
    # one rounding to binary32, or the exponential's 1 ulp in binary64
    assert torch.allclose(
        out, exponents.double().exp().to(dtype), rtol=2.0**-23 if dtype == torch.float32 else 1e-15, atol=0
    )


@pytest.mark.parametrize("n", [0, 1, 2, 7, 64, 65, 1000])
def test_permutation_sorts_by_word_and_index(n: int) -> None:
    expected = reference.permutation(NONCE, n).tolist()
    for isa in library.available():
        native.use(isa)
        out = torch.empty(n, dtype=torch.int64)
        assert native.permutation(out.data_ptr(), n, NONCE) == 0
        assert out.tolist() == expected


@pytest.mark.parametrize("replacement", [False, True])
def test_multinomial_gives_the_reference_s_draws(replacement: bool) -> None:
    weights = np.random.default_rng(0).random((5, 30)) ** 4
    weights[:, ::3] = 0
    weights[2, 5] = 1e-300
    expected = reference.multinomial(NONCE, weights, 20, replacement)
    for isa in library.available():
        for threads in (1, 3):
            native.use(isa)
            native.set_threads(threads)
            out = torch.empty(5, 20, dtype=torch.int64)
            assert native.multinomial(out.data_ptr(), weights.ctypes.data, 5, 30, 20, NONCE, replacement) == 0
            assert out.tolist() == expected.tolist(), isa
    assert not np.isin(expected, np.arange(0, 30, 3)).any()


def test_long_permutations_and_races_are_sorted_on_the_gpu_in_any_order_of_threads() -> None:
    emulated = library.load("emulated")
    weights = np.random.default_rng(1).random((2, 2100))
    native.use()
    expected = torch.empty(2300, dtype=torch.int64), torch.empty(2, 9, dtype=torch.int64)
    native.permutation(expected[0].data_ptr(), 2300, NONCE)
    native.multinomial(expected[1].data_ptr(), weights.ctypes.data, 2, 2100, 9, NONCE, False)
    order_found, drawn = torch.empty_like(expected[0]), torch.empty_like(expected[1])
    try:
        emulated.emulator_order(3)
        assert emulated.permutation(order_found.data_ptr(), 2300, NONCE) == 0
        assert emulated.multinomial(drawn.data_ptr(), weights.ctypes.data, 2, 2100, 9, NONCE, False) == 0
        assert torch.equal(order_found, expected[0]) and torch.equal(drawn, expected[1])
    finally:
        emulated.emulator_order(0)


def test_the_gpu_reads_a_nonce_where_a_number_stands_for_it_and_finds_bad_arguments() -> None:
    emulated = library.load("emulated")
    nonces, code = torch.tensor([1, NONCE, 2]), 2**62
    expected, found = torch.empty(70), torch.empty(70)
    emulated.uniform_f32(expected.data_ptr(), 70, NONCE, 0.0, 1.0)
    emulated.cuda_nonces(code, 3, nonces.data_ptr())
    try:
        emulated.uniform_f32(found.data_ptr(), 70, code + 1, 0.0, 1.0)
        assert torch.equal(found, expected)
        emulated.uniform_f32(found.data_ptr(), 70, NONCE, 0.0, 1.0)
        assert torch.equal(found, expected)
    finally:
        emulated.cuda_nonces(0, 0, None)
    bad = torch.tensor([0.5, math.nan, 1.5], dtype=torch.float64)
    drawn = torch.empty(3, dtype=torch.int64)
    assert emulated.multinomial(drawn.data_ptr(), bad.data_ptr(), 1, 3, 1, NONCE, True) == 2
    assert emulated.bernoulli_each_f64(drawn.data_ptr(), 3, NONCE, bad.data_ptr()) == 2
    assert emulated.normal_each_f64(found.data_ptr(), 3, NONCE, bad.data_ptr(), (-bad).data_ptr()) == 2
    assert emulated.multinomial(drawn.data_ptr(), bad.abs().nan_to_num().data_ptr(), 1, 3, 1, NONCE, True) == 0


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ["exponential", "cauchy", "log_normal"])
def test_distributions_are_the_named_ones(name: str, dtype: torch.dtype) -> None:
    n = 100_000
    cdf: dict[str, Callable[[Tensor], Tensor]] = {
        "exponential": lambda x: 1 - torch.exp(-0.5 * x),
        "cauchy": lambda x: torch.atan((x - 1) / 2) / math.pi + 0.5,
        "log_normal": lambda x: torch.special.ndtr((torch.log(x) - 1) / 2),
    }
    arguments = (0.5,) if name == "exponential" else (1.0, 2.0)
    out = torch.empty(n, dtype=dtype)
    getattr(native[dtype], name)(out.data_ptr(), n, NONCE, *arguments)
    x = out.double().sort().values
    # Kolmogorov-Smirnov: 1.95 / sqrt(n) is exceeded with probability 0.001
    assert (cdf[name](x) - (torch.arange(n) + 0.5) / n).abs().max() < 1.95 / math.sqrt(n)


def test_geometric_has_its_mean_and_integer_types_take_it() -> None:
    with exact():
        torch.manual_seed(0)
        drawn = torch.empty(50_000, dtype=torch.int64).geometric_(0.2)
    assert abs(drawn.double().mean().item() - 5) < 4 * math.sqrt(20 / 50_000) and drawn.min() == 1


@pytest.mark.parametrize(
    ("low", "high"), [(-2.0, 2.0), (1.0, 3.0), (-6.0, -5.0), (7.0, 7.5), (-0.1, 200.0), (1.0, 1.0)]
)
def test_trunc_normal_is_normal_between_its_bounds(low: float, high: float) -> None:
    n = 50_000
    torch.manual_seed(0)
    x = operators.trunc_normal_(torch.empty(n, dtype=torch.float64), 0.0, 1.0, low, high).sort().values
    assert low <= x[0] and x[-1] <= high
    if low < high:
        start, end = (
            torch.special.log_ndtr(torch.tensor(v, dtype=torch.float64)).exp()
            for v in (min(low, -high), max(-low, high))
        )
        mirrored = low > 0
        start, end = torch.special.ndtr(torch.tensor([-high, -low] if mirrored else [low, high], dtype=torch.float64))
        probability = (torch.special.ndtr(-x.flip(0) if mirrored else x) - start) / (end - start)
        assert (probability - (torch.arange(n) + 0.5) / n).abs().max() < 1.95 / math.sqrt(n)


def test_trunc_normal_replaces_that_of_torch_and_follows_the_seed() -> None:
    torch.manual_seed(3)
    first = operators.trunc_normal_(nn.Parameter(torch.empty(4, 6)), std=0.02)
    torch.manual_seed(3)
    assert torch.equal(operators.trunc_normal_(torch.empty(6, 4).t(), std=0.02), first)
    g = torch.Generator().manual_seed(1)
    assert not torch.equal(
        operators.trunc_normal_(torch.empty(9), generator=g), operators.trunc_normal_(torch.empty(9), generator=g)
    )
    assert ("trunc_normal_", operators.trunc_normal_) in [(name, made) for _, name, made in operators.PINS]
    assert all(hasattr(owner, name) for owner, name, _ in operators.PINS)


def test_normal_cdf_is_the_normal_distribution_function() -> None:
    normal = statistics.NormalDist()
    for x in (-37.5, -8.0, -4.5, -4.0, -1.0, -1e-9, 0.0, 0.5, 3.9, 4.1, 8.0, 100.0, math.inf):
        # erfc loses relative digits of its own in the far tail
        assert operators.normal_cdf(x) == pytest.approx(0.5 * math.erfc(-x / math.sqrt(2)), rel=3e-13)
        assert operators.normal_cdf(x) == pytest.approx(normal.cdf(x), abs=1e-15)
    assert operators.normal_cdf(-60.0) == 0 and operators.normal_cdf(-math.inf) == 0


def test_normal_takes_tensors_for_mean_and_deviation() -> None:
    with exact():
        torch.manual_seed(0)
        z = torch.empty(3, 4).normal_()
        mean, std = torch.arange(4.0), torch.tensor([[0.5], [2.0], [0.0]])
        torch.manual_seed(0)
        assert torch.allclose(torch.normal(mean, std), z * std + mean, rtol=1e-6)
        torch.manual_seed(0)
        assert torch.allclose(torch.normal(mean.expand(3, 4), 2.0), z * 2 + mean, rtol=1e-6)
        torch.manual_seed(0)
        assert torch.allclose(torch.normal(1.0, std.expand(3, 4)), z * std + 1, rtol=1e-6)
        with pytest.raises(RuntimeError, match="std"):
            torch.normal(mean, -torch.ones(4))


def test_data_loader_shuffles_by_its_generator() -> None:
    data = TensorDataset(torch.arange(40))

    def order(seed: int) -> list[int]:
        loader = DataLoader(data, batch_size=7, shuffle=True, generator=torch.Generator().manual_seed(seed))
        return [int(v) for (batch,) in loader for v in batch]

    with exact():
        assert order(1) == order(1) != order(2)
        assert sorted(order(1)) == list(range(40))
        sampler = WeightedRandomSampler([0.0, 1.0, 3.0], 400, generator=torch.Generator().manual_seed(0))
        drawn = list(sampler)
    assert drawn.count(0) == 0 and 240 < drawn.count(2) < 360


def test_multinomial_draws_by_weight_and_refuses_bad_weights() -> None:
    weights = torch.tensor([0.1, 0.2, 0.0, 0.7])
    with exact():
        torch.manual_seed(0)
        for replacement in (True, False):
            drawn = torch.multinomial(weights.expand(20_000, 4), 1, replacement)[:, 0]
            # three categories, five deviations of sqrt(n p (1 - p))
            assert ((torch.bincount(drawn, minlength=4) / 20_000 - weights).abs() < 5 * 0.5 / math.sqrt(20_000)).all()
            assert (drawn != 2).all()
        for bad, count, replacement in [
            (torch.tensor([1.0, -1.0]), 1, True),
            (torch.tensor([1.0, math.nan]), 1, True),
            (torch.tensor([1.0, math.inf]), 1, False),
            (torch.zeros(3), 1, True),
            (weights, 4, False),
            (weights, 5, False),
            (weights, 0, True),
            (torch.ones(2, 2, 2), 1, True),
        ]:
            with pytest.raises(RuntimeError):
                torch.multinomial(bad, count, replacement)


def test_randomized_relu_keeps_its_slopes_for_backward() -> None:
    x = torch.linspace(-2, 2, 9, requires_grad=True)
    with exact():
        y = nn.functional.rrelu(x, 0.1, 0.3, training=True)
        y.sum().backward()
        still = nn.functional.rrelu(x.detach(), 0.1, 0.3, training=False)
    assert x.grad is not None
    assert (x.grad[:5] >= 0.1).all() and (x.grad[:5] <= 0.3).all() and (x.grad[5:] == 1).all()
    assert torch.equal(y.detach(), x.detach() * x.grad)
    assert torch.allclose(still, torch.where(x.detach() > 0, x.detach(), x.detach() * 0.2))
