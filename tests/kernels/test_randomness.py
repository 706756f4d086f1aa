"""Random numbers: the same bits from the reference, each instruction set and any number of threads; sound distributions."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from diva.errors import KernelError
from diva.kernels import library
from diva.kernels.exact import exact
from diva.kernels.library import native
from diva.kernels.operators import randomness as operators
from diva.kernels.reference import randomness as reference

NONCE = 0x2B7E151628AED2A6
SIZES = (0, 1, 3, 4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 261)
TYPES = {torch.float32: np.float32, torch.float64: np.float64}


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    native.use()
    native.set_threads(torch.get_num_threads())


def bits(x: torch.Tensor | np.ndarray) -> bytes:
    """The bytes, in row-major order."""
    return (x.contiguous().numpy() if isinstance(x, torch.Tensor) else np.ascontiguousarray(x)).tobytes()


def made(function: str, n: int, dtype: torch.dtype, *arguments: float) -> torch.Tensor:
    """What the kernel of the library in use makes."""
    out = torch.empty(n, dtype=dtype)
    of = native[dtype] if dtype in TYPES else native
    assert getattr(of, function)(out.data_ptr(), n, NONCE, *arguments) == 0
    return out


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter: tuple[int], key: tuple[int], words: str) -> None:
    found = reference.philox(np.array(counter, np.uint32), np.array(key, np.uint32))
    assert " ".join(f"{int(w):08x}" for w in found) == words


@pytest.mark.parametrize("isa", library.available())
def test_philox_of_every_instruction_set_is_the_reference(isa: str) -> None:
    native.use(isa)
    rng = np.random.default_rng(3)
    for counter in [
        *rng.integers(0, 2**32, (20, 4), np.uint32),
        np.zeros(4, np.uint32),
        np.full(4, 2**32 - 1, np.uint32),
    ]:
        counter[3] = 0
        key, found = rng.integers(0, 2**32, 2, np.uint32), np.zeros(4, np.uint32)
        assert native.philox(counter.ctypes.data, key.ctypes.data, found.ctypes.data) == 0
        assert found.tolist() == reference.philox(counter, key).tolist()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("uniform", (0.0, 1.0)), ("uniform", (-0.1, 0.7)), ("normal", (0.0, 1.0)), ("normal", (3.0, 0.02))],
)
def test_every_instruction_set_gives_the_reference_s_numbers(
    name: str, arguments: tuple[float, float], dtype: torch.dtype
) -> None:
    expected = getattr(reference, name)(NONCE, max(SIZES), *arguments, TYPES[dtype])
    for isa in library.available():
        native.use(isa)
        for n in SIZES:
            assert bits(made(name, n, dtype, *arguments)) == bits(expected[:n]), (isa, n)


@pytest.mark.parametrize("p", [0.0, 2.0**-34, 2.0**-33, 1e-3, 0.5, 0.9, 1 - 2.0**-33, 1.0])
def test_bernoulli_is_a_threshold_on_the_word(p: float) -> None:
    expected = reference.bernoulli(NONCE, 261, p)
    assert p not in (0.0, 1.0) or expected.sum() == 261 * p
    for isa in library.available():
        native.use(isa)
        for n in SIZES:
            for dtype in TYPES:
                assert made("bernoulli", n, dtype, p).numpy().astype(bool).tolist() == expected[:n].tolist()
            assert made("bernoulli_u8", n, torch.uint8, p).numpy().astype(bool).tolist() == expected[:n].tolist()


def test_integers_are_the_high_half_of_the_product() -> None:
    words = [int(w) for w in reference.word64(NONCE, 100)]
    for isa in library.available():
        native.use(isa)
        for low, size in [(0, 10), (-5, 11), (0, 2**63), (-(2**63), 2**64), (7, 1)]:
            found = made("integers", 100, torch.int64, low, size % 2**64).tolist()
            assert found == [low + (w * size >> 64) for w in words]


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_threads_and_instruction_sets_change_no_bit(threads: int) -> None:
    n = 300_001
    for name, dtype, arguments in [
        ("uniform", torch.float32, (0.0, 1.0)),
        ("normal", torch.float32, (0.0, 1.0)),
        ("normal", torch.float64, (0.0, 1.0)),
        ("bernoulli", torch.float32, (0.1,)),
    ]:
        native.use("scalar")
        native.set_threads(1)
        size = n if dtype == torch.float32 else n // 10
        expected = bits(made(name, size, dtype, *arguments))
        for isa in library.available():
            native.use(isa)
            native.set_threads(threads)
            assert bits(made(name, size, dtype, *arguments)) == expected, (name, isa)


@pytest.mark.parametrize("dtype", TYPES)
def test_normal_has_the_normal_distribution(dtype: torch.dtype) -> None:
    x = np.sort(made("normal", 100_000, dtype, 0.0, 1.0).double().numpy())
    expected = torch.special.ndtr(torch.from_numpy(x)).numpy()
    # Kolmogorov-Smirnov: 1.95 / sqrt(n) is exceeded with probability 0.001
    assert np.abs(expected - (np.arange(x.size) + 0.5) / x.size).max() < 1.95 / np.sqrt(x.size)
    assert abs(x.mean()) < 4 / np.sqrt(x.size) and abs(x.var() - 1) < 4 * np.sqrt(2 / x.size)


def test_quantile_is_accurate() -> None:
    p = np.concatenate([np.linspace(1e-7, 0.5, 400), 10.0 ** np.linspace(-16, -0.31, 60)])
    exact_z = np.array([-statistics.NormalDist().inv_cdf(v) for v in p])
    assert np.abs(reference.quantile(p, 0.5 - p) - exact_z).max() < 4e-15
    p32 = p[p > 2.0**-33].astype(np.float32)
    exact_z = np.array([-statistics.NormalDist().inv_cdf(float(v)) for v in p32])
    # PPND7 is good to 1e-7 of a value that does not exceed 7; binary32 adds a few roundings
    assert np.abs(reference.quantile(p32, np.float32(0.5) - p32) - exact_z).max() < 2e-6


@pytest.mark.parametrize("dtype", TYPES)
def test_uniform_is_uniform_and_open_at_both_ends(dtype: torch.dtype) -> None:
    x = np.sort(made("uniform", 100_000, dtype, 0.0, 1.0).double().numpy())
    assert x[0] > 0 and x[-1] < 1
    assert np.abs(x - (np.arange(x.size) + 0.5) / x.size).max() < 1.95 / np.sqrt(x.size)


def test_bernoulli_has_its_probability() -> None:
    assert abs(made("bernoulli", 100_000, torch.float32, 0.3).mean().item() - 0.3) < 4 * np.sqrt(0.21 / 100_000)


def test_manual_seed_repeats_and_generators_are_honoured() -> None:
    with exact():
        torch.manual_seed(5)
        first, second = torch.randn(50), torch.randn(50)
        torch.manual_seed(5)
        assert torch.equal(torch.randn(50), first) and torch.equal(torch.randn(50), second)
        assert not torch.equal(first, second)
        drawn = [torch.rand(50, generator=torch.Generator().manual_seed(7)) for _ in range(2)]
        assert torch.equal(*drawn)
        torch.manual_seed(5)
        with torch.random.fork_rng():
            torch.randn(3)
        assert torch.equal(torch.randn(50), first)


def test_random_calls_go_through_our_kernels() -> None:
    with exact():
        torch.manual_seed(1)
        found = [torch.rand(9), torch.randn(9), torch.randint(3, 70, (9,)), torch.full((9,), 0.4).bernoulli()]
    torch.manual_seed(1)
    key = [operators.nonce() for _ in range(4)]
    assert bits(found[0]) == bits(reference.uniform(key[0], 9, 0, 1))
    assert bits(found[1]) == bits(reference.normal(key[1], 9, 0, 1))
    assert found[2].tolist() == [3 + (int(w) * 67 >> 64) for w in reference.word64(key[2], 9)]
    assert found[3].bool().tolist() == reference.bernoulli(key[3], 9, float(np.float32(0.4))).tolist()


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_dropout_drops_and_scales(p: float) -> None:
    x = torch.randn(1000, requires_grad=True)
    with exact():
        y = nn.functional.dropout(x, p, training=True)
        y.sum().backward()
    kept = y != 0
    assert p == 0 or abs(kept.float().mean().item() - (1 - p)) < 0.06
    scale = 1.0 if p == 1 else float(np.float32(1) / np.float32(1 - p))
    assert torch.equal(y[kept], x[kept] * scale)
    assert x.grad is not None and torch.equal(x.grad, torch.where(kept, scale, 0.0))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointed_dropout_gives_the_same_gradients(use_reentrant: bool) -> None:
    def gradient(checkpointed: bool) -> torch.Tensor:
        torch.manual_seed(3)
        layer = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 4), nn.Dropout(0.3))
        x = torch.randn(6, 8, requires_grad=True)
        y = checkpoint(layer, x, use_reentrant=use_reentrant) if checkpointed else layer(x)
        y.square().sum().backward()
        assert x.grad is not None
        return x.grad

    with exact():
        assert torch.equal(gradient(True), gradient(False))


@pytest.mark.parametrize(
    "fill", [torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.bernoulli_, torch.Tensor.random_]
)
def test_numbers_follow_the_logical_order_whatever_the_strides(fill: object) -> None:
    assert callable(fill)
    with exact():
        torch.manual_seed(2)
        expected = fill(torch.empty(2, 3, 4, 5))
        for target in [
            torch.empty(2, 3, 4, 5).to(memory_format=torch.channels_last),
            torch.empty(5, 4, 3, 2).permute(3, 2, 1, 0),
            torch.empty(2, 3, 4, 10)[..., ::2],
        ]:
            torch.manual_seed(2)
            assert torch.equal(fill(target), expected)


def test_initialisers_run_on_our_numbers() -> None:
    with exact():
        for init in (
            nn.init.kaiming_uniform_,
            nn.init.kaiming_normal_,
            nn.init.xavier_uniform_,
            nn.init.xavier_normal_,
        ):
            torch.manual_seed(4)
            weight = init(torch.empty(20, 30))
            assert weight.std() > 0 and weight.isfinite().all()
        torch.manual_seed(4)
        nonce = operators.nonce()
        torch.manual_seed(4)
        weight = nn.init.kaiming_uniform_(torch.empty(20, 24), nonlinearity="relu")
        bound = 3**0.5 * (2**0.5 / 24**0.5)
        assert bits(weight) == bits(reference.uniform(nonce, 480, -bound, bound).reshape(20, 24))


def test_bad_parameters_raise() -> None:
    x = torch.empty(3)
    with exact():
        for call in (
            lambda: x.uniform_(2, 1),
            lambda: x.normal_(0, -1),
            lambda: x.bernoulli_(1.5),
            lambda: torch.bernoulli(torch.tensor([0.5, -0.1])),
            lambda: x.long().random_(5, 5),
            lambda: torch.empty(3, dtype=torch.uint8).random_(0, 300),
        ):
            with pytest.raises(RuntimeError):
                call()
        with pytest.raises(KernelError):
            torch.randn(3, dtype=torch.bfloat16)


def test_other_types_get_bernoulli_and_integers() -> None:
    with exact():
        for dtype in (torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64, torch.float64, torch.bfloat16):
            torch.manual_seed(1)
            drawn = torch.empty(40, dtype=dtype).bernoulli_(0.5)
            torch.manual_seed(1)
            assert torch.equal(drawn.float(), torch.empty(40).bernoulli_(0.5))
        for dtype in (torch.bool, torch.uint8, torch.int8, torch.int32, torch.float32):
            assert torch.empty(40, dtype=dtype).random_().double().std() > 0
        drawn = torch.randint(-3, 4, (500,))
    assert drawn.unique().tolist() == list(range(-3, 4))
