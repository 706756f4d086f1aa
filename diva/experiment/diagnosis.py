"""What `diva doctor` looks at, each finding with what to do when it is not right."""

from __future__ import annotations

import platform
import shutil
import sys
from typing import TYPE_CHECKING, NamedTuple

import diva
from diva.errors import DivaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch import Tensor

    from diva.kernels.table import Entry


class Finding(NamedTuple):
    """One line of the examination."""

    what: str
    ok: bool
    found: str


def examine() -> Iterator[Finding]:
    """Every finding, the quick ones first."""
    supported = sys.platform in ("linux", "darwin")
    yield Finding("diva", True, diva.__version__)
    yield Finding(
        "python", sys.version_info >= (3, 11), f"{platform.python_version()} ({platform.python_implementation()})"
    )
    yield Finding(
        "system",
        supported,
        platform.platform() if supported else f"{sys.platform} is not supported; use Linux or macOS",
    )
    yield _git()
    yield from _libraries()
    yield from _machine()
    yield _same_bits()


def _git() -> Finding:
    found = shutil.which("git")
    return Finding("git", True, "found" if found else "not found: runs keep a snapshot of the code but name no commit")


def _libraries() -> Iterator[Finding]:
    import numpy
    import torch

    from diva.data.images import decoder
    from diva.torchvision_shim import import_torchvision

    yield Finding(
        "torch",
        True,
        f"{torch.__version__}, built {'with CUDA ' + torch.version.cuda if torch.version.cuda else 'for the CPU'}",
    )
    yield Finding("numpy", True, numpy.__version__)
    yield Finding("images", True, decoder())
    try:
        yield Finding("torchvision", True, str(import_torchvision().__version__))
    except DivaError as error:
        yield Finding("torchvision", False, str(error))


def _machine() -> Iterator[Finding]:
    import torch

    from diva.kernels import stock
    from diva.records import environment

    facts = environment.describe(stock.describe(torch.device("cpu")))
    cpu = facts["cpu"]
    yield Finding(
        "cpu",
        True,
        f"{cpu.get('model')}: {cpu.get('n_logical')} threads, kernels for {facts['torch']['cpu_capability']}",
    )
    yield _kernels()
    names = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    yield Finding("gpu", True, ", ".join(names) or "none that PyTorch can use; the CPU computes")
    if facts["missing"]:
        yield Finding("not known", True, " ".join(facts["missing"]))


def _kernels() -> Finding:
    from diva.kernels.backends import SPECIFICATION
    from diva.kernels.library import available, choose

    try:
        return Finding("kernels", True, f"{SPECIFICATION}, {choose()} of {', '.join(available())}")
    except DivaError as error:
        return Finding("kernels", False, str(error))


def _same_bits() -> Finding:
    """Train two small networks under the exact kernels: their weights must have the digests that they have everywhere."""
    from diva.experiment import proof
    from diva.kernels.exact import exact

    with exact():
        parted = [name for name in ("unet", "transformer") if proof.train(name) != proof.DIGESTS[name]]
    said = (
        f"training gives other bits than elsewhere ({', '.join(parted)}); please report it"
        if parted
        else f"training gives the bits that it gives on every machine ({proof.DIGESTS['unet'][:19]}...)"
    )
    return Finding("self-test", not parted, said)


def operators(name: str = "") -> list[Entry]:
    """The table of operators with `name` in theirs: those that our kernels serve first, then safe, then refused."""
    from diva.kernels import operators as families
    from diva.kernels import table

    families.load()
    order = {"ours": 0, "safe": 1, "refused": 2}
    found = [entry for entry in table.entries() if name in entry.operator]
    return sorted(found, key=lambda entry: (order[entry.served], entry.operator, entry.key))


def operator_lines(entries: list[Entry], width: int = 80) -> Iterator[str]:
    """One line each, at most `width` wide: who serves it, its name, and how or why."""
    for entry in entries:
        shown = entry.operator.removeprefix("aten::") + ("" if entry.key == "CPU" else f" ({entry.key})")
        line = f"{entry.served:<7} {shown:<34} {entry.why}"
        yield line if len(line) <= width else line[: width - 3] + "..."


def matrix(threads: tuple[int, ...] = (1, 2, 3, 8)) -> Iterator[Finding]:
    """Whether each computation gives the same bits with every instruction set of this machine and every number of threads."""
    import torch

    from diva.errors import KernelError
    from diva.kernels.exact import exact
    from diva.kernels.library import available, native

    sets = available()
    yield Finding("matrix", bool(sets), f"{', '.join(sets)} x {', '.join(map(str, threads))} threads")
    used = native.instruction_set().decode()
    try:
        for name, compute in _COMPUTATIONS.items():
            digests: dict[str, list[str]] = {}
            try:
                for instruction_set in sets:
                    native.use(instruction_set)
                    for count in threads:
                        with exact(seed=0), torch.enable_grad():
                            native.set_threads(count)
                            digests.setdefault(_digest(compute()), []).append(f"{instruction_set} x {count}")
            except KernelError as error:
                yield Finding(name, False, str(error).partition(";")[0])
                continue
            if len(digests) == 1:
                yield Finding(name, True, f"{next(iter(digests))[:23]}... everywhere")
            else:
                groups = "; ".join(f"{digest[7:15]}: {', '.join(where)}" for digest, where in digests.items())
                yield Finding(name, False, f"bits differ: {groups}")
    finally:
        native.use(used)


def _digest(tensors: list[Tensor]) -> str:
    from diva.learning.digests import digest_tensors

    return digest_tensors({str(number): tensor.detach() for number, tensor in enumerate(tensors)})


def _elementwise() -> list[Tensor]:
    import torch

    x = torch.randn(10007)
    return [
        x,
        x.exp(),
        x.abs().log(),
        x.tanh(),
        x.sigmoid(),
        x * 3 + x / 7,
        x.abs().sqrt(),
        torch.nn.functional.gelu(x),
    ]


def _products() -> list[Tensor]:
    import torch

    a, b = torch.randn(67, 519), torch.randn(519, 45)
    images, weights = torch.randn(3, 5, 17, 19), torch.randn(7, 5, 3, 3)
    return [a @ b, torch.nn.functional.conv2d(images, weights, stride=2, padding=1)]


def _reductions() -> list[Tensor]:
    import torch

    x = torch.randn(31, 5003)
    return [x.sum(), x.mean(0), x.var(1), x.softmax(1), x.log_softmax(0), x.cumsum(1), x.norm()]


def _train_convolutional() -> list[Tensor]:
    from torch import nn

    return _train(
        nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.1),
            nn.Flatten(),
            nn.Linear(72, 10),
        ),
        (16, 3, 8, 8),
    )


def _train_attention() -> list[Tensor]:
    from torch import nn

    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return _train(nn.Sequential(layer, nn.Flatten(), nn.Linear(16 * 12, 10)), (8, 12, 16))


def _train(model: torch.nn.Module, shape: tuple[int, ...]) -> list[Tensor]:
    import torch

    optimizer = torch.optim.AdamW(model.parameters())
    labels = torch.arange(shape[0]) % 10
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.randn(shape)), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return list(model.state_dict().values())


_COMPUTATIONS: dict[str, Callable[[], list[Tensor]]] = {
    "elementwise": _elementwise,
    "products": _products,
    "reductions": _reductions,
    "convolutional": _train_convolutional,
    "attention": _train_attention,
}
