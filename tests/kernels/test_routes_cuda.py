"""The routes that PyTorch takes on a GPU only, run on the CPU: they give the bits of the CPU's route."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from diva.errors import KernelError, UsageError
from diva.kernels import operators, status, table
from diva.kernels.backends import choose_backend
from diva.kernels.exact import exact
from diva.kernels.operators import elementwise_pass, indexing_order, randomness
from diva.kernels.operators.elementwise_pass import function

operators.load()
SPECIAL = [0.0, -0.0, 1.5, -1.5, math.inf, -math.inf, math.nan, -math.nan, 1e-45, -1e-45, 3.0, 1.5, 0.0, -3.0, math.nan]


def same(one: Any, other: Any) -> bool:
    """Equal bits; any NaN is any other."""
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if one is None or other is None:
        return one is other
    whole = {torch.float32: torch.int32, torch.float64: torch.int64}.get(one.dtype)
    if whole is None:
        return torch.equal(one, other)
    equal = one.contiguous().view(whole) == other.contiguous().view(whole)
    return one.shape == other.shape and one.dtype == other.dtype and bool((equal | (one.isnan() & other.isnan())).all())


# Recurrent layers


class OnCuda:
    """PyTorch's functions of recurrent layers replaced, as on a GPU, by ours."""

    def __enter__(self) -> None:
        self.library = torch.library.Library("aten", "IMPL")
        for name in table.COMPOSED_ON_CUDA:
            self.library.impl(name, table.COMPOSED_ON_CUDA[name], "AutogradCPU", allow_override=True)

    def __exit__(self, *_: Any) -> None:
        self.library._destroy()


def layer_results(kind: str, settings: dict[str, Any], packed: bool) -> list[Tensor]:
    torch.manual_seed(3)
    module = getattr(nn, kind)(5, 6, **settings)
    x = torch.randn(7, 4, 5, requires_grad=True)
    given: Any = pack_padded_sequence(x, torch.tensor([7, 5, 5, 2])) if packed else x
    y, last = module(given)
    y = pad_packed_sequence(y)[0] if packed else y
    hidden = last if isinstance(last, tuple) else (last,)
    ((y * y).sum() + sum((part * 0.3).sum() for part in hidden)).backward()
    return [y.detach(), *(part.detach() for part in hidden), x.grad, *(p.grad for p in module.parameters())]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_take_the_cpus_route(kind: str) -> None:
    ways: list[dict[str, Any]] = [
        {"num_layers": 2, "dropout": 0.5, "bidirectional": True},
        {"batch_first": True, "bias": False},
    ]
    ways += [{"proj_size": 3}] if kind == "LSTM" else [{"nonlinearity": "relu"}] if kind == "RNN" else []
    with exact():
        for settings in ways:
            for packed in (False, True):
                if packed and "batch_first" in settings:
                    continue
                expected = layer_results(kind, settings, packed)
                with OnCuda():
                    assert same(layer_results(kind, settings, packed), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
def test_recurrent_cells_take_the_cpus_route(kind: str) -> None:
    def results() -> list[Tensor]:
        torch.manual_seed(5)
        module = getattr(nn, kind)(5, 6)
        x = torch.randn(3, 4, 5, requires_grad=True)
        hidden, seen = None, []
        for step in x:
            hidden = module(step, hidden)
            seen += list(hidden) if isinstance(hidden, tuple) else [hidden]
        torch.stack([(part * part).sum() for part in seen]).sum().backward()
        return [*seen, x.grad, *(p.grad for p in module.parameters())]

    with exact():
        expected = results()
        with OnCuda():
            assert same(results(), expected)


def test_rms_norm_is_composed_as_on_the_cpu() -> None:
    x = torch.randn(3, 8)
    with exact():
        with OnCuda():
            y = F.rms_norm(x, (8,), torch.ones(8))
        assert same(y, F.rms_norm(x, (8,), torch.ones(8)))


# Dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dropout_of_a_gpu_has_the_bits_of_the_cpus(dtype: torch.dtype) -> None:
    x = torch.tensor(SPECIAL * 5, dtype=dtype).view(5, 15).t().requires_grad_()
    g = torch.randn(15, 5, dtype=dtype)
    with exact():
        for p in (0.1, 0.3, 0.5, 0.7):
            torch.manual_seed(1)
            expected = F.dropout(x, p)
            torch.manual_seed(1)
            y, mask = torch.native_dropout(x, p, True)
            assert mask.dtype == torch.bool and same(y, expected)
            assert same(torch.autograd.grad(y, x, g), torch.autograd.grad(expected, x, g))


# Lists


def test_lists_are_served_one_by_one() -> None:
    a, b = [torch.randn(3), torch.randn(2, 2)], [torch.randn(3), torch.randn(2, 2)]
    with exact():
        add = table.composition("aten::_foreach_add.List")
        assert same(add(a, b, alpha=0.3), [torch.add(x, y, alpha=0.3) for x, y in zip(a, b, strict=True)])
        assert same(table.composition("aten::_foreach_norm.Scalar")(a, 2), [torch.linalg.vector_norm(x) for x in a])
        copies = [x.clone() for x in a]
        table.composition("aten::_foreach_mul_.Tensor")(copies, torch.tensor(0.7))
        assert same(copies, [x * 0.7 for x in a])


def test_optimizers_take_the_same_form_on_every_device() -> None:
    from torch.optim import rmsprop  # type: ignore[attr-defined]

    with exact():
        assert rmsprop._default_to_fused_or_foreach([torch.ones(1)], False, True) == (False, False)


# Numbers that lie on a GPU stay there


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_number_in_a_tensor_gives_the_bits_of_a_number(dtype: torch.dtype) -> None:
    x = torch.cat([torch.tensor(SPECIAL, dtype=dtype), torch.randn(50, dtype=dtype)])
    with exact():
        for value in (0.1, -3.0, math.inf):
            t = torch.tensor(value, dtype=dtype)
            number = t.item()
            pairs = {"ADD": x + number, "SUB": x - number, "MUL": x * number, "DIV": x / number}
            for name, expected in pairs.items():
                assert same(elementwise_pass.binary(function(name), x, t), expected)
            assert same(elementwise_pass.binary(function("SUB"), t, x), number - x)
            assert same(elementwise_pass.binary(function("DIV"), t, x), torch.div(t, x))
            scaled = torch.add(x, number, alpha=0.3)
            assert same(elementwise_pass.binary_with(function("ADD_SCALED"), x, t, 0.3), scaled)
            assert same(elementwise_pass.binary(function("XLOGY"), x, t), torch.special.xlogy(x, number))


# Indices


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("descending", [False, True])
def test_numbers_are_sorted_as_integers_in_the_same_order(dtype: torch.dtype, descending: bool) -> None:
    x = torch.cat([torch.tensor(SPECIAL, dtype=dtype), torch.randn(40, dtype=dtype)])
    with exact():
        keys = indexing_order._sortable(x)
        assert torch.equal(
            keys.sort(stable=True, descending=descending)[1], x.sort(stable=True, descending=descending)[1]
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool, torch.float64])
def test_of_several_for_one_place_the_last_wins_on_a_gpu_too(dtype: torch.dtype) -> None:
    index_copy, scatter = table.OURS_ON_CUDA["index_copy"], table.OURS_ON_CUDA["scatter.src"]
    x = torch.randint(0, 9, (3, 5, 4)).to(dtype)
    with exact():
        for dim in range(3):
            index = torch.randint(0, x.shape[dim], (7,))
            source = torch.randint(0, 9, [7 if d == dim else n for d, n in enumerate(x.shape)]).to(dtype)
            assert torch.equal(index_copy(x, dim, index, source), x.index_copy(dim, index, source))
            shape = [6 if d == dim else n - 1 for d, n in enumerate(x.shape)]
            several = torch.randint(0, x.shape[dim], shape)
            values = torch.randint(0, 9, [n + 1 for n in shape]).to(dtype)
            assert torch.equal(scatter(x, dim, several, values), x.scatter(dim, several, values))
        assert torch.equal(index_copy(x[0, 0, 0], 0, torch.tensor([0]), x[1, 1, 1]), x[1, 1, 1])
        assert torch.equal(scatter(x[0, 0, 0], 0, torch.tensor(0), x[1, 1, 1]), x[1, 1, 1])
    with pytest.raises(IndexError):
        scatter(torch.zeros(2, 3), 1, torch.tensor([[5]]), torch.ones(1, 1))


def test_integers_are_scattered_by_index_put() -> None:
    from diva.kernels.operators.indexing_cuda import scatter_add_integers

    x, index = torch.arange(12).view(3, 4), torch.tensor([[0, 1, 1, 2], [2, 2, 0, 0]])
    with exact():
        source = torch.arange(8).view(2, 4)
        assert torch.equal(scatter_add_integers(x, 0, index, source), x.scatter_add(0, index, source))


# Generators


class GpuGenerator:
    """What a torch.Generator of a GPU says of itself."""

    device = torch.device("cuda", 0)

    def __init__(self, seed: int) -> None:
        self.seed, self.offset = seed, 0

    def initial_seed(self) -> int:
        return self.seed

    def get_offset(self) -> int:
        return self.offset

    def set_offset(self, offset: int) -> None:
        self.offset = offset


def test_a_generator_of_a_gpu_gives_what_one_of_the_cpu_would() -> None:
    there: Any = GpuGenerator(7)
    here = torch.Generator().manual_seed(7)
    drawn = [randomness.nonce(here) for _ in range(6)]
    assert [randomness.nonce(there) for _ in range(4)] == drawn[:4] and there.offset == 16
    there.offset = 8
    assert [randomness.nonce(there) for _ in range(2)] == drawn[2:4]
    restored: Any = GpuGenerator(7)
    restored.offset = 20
    assert randomness.nonce(restored) == drawn[5]
    there.seed, there.offset = 8, 0
    assert randomness.nonce(there) == randomness.nonce(torch.Generator().manual_seed(8))


# Settings


def test_functions_that_deterministic_mode_would_replace_are_kept_whole() -> None:
    from torch._decomp import decompositions

    before = decompositions._upsample_linear_vec, decompositions._replication_pad
    x, volume = torch.randn(1, 2, 5, 5), torch.randn(1, 2, 4, 4, 4)
    with exact():
        resized = decompositions._upsample_linear_vec(x, None, False, [1.7, 1.7])
        assert same(resized, F.interpolate(x, scale_factor=1.7, mode="bilinear"))
        assert same(decompositions._upsample_linear_vec(volume, [3, 3, 3], True, None),
                    F.interpolate(volume, size=3, mode="trilinear", align_corners=True))  # fmt: skip
        assert same(decompositions._replication_pad(x, (1, 2, 1, 0)), F.pad(x, (1, 2, 1, 0), mode="replicate"))
        assert not torch.backends.cudnn.enabled
    assert (decompositions._upsample_linear_vec, decompositions._replication_pad) == before


def test_mixed_precision_is_refused_where_it_begins() -> None:
    with exact():
        with pytest.raises(KernelError, match=r"torch.autocast\('cpu', torch.bfloat16\).*--backend torch"):
            torch.autocast("cpu", torch.bfloat16).__enter__()
        with torch.autocast("cpu", torch.bfloat16, enabled=False):
            pass
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(KernelError, match=r"inside torch\.autocast"):
        exact().__enter__()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.is_autocast_enabled("cpu")


def test_a_gpu_computes_exactly_where_it_is_asked_to() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert choose_backend("exact", gpu) == choose_backend("exact", cpu) == choose_backend("auto", cpu) == "exact"
    assert choose_backend("auto", gpu) == choose_backend("torch", gpu) == "torch"
    with pytest.raises(UsageError, match="--backend exact computes on the CPU and on CUDA devices, not on mps"):
        choose_backend("exact", torch.device("mps"))


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [(1, MemoryError, "no memory"), (2, IndexError, "mine"), (3, KernelError, "the GPU did not run"), (4, KernelError, "CUDA_LAUNCH")],
)  # fmt: skip
def test_what_a_status_says(code: int, kind: type[Exception], said: str) -> None:
    error = status.failed(code, "an operator", IndexError("mine"))
    assert isinstance(error, kind) and said in str(error)


def test_a_captured_draw_takes_its_nonce_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from diva.kernels import capture

    class There:
        is_cuda = True

    there: Any = There()
    state = torch.get_rng_state()
    monkeypatch.setattr(capture, "_taken", 0)
    assert [randomness.nonce(None, there) for _ in range(2)] == [capture.FIRST_CODE, capture.FIRST_CODE + 1]
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(RuntimeError, match="cannot be captured"):
        randomness.nonce(torch.Generator(), there)
    assert randomness.nonce(None, torch.ones(1)) < capture.FIRST_CODE and not torch.equal(torch.get_rng_state(), state)
