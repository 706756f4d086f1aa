"""The thread pool: workers sleep, survive fork and threads, and leave the floating-point settings of others alone."""

from __future__ import annotations

import os
import threading

import pytest
import torch

from diva.kernels.exact import exact
from diva.kernels.library import native


def product(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(257, 300, generator=generator) for _ in range(2))
    return torch.mm(a, b.t())


@pytest.fixture
def expected() -> torch.Tensor:
    native.set_threads(1)
    with exact():
        return product()


@pytest.mark.parametrize("n", [2, 3, 8])
def test_any_number_of_threads_gives_the_same_bits(n, expected):
    with exact():
        native.set_threads(n)
        for _ in range(20):
            assert torch.equal(product(), expected)


def test_threads_that_compute_at_once_do_not_disturb_each_other(expected):
    failed = []

    def compute() -> None:
        for _ in range(30):
            if not torch.equal(product(), expected):
                failed.append(1)

    with exact():
        native.set_threads(3)
        threads = [threading.Thread(target=compute) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking beside threads is what is tried
def test_a_forked_child_computes_with_threads_of_its_own(expected):
    with exact():
        native.set_threads(2)
        product()
        child = os.fork()
        if child == 0:
            same = torch.equal(product(), expected)
            os._exit(0 if same else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert torch.equal(product(), expected)


def test_denormals_are_kept_though_another_library_flushes_them():
    tiny = torch.tensor([[1e-30]])
    torch.set_flush_denormal(True)
    try:
        with exact():
            assert torch.mm(tiny, torch.tensor([[1e-10]])).item() > 0
    finally:
        torch.set_flush_denormal(False)
