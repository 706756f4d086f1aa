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

OURS: dict[str, Kernel] = {}
_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
# Dispatch keys whose kernels compute on the CPU. Ours stand at the first; on the others everything is refused.
KEYS = ("CPU", "SparseCPU", "SparseCsrCPU", "QuantizedCPU", "MkldnnCPU", "NestedTensorCPU")


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


def kernel(*names: str) -> Callable[[Kernel], Kernel]:
    """Declare that the function serves the aten operators `names` ("mm", "add.Tensor": the functional overloads).

    The function takes what the operator's schema says (Python numbers may stand where it says Tensor) and returns new
    tensors. With a keyword `out` it can write its one result into that tensor instead: same shape and dtype as the
    result, any dense layout, it may be `self` itself; in-place and out= forms are made from it.
    """

    def declare(function: Kernel) -> Kernel:
        for name in names:
            if name in OURS:
                raise ValueError(f"aten::{name} has two kernels: {OURS[name].__qualname__} and {function.__qualname__}")
            OURS[name] = function
        return function

    return declare


def stock(name: str) -> Kernel:
    """PyTorch's own CPU kernel of "add.Tensor", fetched now: call it at import, before any override stands.

    Where the schema says Tensor a Python number may stand; it becomes a tensor of the type that PyTorch would give it.
    """
    found = torch.library.get_kernel(f"aten::{name}", "CPU")
    base, _, overload = name.partition(".")
    schema = getattr(getattr(torch.ops.aten, base), overload or "default")._schema
    tensors = [place for place, argument in enumerate(schema.arguments) if str(argument.type) == "Tensor"]

    def call(*args: Any, **kwargs: Any) -> Any:
        for place in tensors:
            if place < len(args) and not isinstance(args[place], torch.Tensor):
                args = _with_tensor(args, place)
        return found.call_boxed(_CPU, *args, **kwargs)

    return call


def _with_tensor(args: tuple[Any, ...], place: int) -> tuple[Any, ...]:
    beside = next((a for a in args if isinstance(a, torch.Tensor)), None)
    dtype = None if beside is None else torch.result_type(beside, args[place])
    return (*args[:place], torch.tensor(args[place], dtype=dtype), *args[place + 1 :])


def declare_safe(operator: Any, reason: str) -> None:
    """Let PyTorch's own CPU kernel of `operator` ("lgamma", "torchvision::nms") compute under exact; recorded with the reason.

    It covers one overload: "add.Tensor" is not "add.out". That its bits never change is your word, not diva's.
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
        torch._C._dispatch_has_kernel_for_dispatch_key(name, key) for key in ("CPU", "CompositeExplicitAutograd")
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


def entries() -> list[Entry]:
    """The whole table: every operator that has a kernel for the CPU, or gets one from us; sorted."""
    ours = _ours()
    found = []
    for key in KEYS:
        names = set(torch._C._dispatch_get_registrations_for_dispatch_key(key))
        if key == "CPU":
            names |= ours.keys() | {f"aten::{name}" for name in safe.COMPUTE_THEMSELVES if _exists(f"aten::{name}")}
        found += [_entry(name, key, ours) for name in sorted(names)]
    return found


def find(operator: str, key: str = "CPU") -> Entry:
    """The entry of one operator ("aten::add.Tensor")."""
    return _entry(operator, key, _ours())


def _entry(name: str, key: str, ours: dict[str, tuple[Kernel, str]]) -> Entry:
    said = _declared.get(name)
    if said is not None and said.kind == "safe":
        return Entry(name, key, "safe", f"declared: {said.reason}", None)
    if key != "CPU":
        return Entry(name, key, "refused", safe.OTHER_LAYOUTS[key], refusal.refusing(name))
    if name in ours:
        function, how = ours[name]
        return Entry(name, key, "ours", how, function)
    found = safe.reason(name)
    if found is None:
        return Entry(name, key, "refused", "no kernel of ours", refusal.refusing(name))
    why, guard = found
    return Entry(name, key, "safe", why, safe.guarded(name, guard) if guard else None)


def _ours() -> dict[str, tuple[Kernel, str]]:
    """Kernel and origin of all that we serve: what families declare, what users register, and the variants of both."""
    named = {f"aten::{name}": (function, "kernel") for name, function in OURS.items()}
    named |= {name: (function, f"registered: {_declared[name].reason}") for name, function in _registered.items()}
    made: dict[str, tuple[Kernel, str]] = {}
    for name, (function, _) in named.items():
        if name.startswith("aten::"):
            for variant, form in variants(name.removeprefix("aten::"), function).items():
                made[f"aten::{variant}"] = (form, f"from {name.removeprefix('aten::')}")
    return made | named


def _exists(name: str) -> bool:
    return bool(torch._C._dispatch_has_kernel(name))
