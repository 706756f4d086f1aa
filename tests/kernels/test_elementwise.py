"""Elementwise kernels reach the bits of their formulas on every instruction set, with PyTorch's shapes, strides and types."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diva.errors import KernelError
from diva.kernels import library
from diva.kernels.exact import exact
from diva.kernels.library import native
from diva.kernels.operators import elementwise_pass
from diva.kernels.reference import activation, elementwise

FORMULAS = {**elementwise.FORMULAS, **activation.FORMULAS}
SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.0,
    3.0,
    -3.0,
    6.0,
    0.1,
    1e-30,
    -1e-30,
    88.7,
    -103.9,
    1e30,
    -1e30,
    np.inf,
    -np.inf,
    np.nan,
]
DENORMAL = {np.float32: [1e-45, -1e-42, 1.1e-38], np.float64: [5e-324, -1e-310, 2e-308]}
NUMBERS = {"LOGIT": (0.05, 0, 0), "LOGIT_BACKWARD": (0.05, 0, 0)}
KINDS = [(name, kind) for name in FORMULAS for kind in (np.float32, np.float64)
         if kind is np.float32 or name not in elementwise.ONLY_FLOAT32]  # fmt: skip


@pytest.fixture
def every_library():
    """Each instruction set in turn; afterwards the one that was in use."""

    def each():
        for name in library.available():
            native.use(name)
            yield name

    yield each
    native.use()


@pytest.fixture(autouse=True)
def one_thread():
    before = native.threads()
    native.set_threads(1)
    yield
    native.set_threads(before)


def operands(kind, n, seed=0):
    """Three operands: every pair of special numbers first, then many sizes and signs, mostly near 1."""
    random = np.random.default_rng(seed)
    special = np.array(SPECIAL + DENORMAL[kind], kind)
    pairs = np.stack(np.meshgrid(special, special), -1).reshape(-1, 2)
    columns = [pairs[:, 0], pairs[:, 1], pairs[::-1, 0]]
    scale = np.exp2(random.integers(-3, 4, (3, n)))
    return [np.concatenate([c, (random.standard_normal(n) * s).astype(kind)])[-n:].astype(kind) if n < 600 else
            np.concatenate([c, (random.standard_normal(n - len(c)) * s[: n - len(c)]).astype(kind)])
            for c, s in zip(columns, scale, strict=True)]  # fmt: skip


def run(name, x, y, z, p, q, r):
    out = np.full_like(x, 7)
    function = getattr(native, f"elementwise_{'f32' if x.dtype == np.float32 else 'f64'}")
    at = [a.ctypes.data for a in (out, x, y, z)]
    assert function(elementwise_pass.function(name), x.size, *at, p, q, r) == 0
    return out


def assert_same_bits(found, expected, where):
    nan = np.isnan(expected)
    assert found.dtype == expected.dtype and (np.isnan(found) == nan).all(), where
    bits = np.int32 if found.dtype == np.float32 else np.int64
    wrong = np.nonzero((found.view(bits) != expected.view(bits)) & ~nan)[0]
    assert wrong.size == 0, f"{where}: {found[wrong[:3]]} for {expected[wrong[:3]]} at {wrong[:3]}"


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_every_instruction_set_gives_the_bits_of_the_formula(name, kind, every_library):
    p, q, r = NUMBERS.get(name, (0.3, 1.7, 0.9))
    x, y, z = operands(kind, 1000 if kind is np.float32 else 560)
    with np.errstate(all="ignore"):
        expected = np.asarray(FORMULAS[name](x, y, z, kind(p), kind(q), kind(r)), kind)
    for isa in every_library():
        assert_same_bits(run(name, x, y, z, p, q, r), expected, f"{name} {isa}")


@pytest.mark.parametrize("name", ["ADD", "EXP", "GELU", "LERP", "SIN", "FMOD"])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 300, 5001])
def test_every_size_gives_the_bits_of_each_number_alone(name, n, every_library):
    x, y, z = operands(np.float32, n, seed=n)
    with np.errstate(all="ignore"):
        expected = np.asarray(FORMULAS[name](x, y, z, 0, 0, 0), np.float32)
    for isa in every_library():
        assert_same_bits(run(name, x, y, z, 0, 0, 0), expected, f"{name} {isa}")


@pytest.mark.parametrize("name", ["ADD", "SILU", "LOG"])
def test_threads_change_no_bit(name):
    x, y, z = (np.tile(a, 200) for a in operands(np.float32, 1000))
    one = run(name, x, y, z, 0, 0, 0)
    for threads in (2, 3, 8):
        native.set_threads(threads)
        assert_same_bits(run(name, x, y, z, 0, 0, 0), one, name)
    a, b = torch.from_numpy(x).view(1000, 200), torch.from_numpy(y)[:200]
    many = elementwise_pass.binary(elementwise_pass.function("MUL"), a, b)
    native.set_threads(1)
    assert torch.equal(many.nan_to_num(), elementwise_pass.binary(elementwise_pass.function("MUL"), a, b).nan_to_num())


# The GPU's kernels


def operands_of_every_layout(kind):
    """What the GPU's kernels read in different ways: aligned or not, by fours or one by one, in many dimensions."""
    x = torch.randn(6, 8, 5, 12, dtype=kind)
    line = torch.randn(2053, dtype=kind)
    yield line[1:], line[:-1], line[1:]  # not aligned
    yield x, x[0, 0, 0], x[:, :1, :1, :1]
    yield x, torch.randn(8, 1, 1, dtype=kind), x[0, 0, 0, 0]
    yield x[..., 1:10], x[0, 0, 0, :9], x[:, :, :, :1]
    yield x[::2, :, :, 4:], x[0, :, :, 4:], x[0, :, :, 1:9]
    yield x[:, :, 0, 0], x[0, :6, 0, :8].t().contiguous().t(), x[0, :, 0, 0]
    yield x.permute(0, 2, 3, 1), torch.randn(6, 5, 12, 8, dtype=kind), x[:, :1, :1, :1]
    y = torch.randn([2] * 17, dtype=kind)  # more dimensions than one launch takes
    yield y, y.permute(*range(16, -1, -1)), y[0, 0]


@pytest.fixture
def gpu():
    """The GPU's kernels in the emulator, whose threads run in the usual order again afterwards."""
    emulated = library.load("emulated")
    yield emulated
    emulated.emulator_order(0)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_the_gpu_reads_any_strides_in_any_order_of_threads(kind, gpu):
    f = elementwise_pass.function("ADDCDIV")
    for operands_read in operands_of_every_layout(kind):
        native.use()
        expected = elementwise_pass.elementwise(f, operands_read, 0.7)
        native.use("emulated")
        for order in (0, 1, 2) if operands_read[0].dim() < 17 else (3,):
            gpu.emulator_order(order)
            same(elementwise_pass.elementwise(f, operands_read, 0.7), expected)


# As PyTorch operators


def steps(x):
    """The strides that say where a number lies: not those of dimensions of one, and none without numbers."""
    return [step for step, size in zip(x.stride(), x.shape, strict=True) if size > 1 and x.numel()]


def same(found, expected):
    assert found.dtype == expected.dtype and found.shape == expected.shape and steps(found) == steps(expected)
    assert torch.equal(found.nan_to_num(), expected.nan_to_num())


def layouts(shape):
    """Tensors of one shape as they occur: dense, transposed, sliced, expanded, channels-last."""
    n = len(shape)
    yield torch.randn(shape)
    yield torch.randn(shape[::-1]).permute(*range(n - 1, -1, -1))
    yield torch.randn([2 * s for s in shape])[tuple(slice(None, None, 2) for _ in shape)]
    yield torch.randn([1 if d % 2 else s for d, s in enumerate(shape)]).expand(shape)
    yield torch.randn(shape[1:])
    if n == 4:
        yield torch.randn(shape).contiguous(memory_format=torch.channels_last)


@settings(max_examples=15, deadline=None)
@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_any_strides_give_stock_results_in_stock_strides(shape, seed):
    """Single operations of IEEE arithmetic: stock's numbers are right there too."""
    torch.manual_seed(seed)
    pairs = [(a, b) for a in layouts(shape) for b in layouts(shape)]
    expected = [each for a, b in pairs for each in (a * b, a + b, torch.relu(a), torch.maximum(a, b))]
    with exact():
        found = [each for a, b in pairs for each in (a * b, a + b, torch.relu(a), torch.maximum(a, b))]
    for f, e in zip(found, expected, strict=True):
        same(f, e)


@pytest.mark.parametrize("shapes", [((300, 70), (70,)), ((300, 70), (300, 1)), ((2, 64, 20, 20), (64, 1, 1)), ((3, 2000), (2000,)),
                                    ((3, 2000), (3, 1)), ((5, 300), (300, 5)), ((40, 9000), (9000,))])  # fmt: skip
def test_broadcasting_over_many_blocks_gives_stock_results(shapes):
    a, b = (torch.randn(s) for s in shapes)
    if b.shape == (300, 5):
        b = b.t()
    expected = [a / b, b - a, torch.minimum(b, a)]
    for threads in (1, 3):
        native.set_threads(threads)
        with exact():
            found = [a / b, b - a, torch.minimum(b, a)]
        for f, e in zip(found, expected, strict=True):
            same(f, e)


PAIRS = [
    (torch.arange(6), 1.5), (torch.arange(6), torch.linspace(1, 2, 6)), (torch.linspace(1, 2, 6).double(), torch.ones(6)),
    (torch.ones(6, dtype=torch.bool), torch.linspace(1, 2, 6)), (torch.tensor(2.0), torch.tensor(3.0)), (torch.tensor(2.0), 3),
    (torch.linspace(1, 2, 6), torch.tensor(3.0, dtype=torch.float64)), (torch.tensor(3), torch.linspace(1, 2, 6)),
    (torch.arange(1, 7), torch.arange(1, 7)), (torch.arange(1, 7), 2), (torch.linspace(-1, 2, 6), 2),
    (torch.arange(1, 7, dtype=torch.int8), 2), (torch.tensor(5, dtype=torch.int8), 2),
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(PAIRS)))
def test_types_are_promoted_as_in_stock(index):
    a, b = PAIRS[index]
    tensor_b = b if isinstance(b, torch.Tensor) else torch.tensor(b)

    def results():
        return [a + b, a * b, a / b, torch.rsub(a.float(), b), torch.div(a, b, rounding_mode="floor"),
                torch.maximum(a, tensor_b), torch.fmod(a, tensor_b)]  # fmt: skip

    expected = results()
    with exact():
        found = results()
    for f, e in zip(found, expected, strict=True):
        same(f, e)


def test_alpha_is_one_fused_operation():
    a, b = torch.randn(1000), torch.randn(1000)
    with exact():
        found = torch.add(a, b, alpha=0.3)
        number = torch.add(a, 0.7, alpha=0.3)
        back = torch.rsub(a, b, alpha=0.3)
        below = torch.sub(a, b, alpha=0.3)
    alpha = float(np.float32(0.3))
    assert torch.equal(found, (a.double() + alpha * b.double()).float())  # the product is exact in float64
    assert torch.equal(number, (a.double() + alpha * float(np.float32(0.7))).float())
    assert torch.equal(back, (b.double() - alpha * a.double()).float())
    assert torch.equal(below, (a.double() - alpha * b.double()).float())


def test_out_may_be_an_operand_or_have_other_strides():
    a, b = torch.randn(50, 50), torch.randn(50, 50)
    add = elementwise_pass.function("ADD")
    expected = a + b
    out = torch.empty(50, 50).t()
    assert elementwise_pass.binary(add, a, b, out) is out and torch.equal(out, expected)
    c = a.clone()
    assert elementwise_pass.binary(add, c, b, c) is c and torch.equal(c, expected)
    c = a.clone()
    elementwise_pass.binary(add, c, c.t(), c)
    assert torch.equal(c, a + a.t())
    c = torch.arange(10.0)
    elementwise_pass.binary(add, c[1:], c[:-1], c[1:])
    assert torch.equal(c[1:], torch.arange(1.0, 10.0) + torch.arange(0.0, 9.0))


def test_shapes_that_do_not_fit_are_refused_in_stock_words():
    with (
        exact(),
        pytest.raises(RuntimeError, match=r"size of tensor a \(3\) must match .* b \(4\) at non-singleton dimension 1"),
    ):
        torch.randn(2, 3) + torch.randn(2, 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64])
def test_types_without_kernels_are_refused(dtype):
    x = torch.ones(3, dtype=dtype)
    with exact(), pytest.raises(KernelError, match="float32 and float64"):
        x + x


def test_a_function_without_a_program_in_double_is_refused_by_name():
    with exact(), pytest.raises(KernelError, match=r"no exact kernel of sin for torch\.float64"):
        torch.sin(torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 0.5, -0.5, -1, -2])
def test_plain_powers_are_what_they_say(exponent):
    x = torch.rand(100) + 0.1
    expected = {0: torch.ones(100), 1: x, 2: x * x, 3: (x * x) * x, 0.5: x.double().sqrt().float(), -1: 1 / x, -2: 1 / (x * x),
                -0.5: 1 / x.double().sqrt().float()}[exponent]  # fmt: skip
    with exact():
        assert torch.equal(x**exponent, expected)


def test_gradients_agree_with_double_precision():
    """Within 8 roundings of the largest term: each gradient is at most three operations."""
    a, b = torch.rand(50, dtype=torch.float64) + 0.5, torch.rand(50, dtype=torch.float64) + 0.5

    def loss(x, y):
        return (
            x * y / (x + y) - torch.sqrt(x) * y**2 + torch.log(x) * torch.exp(-y) + x**1.5 + torch.lerp(x, y, 0.3)
        ).sum()

    grads = []
    for kind in (torch.float32, torch.float64):
        x, y = (t.to(kind).requires_grad_() for t in (a.float(), b.float()))
        if kind is torch.float32:
            with exact():
                loss(x, y).backward()
        else:
            loss(x, y).backward()
        assert x.grad is not None and y.grad is not None
        grads.append(torch.cat([x.grad.double(), y.grad.double()]))
    assert (grads[0] - grads[1]).abs().max() < 8 * 2**-24 * 6
