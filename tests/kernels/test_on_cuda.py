"""What a GPU is served by, checked without one: every operator of CUDA's is classified, and ours leave no tensor on the CPU."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from diva.kernels import operators, safe, scope, table
from diva.kernels.exact import exact
from diva.kernels.library import Native
from diva.kernels.operators import randomness

GPU = "meta"
HERE = Path(__file__).parent


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"kernels_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def listed(key: str) -> list[str]:
    """The operators that PyTorch's CUDA build registers at a dispatch key, as far as this build knows them."""
    lines = [line.split() for line in (HERE / "cuda_operators.txt").read_text().splitlines() if line[0] != "#"]
    names = [name if "::" in name else f"aten::{name}" for at, name in lines if at == key]
    return [name for name in names if torch._C._dispatch_has_kernel(name)]


# The table


def test_every_operator_of_cuda_is_one_of_ours_safe_and_refused():
    operators.load()
    for key in table.CUDA_KEYS:
        ours = table._ours(key)
        entries = [table._entry(name, key, ours) for name in listed(key)]
        counted = Counter(entry.served for entry in entries)
        assert all(entry.why and (entry.kernel or entry.served == "safe") for entry in entries)
        assert set(counted) == ({"refused", "ours", "safe"} if key == "CUDA" else {"refused"})


def test_what_is_served_on_the_cpu_is_served_on_a_gpu_in_the_same_way():
    operators.load()
    on_cpu, on_cuda = table._ours("CPU"), table._ours("CUDA")
    differing = {}
    for name in listed("CUDA"):
        if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU"):
            one, other = table._entry(name, "CPU", on_cpu), table._entry(name, "CUDA", on_cuda)
            if one.served != other.served:
                differing[name.removeprefix("aten::")] = one.served, other.served
    unordered = ("index_copy", "index_copy_", "index_copy.out", "scatter.src", "scatter_.src", "scatter.src_out")
    assert differing == dict.fromkeys(unordered, ("safe", "ours"))


def test_libraries_of_nvidia_are_refused_and_lists_are_taken_one_by_one():
    operators.load()
    ours = table._ours("CUDA")
    entries = {name: table._entry(name, "CUDA", ours) for name in listed("CUDA")}
    by_libraries = [
        name for name in entries if "cudnn" in name or "miopen" in name or "flash" in name or "fused_" in name
    ]
    steps = {
        f"aten::_fused_{name}_{form}" for name in ("sgd", "adam", "adamw", "adagrad") for form in ("", ".tensor_lr")
    }
    served = {name for name in by_libraries if entries[name].served != "refused"}
    assert served <= {*steps, "aten::_fused_sdp_choice", "aten::_fused_rms_norm"}
    of_lists = [entry for name, entry in entries.items() if name.startswith("aten::_foreach_")]
    assert len(of_lists) > 100 and {entry.why for entry in of_lists} == {"PyTorch's own composition, as on the CPU"}


def test_names_of_the_safe_list_for_cuda_are_on_it():
    known = {name for names in (*safe.SAFE.values(), *safe.GUARDED.values()) for name in names.split()}
    assert {*safe.NOT_ON_CUDA.split(), *safe.INTEGERS_ON_CUDA.split()} <= known
    for key in ("CPU", "CUDA"):
        assert {*table.KEYS, *table.CUDA_KEYS} >= {key, *safe.OTHER_LAYOUTS}


def test_the_scope_serves_cuda_where_there_is_a_gpu_and_takes_it_back(monkeypatch):
    monkeypatch.setattr(scope, "_has_gpu", lambda: True)
    monkeypatch.setattr(table, "_stock_on_cuda", {})

    def standing(name, key):
        lines = torch._C._dispatch_dump(name).splitlines()
        return next((line for line in lines if line.startswith((f"{key}:", f"{key} "))), "")

    watched = [("aten::mm", "CUDA"), ("aten::convolution", "CUDA"), ("aten::scatter.src", "CUDA")]
    watched += [("aten::lstm.input", "AutogradCUDA"), ("aten::add_.Tensor", "CUDA")]
    before = [standing(*place) for place in watched]
    with exact():
        inside = [standing(*place) for place in watched]
        assert [one for one, other in zip(before, inside, strict=True) if one == other] == []
    assert [standing(*place) for place in watched] == before


# One device


def test_tensors_of_two_devices_are_refused_and_numbers_are_brought(pretended):
    given: list[Any] = []
    one = table.on_one_gpu("aten::mul.Tensor", lambda *args, **_: given.extend(args))
    in_place = table.on_one_gpu("aten::mul_.Tensor", lambda *args, **_: given.extend(args))
    there, here, number = torch.empty(3, device=GPU), torch.empty(3), torch.tensor(2.0, dtype=torch.float64)
    for wrong in ((there, here), (here, there)):
        with pytest.raises(RuntimeError, match="on the same device, but found at least two devices"):
            one(*wrong)
    with pytest.raises(RuntimeError, match="same device"):
        in_place(number, there)
    with pytest.raises(RuntimeError, match="same device"):
        one(there, there, out=here)
    one(there, number, out=there)
    assert given[0] is there and given[1].is_cuda and given[1].dtype == torch.float64 and given[1].shape == ()


# No tensor is left on the CPU


class Recorder:
    """The calls that reach our kernels on the CPU, each kind once: with what arguments, and what came out."""

    def __init__(self) -> None:
        self.calls: dict[Any, tuple[str, Any, Any, Any]] = {}

    def around(self, entry: table.Entry) -> table.Entry:
        if entry.served != "ours":
            return entry

        def record(*args: Any, **kwargs: Any) -> Any:
            assert entry.kernel is not None
            given = tree_map(_described, (args, kwargs))
            key = (entry.operator, repr(tree_map(lambda x: x.kind() if isinstance(x, Like) else x, given)))
            result = entry.kernel(*args, **kwargs)
            self.calls.setdefault(key, (entry.operator, *given, tree_map(_described, result)))
            return result

        return entry._replace(kernel=record)


class Like:
    """A tensor without its numbers; small integers keep them."""

    def __init__(self, x: torch.Tensor) -> None:
        self.shape, self.stride, self.dtype = tuple(x.shape), x.stride(), x.dtype

    def __repr__(self) -> str:
        return f"{self.shape} {self.stride} {self.dtype}"

    def kind(self) -> str:
        dense = self.stride == torch.empty(self.shape, device="meta").stride()
        return f"{len(self.shape)} {self.dtype} {dense} {1 in self.shape}"

    def fake(self) -> torch.Tensor:
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=GPU)


def _described(x: Any) -> Any:
    return Like(x) if isinstance(x, torch.Tensor) else x


class Watch(TorchFunctionMode):
    """What is made on the CPU; numbers without dimensions may be."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, torch.Tensor) and not x.is_cuda and x.dim():
                self.left.append(str(func))
        return result


class Silent:
    """Kernels that do nothing, and succeed."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: 0


class Stock:
    def __init__(self, name: str) -> None:
        base, _, overload = name.partition(".")
        self.function = getattr(getattr(torch.ops.aten, base), overload or "default")

    def call_boxed(self, _: Any, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


# These wait for the GPU: the sizes of their results are numbers in it, as in stock PyTorch.
WAIT = {"_unique2", "bincount", "_embedding_bag", "_index_put_impl_", "embedding_renorm_"}


@pytest.fixture
def pretended(monkeypatch):
    """A GPU that computes nothing: PyTorch's device of tensors without numbers."""
    operators.load()
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: self.device.type == GPU))

    def only_there(_: Any, x: Any) -> Silent:
        assert x.is_cuda
        return Silent()

    monkeypatch.setattr(Native, "of", only_there)
    monkeypatch.setattr(Native, "on", only_there)
    monkeypatch.setattr(torch.Tensor, "data_ptr", lambda self: id(self))
    monkeypatch.setattr("diva.kernels.operators.elementwise_pass._overlaps", lambda *_: False)
    monkeypatch.setattr(randomness, "nonce", lambda *_: 1)
    monkeypatch.setattr("diva.kernels.operators.randomness_sampling.nonce", lambda *_: 1)
    monkeypatch.setattr(table, "_stock_on_cuda", {name: Stock(name) for name in table._stock_names})


OF_ONE = (
    *("exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "erf", "logit", "rsqrt", "exp", "trace", "prod"),
    *("median", "nanmedian", "nansum", "max", "min"),
)
OF_TWO = (
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "fmod",
    "remainder",
    "hypot",
    "logaddexp",
    "rsub",
    "floor_divide",
    "pow",
)
ACTIVATIONS = (
    *("silu", "mish", "hardswish", "hardsigmoid", "elu", "softplus", "leaky_relu", "logsigmoid", "hardshrink"),
    *("softshrink", "hardtanh", "glu"),
)


def more() -> None:
    """What the routes do not call."""
    x, square, signs = torch.rand(3, 4, requires_grad=True), torch.rand(4, 4), torch.rand(3, 4) - 0.5
    for name in OF_ONE:
        getattr(torch, name)(square)
    for name in OF_TWO:
        getattr(torch, name)(x, signs)
    for name in ACTIVATIONS:
        getattr(nn.functional, name)(x).sum().backward()
    nn.PReLU()(x).sum().backward()
    torch.logit(x, 0.1).sum().backward()
    nn.functional.threshold(x, 0.1, 0.0)
    y = torch.native_dropout(x, 0.5, True)[0]
    y.sum().backward()
    nn.RReLU()(x)
    nn.RReLU(inplace=True)(x.detach().clone())
    (
        torch.remainder(2.0, signs),
        torch.pow(2.0, signs),
        torch.div(x, signs, rounding_mode="floor"),
        torch.lerp(x, signs, signs),
    )
    (
        x.clamp(max=0.5),
        x.clamp(max=signs),
        x.clamp(signs, signs),
        x.amax(),
        x.amin(0),
        x.prod(1),
        x.cumprod(0),
        x.norm(dtype=torch.float64),
    )
    for name in ("var", "std", "var_mean", "std_mean"):
        getattr(torch, name)(x)
    index = torch.tensor([2, 0])
    x.detach().index_reduce(0, index, signs[:2], "amax"), x.detach().scatter(0, index[:, None], 2.0, reduce="add")
    x.detach().scatter(0, index[:, None], signs, reduce="multiply"), x.detach().put_(index, signs[0, :2])
    (
        x.detach().index_put_((index,), signs[:2]),
        x.kthvalue(2),
        x.median(0),
        x.nanmedian(1),
        x.sort(0),
        x.detach().index_copy(0, index, signs[:2]),
    )
    nn.SmoothL1Loss()(x, signs).backward(), nn.HuberLoss()(x, signs).backward()
    torch._addmm_activation(x[0], x, square), torch.addbmm(square, square[None], square[None]), torch.mv(x, square[0])
    (
        torch.addmv(signs[:, 0], x, square[0]),
        torch.dot(x[0], x[1]),
        torch.vdot(x[0], x[1]),
        torch.addr(signs, x[:, 0], x[0]),
    )
    for n, shape in ((1, (4, 6)), (2, (4, 6, 6)), (3, (4, 6, 6, 6))):
        image = torch.rand(2, *shape, requires_grad=True)
        for layer in ("Conv", "ConvTranspose"):
            getattr(nn, f"{layer}{n}d")(4, 2, 3)(image).sum().backward()
        for layer in (f"BatchNorm{n}d", f"InstanceNorm{n}d"):
            norm = getattr(nn, layer)(4)
            norm(image).sum().backward()
            norm.eval()(image)
        for layer in (f"MaxPool{n}d", f"AvgPool{n}d", f"AdaptiveMaxPool{n}d", f"AdaptiveAvgPool{n}d"):
            getattr(nn, layer)(2)(image).sum().backward()
        nn.GroupNorm(2, 4)(image).sum().backward()
    last = torch.rand(2, 4, 6, 6, requires_grad=True).to(memory_format=torch.channels_last)
    for module in (
        nn.Conv2d(4, 2, 3),
        nn.BatchNorm2d(4),
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
        nn.Upsample(scale_factor=2),
    ):
        module(last).sum().backward()
    torch.batch_norm_update_stats(last, None, None, 0.1)
    for name in ["uniform_", "normal_", "exponential_", "cauchy_", "log_normal_", "random_"]:
        getattr(torch.empty(3, 4), name)()
    (
        torch.empty(4, dtype=torch.int64).random_(5),
        torch.randint(2, 5, (3,)),
        torch.empty(3).geometric_(0.5),
        torch.randperm(5),
    )
    square.bernoulli(), torch.empty(4, 4).bernoulli_(square), torch.multinomial(square, 2), torch.linspace(0, 1, 5)
    torch.normal(x, 1.0), torch.normal(0.0, square), torch.normal(x, square[:3])


SAME_KERNELS = ("torchvision", "nn.LSTM bidirectional", "nn.GRU", "nn.RNN", "nn.Transformer")  # as other routes


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, Any, Any]]:
    """What the routes of common modules call."""
    routes, recorder, entries = _load("test_routes"), Recorder(), table.entries
    torch.manual_seed(0)
    with monkeypatch.context() as patched:
        patched.setattr(table, "entries", lambda *_: [recorder.around(entry) for entry in entries()])
        with exact():
            for name, case in (routes.CASES | {"more": more}).items():
                if name not in routes.REFUSED and not name.startswith(SAME_KERNELS):
                    case()
    return list(recorder.calls.values())


def pretend(ours: Any, name: str, args: Any, kwargs: Any, expected: Any) -> str:
    """What is wrong with what our kernel makes of tensors of a GPU; "" when nothing is."""
    entry = table._entry(name, "CUDA", ours)
    if entry.served != "ours" or "composition" in entry.why:
        return ""
    assert entry.kernel is not None
    args, kwargs = tree_map(lambda x: x.fake() if isinstance(x, Like) else x, (args, kwargs))
    with Watch() as watch:
        result = entry.kernel(*args, **kwargs)
    if watch.left:
        return f"{name}: made on the CPU by {watch.left}"
    for one, other in zip(tree_flatten(result)[0], tree_flatten(expected)[0], strict=True):
        if isinstance(other, Like) and (not one.is_cuda or (tuple(one.shape), one.dtype) != (other.shape, other.dtype)):
            return f"{name}: {one.device} {tuple(one.shape)} {one.dtype} instead of {other}"
    return ""


def test_ours_leave_no_tensor_on_the_cpu_and_wait_for_nothing(monkeypatch, request):
    calls = recorded(monkeypatch)
    request.getfixturevalue("pretended")
    row = Like(torch.empty(2, 3, dtype=torch.int64))
    calls.append(
        (
            "aten::index_copy",
            (Like(torch.empty(5, 3)), 0, Like(row_of(row)), Like(torch.empty(2, 3))),
            {},
            Like(torch.empty(5, 3)),
        )
    )
    calls.append(
        ("aten::scatter.src", (Like(torch.empty(5, 3)), 0, row, Like(torch.empty(2, 4))), {}, Like(torch.empty(5, 3)))
    )
    waiting, wrong, ours = set(), [], table._ours("CUDA")
    for call in calls:
        try:
            wrong.append(pretend(ours, *call))
        except (NotImplementedError, RuntimeError) as error:  # of item(), nonzero() and the like
            if "meta" not in str(error).lower():
                raise
            waiting.add(call[0].removeprefix("aten::"))
    assert [said for said in wrong if said] == []
    assert waiting == WAIT and len(calls) > 300


def row_of(index: Like) -> torch.Tensor:
    return torch.empty(index.shape[0], dtype=index.dtype)
