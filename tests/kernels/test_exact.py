"""The exact scope: nothing falls back, refusals say where, and PyTorch is afterwards what it was."""

import multiprocessing
import re
import subprocess
import sys
import threading

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from diva.errors import KernelError, UsageError
from diva.kernels import pins, safe, scope, table
from diva.kernels.exact import exact
from diva.kernels.library import native

ADD = table.stock("add.Tensor")
MUL = table.stock("mul.Tensor")
SUM = table.stock("sum.dim_IntList")


def as_tensor(value, like):
    return value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=torch.result_type(like, value))


def stubs():
    """Kernels of PyTorch's under our name: enough for a small computation, whatever the families serve."""
    return {
        "add.Tensor": lambda a, b, *, alpha=1: ADD(a, as_tensor(b, a), alpha=alpha),
        "mul.Tensor": lambda a, b: MUL(as_tensor(a, b), as_tensor(b, a)),
        "sum.dim_IntList": lambda a, dim, keepdim=False, *, dtype=None: SUM(a, dim, keepdim, dtype=dtype),
    }


@pytest.fixture(autouse=True)
def declarations(monkeypatch):
    """What a test declares is forgotten after it."""
    monkeypatch.setattr(table, "_declared", {})
    monkeypatch.setattr(table, "_registered", {})


@pytest.fixture
def registered():
    for name, function in stubs().items():
        table.register(name, function)


# Refusals


def test_a_refusal_names_the_operator_the_line_and_what_to_do():
    line = sys._getframe().f_lineno + 2
    with exact(), pytest.raises(KernelError) as raised:
        torch.lgamma(torch.ones(2))
    said = str(raised.value)
    assert raised.value.exit_code == 6
    assert said.startswith(f"aten::lgamma has no exact kernel; called at {__file__}:{line};")
    assert "--backend torch" in said and "diva.kernels.declare_safe('lgamma', reason)" in said
    assert "diva.kernels.register('lgamma', function)" in said


class Halfway(torch.autograd.Function):
    """Its forward is safe, its backward is not."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return torch.lgamma(grad)


def test_a_refusal_in_backward_names_the_function_and_the_line():
    x = torch.ones(2, requires_grad=True)
    with (
        exact(),
        pytest.raises(
            KernelError, match=r"^aten::lgamma has no exact kernel; called in the backward of halfway"
        ) as raised,
    ):
        Halfway.apply(x).backward(torch.ones(2))
    assert f"{__file__}:" in str(raised.value)


def lgamma_in_backward(anomaly):
    """aten::polygamma computes the derivative of digamma; only digamma has a kernel."""
    table.declare_safe("digamma", "a test")
    x = torch.ones(2, requires_grad=True)
    with exact(), torch.autograd.set_detect_anomaly(anomaly, check_nan=False):
        y = torch.digamma(x)
        y.backward(torch.ones(2))


@pytest.mark.filterwarnings("ignore:Anomaly")
@pytest.mark.filterwarnings("ignore:Error detected")
def test_a_refusal_in_backward_names_the_forward_operator_and_under_anomaly_detection_its_line():
    line = lgamma_in_backward.__code__.co_firstlineno + 6
    with pytest.raises(KernelError, match=rf"in the backward of digamma, started at {re.escape(__file__)}:{line} "):
        lgamma_in_backward(False)
    with pytest.raises(
        KernelError, match=rf"in the backward of digamma, whose forward ran at {re.escape(__file__)}:{line - 1};"
    ):
        lgamma_in_backward(True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_exact_for_whole_numbers_only_is_refused_for_others(dtype):
    prod = safe.guarded("aten::prod", "integers")
    assert prod(torch.tensor([2, 3, 4])).item() == 24
    with pytest.raises(KernelError, match="aten::prod has no exact kernel for floating-point numbers"):
        prod(torch.ones(3, dtype=dtype))
    with pytest.raises(KernelError, match="aten::prod"):
        prod(torch.tensor([2, 3]), dtype=dtype)


def test_a_range_of_whole_numbers_is_exact_and_one_of_fractions_is_refused():
    if table.find("aten::arange.start_out").served == "safe":
        with exact():
            assert torch.arange(0, 6, 2, dtype=torch.float32).tolist() == [0, 2, 4]
            with pytest.raises(KernelError, match="whole numbers"):
                torch.arange(0, 1, 0.1)


def test_calls_inside_pytorch_are_caught():
    with exact(), pytest.raises(KernelError, match=r"aten::(_linalg_svd|linalg_)"):
        torch.linalg.matrix_rank(torch.eye(2))


@pytest.mark.parametrize(
    "make", [lambda: torch.eye(2).to_sparse(), lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8)]
)
def test_other_layouts_are_refused(make):
    with exact(), pytest.raises(KernelError, match="has no exact kernel"):
        make()


def test_an_exception_of_a_kernel_arrives_as_it_is(registered):
    class OwnError(Exception):
        pass

    def fail(*args):
        raise OwnError("mine")

    table.register("mul.Tensor", fail)
    with exact(), pytest.raises(OwnError, match=r"^mine$"):
        torch.ones(2) * torch.ones(2)


# What the scope holds and gives back


def settings():
    return {
        **{f"{number}": read() for number, (read, _, _) in enumerate(pins._switches())},
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "set_num_threads": torch.set_num_threads,
        "load_library": torch.ops.load_library,
    }


@pytest.mark.parametrize("unusual", [False, True])
def test_pins_hold_inside_and_are_restored(unusual):
    switches = pins._switches()
    before = [read() for read, _, _ in switches]
    try:
        if unusual:
            for _, write, value in switches:
                write(not value)
        found = settings()
        with exact():
            assert [read() for read, _, _ in switches] == [value for _, _, value in switches]
            assert torch.are_deterministic_algorithms_enabled()
        assert settings() == found
        with pytest.raises(ZeroDivisionError), exact():
            1 / 0  # noqa: B018
        assert settings() == found
    finally:
        for (_, write, _), value in zip(switches, before, strict=True):
            write(value)


def test_pytorch_computes_again_afterwards():
    with exact(), pytest.raises(KernelError):
        torch.lgamma(torch.ones(2))
    assert torch.lgamma(torch.ones(2)).tolist() == [0, 0]


def test_the_scope_nests_and_ends_with_the_outermost(registered):
    with exact():
        with exact():
            pass
        assert scope.is_open()
        with pytest.raises(KernelError):
            torch.lgamma(torch.ones(2))
    assert not scope.is_open()
    with pytest.raises(RuntimeError, match="not open"):
        scope.leave()


def test_two_threads_share_the_scope():
    entered, left = threading.Event(), threading.Event()
    seen = []

    def other():
        with exact():
            entered.set()
            left.wait(20)
            try:
                torch.lgamma(torch.ones(2))
            except KernelError as error:
                seen.append(error)

    with exact():
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(20)
    left.set()
    thread.join()
    assert len(seen) == 1 and not scope.is_open()


def test_threads_of_the_kernels_follow_pytorchs():
    before = torch.get_num_threads(), native.threads()
    try:
        torch.set_num_threads(2)
        with exact():
            assert native.threads() == 2
            torch.set_num_threads(3)
            assert native.threads() == 3
        assert native.threads() == before[1]
    finally:
        torch.set_num_threads(before[0])


def test_a_seed_starts_the_generator_and_gives_it_back():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with exact(seed=1):
        first = torch.get_rng_state()
    assert torch.equal(torch.get_rng_state(), before)
    with exact(seed=1):
        assert torch.equal(torch.get_rng_state(), first) and not torch.equal(first, before)


def test_compiled_functions_run_eagerly():
    """In its own process, where the compiler is not imported before: the pin comes with it."""
    code = """
import sys, torch
from diva.kernels.exact import exact
from diva.kernels.library import native
assert "torch._dynamo" not in sys.modules
with exact():
    import torch._dynamo.eval_frame as frame
    assert frame._stance.stance == "force_eager", frame._stance
assert frame._stance.stance == "default"
with exact():
    assert frame._stance.stance == "force_eager"
assert frame._stance.stance == "default"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_imports_no_torch():
    code = (
        "import sys, diva.kernels; assert 'torch' not in sys.modules; diva.kernels.exact; assert 'torch' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# What keeps working


def test_printing_works():
    for name in ("abs", "min", "max", "div.Tensor"):  # a family's, where there is one
        if table.find(f"aten::{name}").served != "ours":
            table.declare_safe(name, "a test prints")
    expected = repr(torch.tensor([[1.5, -2.25], [1e-5, 3e7]])), repr(torch.tensor([True])), repr(torch.arange(3))
    with exact():
        assert expected == (
            repr(torch.tensor([[1.5, -2.25], [1e-5, 3e7]])),
            repr(torch.tensor([True])),
            repr(torch.arange(3)),
        )


def test_gradients_and_checkpointing_work(registered):
    w = torch.full((3,), 2.0, requires_grad=True)
    with exact():
        (plain,) = torch.autograd.grad((w * w + w).sum((0,)), w)
        checkpoint(lambda v: v * v + v, w, use_reentrant=False).sum((0,)).backward()
    assert w.grad is not None and plain.tolist() == w.grad.tolist() == [5, 5, 5]


def test_generators_can_be_forked_and_seeded_inside():
    with exact(seed=3):
        state = torch.get_rng_state()
        with torch.random.fork_rng():
            torch.manual_seed(9)
            assert not torch.equal(torch.get_rng_state(), state)
        assert torch.equal(torch.get_rng_state(), state)


class Doubled(torch.utils.data.Dataset):
    """Adds its number to itself, and says whether the scope is open where it is read."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        x = torch.tensor(float(index))
        return x.clone(), scope.is_open()


def test_forked_workers_have_the_scope_and_do_not_hang():
    with exact():
        loader = torch.utils.data.DataLoader(Doubled(), batch_size=2, num_workers=2, multiprocessing_context="fork")
        found = [(x.tolist(), opened.tolist()) for x, opened in loader]
    assert found == [([0, 1], [True, True]), ([2, 3], [True, True])]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_spawned_children_open_the_scope(method):
    context = multiprocessing.get_context(method)
    with exact():
        queue = context.Queue()
        child = context.Process(target=_report, args=(queue,))
        child.start()
        assert queue.get(timeout=60) is True
        child.join()
    queue = context.Queue()
    child = context.Process(target=_report, args=(queue,))
    child.start()
    assert queue.get(timeout=60) is False
    child.join()


def _report(queue):
    queue.put(scope.is_open())


# Declarations


def test_what_is_declared_is_served_at_once_and_recorded():
    with exact():
        with pytest.raises(KernelError):
            torch.lgamma(torch.ones(2))
        table.declare_safe("lgamma", "checked by hand")
        assert torch.lgamma(torch.ones(2)).tolist() == [0, 0]
        table.register("digamma", lambda x: x.clone())
        assert torch.digamma(torch.ones(2)).tolist() == [1, 1]
    assert [(d.operator, d.kind) for d in table.declared()] == [("aten::digamma", "kernel"), ("aten::lgamma", "safe")]
    assert table.declared()[1].reason == "checked by hand"


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: table.declare_safe("lgama", "x"), "no operator aten::lgama; did you mean aten::lgamma"),
        (lambda: table.declare_safe("lgamma", " "), "say why"),
        (lambda: table.declare_safe("nowhere::op", "x"), "load its library first"),
        (lambda: table.register("linear", lambda *a: None), "composes it of other operators"),
    ],
)
def test_wrong_declarations_are_refused(act, said):
    with pytest.raises(UsageError, match=said):
        act()
