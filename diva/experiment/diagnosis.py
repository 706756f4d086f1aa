"""What `diva doctor` looks at, each finding with what to do when it is not right."""

from __future__ import annotations

import platform
import shutil
import sys
from typing import TYPE_CHECKING, NamedTuple

import diva
from diva.errors import DivaError

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    names = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    yield Finding("gpu", True, ", ".join(names) or "none that PyTorch can use; the CPU computes")
    if facts["missing"]:
        yield Finding("not known", True, " ".join(facts["missing"]))


def _same_bits() -> Finding:
    """Train a small network twice, its generators poisoned in between, and compare the digests of the weights."""
    import torch

    from diva.kernels import stock

    with stock.deterministic(threads=1):
        first = _train_a_little()
        torch.manual_seed(1)
        second = _train_a_little()
    said = (
        f"training twice gives {first[:19]}... twice"
        if first == second
        else "training twice gives different weights; please report it"
    )
    return Finding("self-test", first == second, said)


def _train_a_little() -> str:
    import torch

    from diva.learning.digests import digest_model
    from diva.seeding import Seeds

    Seeds(0).reseed("init")
    images, labels = torch.randn(32, 1, 8, 8), torch.arange(32) % 10
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 10))
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return digest_model(model)
