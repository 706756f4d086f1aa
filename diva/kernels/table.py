"""The table of operators: each is ours, safe (PyTorch's own, with the reason why its bits are fixed) or refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch

from diva.errors import UsageError, nearest
from diva.kernels import refusal, safe
from diva.kernels.variants import variants

Kernel = Callable[..., Any]

OURS: dict[str, Kernel] = {}  # on the CPU and on a GPU
OURS_ON_CUDA: dict[str, Kernel] = {}  # what PyTorch's own kernel computes in a fixed order on the CPU, but not on a GPU
COMPOSED_ON_CUDA: dict[str, Kernel] = {}  # compositions that take another route on a GPU: by the CPU's route
_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
_CUDA = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
# Dispatch keys whose kernels compute on the CPU, and on a GPU. Ours stand at the first; on the others all is refused.
KEYS = ("CPU", "SparseCPU", "SparseCsrCPU", "QuantizedCPU", "MkldnnCPU", "NestedTensorCPU")
CUDA_KEYS = ("CUDA", "SparseCUDA", "SparseCsrCUDA", "QuantizedCUDA", "NestedTensorCUDA")


class Entry(NamedTuple):
    """One operator: whose kernel serves it, and how or why."""

    operator: str  # "aten::add.Tensor"
    key: str
    served: Literal["ours", "safe", "refused"]
    why: str
    kernel: Kernel | None  # None: PyTorch's own is left in place


class Declared(NamedTuple):
    """What somebody said about an operator that diva does not serve."""

    operator: str
    kind: Literal["safe", "kernel"]
    reason: str  # for a kernel: its module and name


_lock = threading.Lock()
_declared: dict[str, Declared] = {}
_registered: dict[str, Kernel] = {}


def kernel(*names: str, into: dict[str, Kernel] = OURS) -> Callable[[Kernel], Kernel]:
    """Declare that the function serves the aten operators `names` ("mm", "add.Tensor": the functional overloads).

    It serves tensors on the CPU and on a GPU, or with `into=OURS_ON_CUDA` those on a GPU only.

    The function takes what the operator's schema says (Python numbers may stand where it says Tensor) and returns new
    tensors. With a keyword `out` it can write its one result into that tensor instead: same shape and dtype as the
    result, any dense layout, it may be `self` itself; in-place and out= forms are made from it.
    """

    def declare(function: Kernel) -> Kernel:
        for name in names:
            if name in into:
                raise ValueError(f"aten::{name} has two kernels: {into[name].__qualname__} and {function.__qualname__}")
            into[name] = function
        return function

    return declare


_stock_names: list[str] = []
_stock_on_cuda: dict[str, Any] = {}  # PyTorch's own CUDA kernels of those names, once there is a GPU to serve


def stock(name: str) -> Kernel:
    """PyTorch's own kernel of "add.Tensor", fetched now: call it at import, before any override stands.

    It is the CPU's, or the GPU's where an argument lies there. Where the schema says Tensor a Python number may stand; it
    becomes a tensor of the type that PyTorch would give it.
    """
    found = torch.library.get_kernel(f"aten::{name}", "CPU")
    base, _, overload = name.partition(".")
    schema = getattr(getattr(torch.ops.aten, base), overload or "default")._schema
    tensors = [place for place, argument in enumerate(schema.arguments) if str(argument.type) == "Tensor"]
    _stock_names.append(name)

    def call(*args: Any, **kwargs: Any) -> Any:
        for place in tensors:
            if place < len(args) and not isinstance(args[place], torch.Tensor):
                args = _with_tensor(args, place)
        if _stock_on_cuda and any(isinstance(a, torch.Tensor) and a.is_cuda for a in args):
            return _stock_on_cuda[name].call_boxed(_CUDA, *args, **kwargs)
        return found.call_boxed(_CPU, *args, **kwargs)

    return call


def fetch_stock_of_cuda() -> None:
    """Fetch PyTorch's own CUDA kernels for `stock`: before ours stand in their places."""
    has = torch._C._dispatch_has_computed_kernel_for_dispatch_key
    for name in _stock_names:
        if name not in _stock_on_cuda and has(f"aten::{name}", "CUDA"):
            _stock_on_cuda[name] = torch.library.get_kernel(f"aten::{name}", "CUDA")


def _with_tensor(args: tuple[Any, ...], place: int) -> tuple[Any, ...]:
    beside = next((a for a in args if isinstance(a, torch.Tensor)), None)
    dtype = None if beside is None else torch.result_type(beside, args[place])
    return (*args[:place], torch.tensor(args[place], dtype=dtype), *args[place + 1 :])


def declare_safe(operator: Any, reason: str) -> None:
    """Let PyTorch's own kernel of `operator` ("lgamma", "torchvision::nms") compute under exact; recorded with the reason.

    It covers one overload: "add.Tensor" is not "add.out". That its bits never change, and are the same on a CPU and on a
    GPU where both are used, is your word, not diva's.
    """
    if not reason.strip():
        raise UsageError(f"declare_safe({operator!r}): say why its bits are the same on every machine")
    name = _known(operator)
    with _lock:
        _declared[name] = Declared(name, "safe", reason)
        _registered.pop(name, None)
    _changed()


def register(operator: Any, function: Kernel) -> None:
    """Let `function` serve `operator` under exact; recorded. It takes what the operator's schema says.

    Its in-place and out= forms are made from it, when it is given for the functional one.
    """
    name = _known(operator)
    if not any(
        torch._C._dispatch_has_kernel_for_dispatch_key(name, key)
        for key in ("CPU", "CUDA", "CompositeExplicitAutograd")
    ):
        raise UsageError(
            f"register({operator!r}): PyTorch composes it of other operators; register those that it is refused for"
        )
    with _lock:
        described = f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"
        _declared[name] = Declared(name, "kernel", described)
        _registered[name] = function
    _changed()


def declared() -> list[Declared]:
    """What was declared with `declare_safe` and `register`, sorted by operator: it belongs into a run's record."""
    return sorted(_declared.values())


def _known(operator: Any) -> str:
    """The full name, "aten::add.Tensor"."""
    name = str(operator.name() if isinstance(operator, torch._ops.OpOverload) else operator)
    full = name if "::" in name else f"aten::{name}"
    if not torch._C._dispatch_has_kernel(full):
        known = [one for one in torch._C._dispatch_get_all_op_names() if one.startswith(full.partition("::")[0])]
        raise UsageError(f"there is no operator {full}; {nearest(full, known) if known else 'load its library first'}")
    return full


def _changed() -> None:
    from diva.kernels import scope

    scope.renew()


def entries(cuda: bool = False) -> list[Entry]:
    """The whole table: every operator that has a kernel for the CPU, or gets one from us; with `cuda` also the GPU's; sorted."""
    found = []
    for key in (*KEYS, *CUDA_KEYS) if cuda else KEYS:
        ours = _ours(key)
        names = set(torch._C._dispatch_get_registrations_for_dispatch_key(key))
        names -= {f"aten::{name}" for name in COMPOSED_ON_CUDA} if key == "CUDA" else set()
        if key in ("CPU", "CUDA"):
            names |= ours.keys() | {f"aten::{name}" for name in safe.COMPUTE_THEMSELVES if _exists(f"aten::{name}")}
        found += [_entry(name, key, ours) for name in sorted(names)]
    if cuda:
        found += [
            _composed(f"aten::{name}", key) for name in sorted(COMPOSED_ON_CUDA) for key in ("AutogradCUDA", "CUDA")
        ]
    return found


def find(operator: str, key: str = "CPU") -> Entry:
    """The entry of one operator ("aten::add.Tensor")."""
    return _entry(operator, key, _ours(key))


def _entry(name: str, key: str, ours: dict[str, tuple[Kernel, str]]) -> Entry:
    said = _declared.get(name)
    if said is not None and said.kind == "safe":
        return Entry(name, key, "safe", f"declared: {said.reason}", None)
    if key not in ("CPU", "CUDA"):
        return Entry(name, key, "refused", safe.OTHER_LAYOUTS[key], refusal.refusing(name))
    if key == "CUDA" and name.removeprefix("aten::") in COMPOSED_ON_CUDA:
        return _composed(name, key)
    if name in ours:
        function, how = ours[name]
        return Entry(name, key, "ours", how, function if key == "CPU" else on_one_gpu(name, function))
    if key == "CUDA" and _is_composed_on_cpu(name):
        return Entry(name, key, "ours", "PyTorch's own composition, as on the CPU", composition(name))
    found = safe.reason(name, key)
    if found is None:
        return Entry(name, key, "refused", "no kernel of ours", refusal.refusing(name))
    why, guard = found
    return Entry(name, key, "safe", why, safe.guarded(name, guard, key) if guard else None)


def _composed(name: str, key: str) -> Entry:
    function = COMPOSED_ON_CUDA[name.removeprefix("aten::")]
    return Entry(name, key, "ours", "a composition by the CPU's route", function)


def on_one_gpu(name: str, function: Kernel) -> Kernel:
    """`function`, given tensors of one GPU only: it hands addresses to kernels, and would hand them others' too.

    A tensor on the CPU without dimensions is brought there, as PyTorch's own operators take it.
    """
    in_place = name.partition(".")[0].endswith("_")
    if name.startswith("aten::_fused_"):
        return function  # optimizer steps, whose counters and learning rate may lie on the CPU

    def call(*args: Any, **kwargs: Any) -> Any:
        device = None
        strangers: list[int] = []
        for place, given in enumerate(args):
            if isinstance(given, torch.Tensor):
                if not given.is_cuda:
                    strangers.append(place)
                elif device is None:
                    device = given.device
                elif given.device != device:
                    raise _elsewhere(device, given.device)
        for given in kwargs.values():
            if isinstance(given, torch.Tensor):
                device = device or given.device
                if given.device != device:
                    raise _elsewhere(device, given.device)
        if strangers and device is not None:
            brought = list(args)
            for place in strangers:
                if args[place].dim() or (in_place and place == 0):
                    raise _elsewhere(device, args[place].device)
                brought[place] = torch.full((), args[place].item(), dtype=args[place].dtype, device=device)
            return function(*brought, **kwargs)
        return function(*args, **kwargs)

    return call


def _elsewhere(one: torch.device, other: torch.device) -> RuntimeError:
    return RuntimeError(
        f"Expected all tensors to be on the same device, but found at least two devices, {one} and {other}!"
    )


def _is_composed_on_cpu(name: str) -> bool:
    """Whether only a GPU has a kernel of this operator, and the CPU calls others in its place: foreach, for one."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return _exists(name) and not has(name, "CPU") and has(name, "CompositeExplicitAutograd")


def composition(name: str) -> Kernel:
    """What stands for "aten::_foreach_add.List" where no device has a kernel of its own: calls of other operators."""
    found = torch.library.get_kernel(name, "CPU")

    def call(*args: Any, **kwargs: Any) -> Any:
        return found.call_boxed(_CUDA, *args, **kwargs)

    return call


def _ours(key: str) -> dict[str, tuple[Kernel, str]]:
    """Kernel and origin of all that we serve: what families declare, what users register, and the variants of both."""
    declared = OURS | OURS_ON_CUDA if key == "CUDA" else OURS
    named = {f"aten::{name}": (function, "kernel") for name, function in declared.items()}
    named |= {name: (function, f"registered: {_declared[name].reason}") for name, function in _registered.items()}
    made: dict[str, tuple[Kernel, str]] = {}
    for name, (function, _) in named.items():
        if name.startswith("aten::"):
            for variant, form in variants(name.removeprefix("aten::"), function).items():
                made[f"aten::{variant}"] = (form, f"from {name.removeprefix('aten::')}")
    return made | named


def _exists(name: str) -> bool:
    return bool(torch._C._dispatch_has_kernel(name))
