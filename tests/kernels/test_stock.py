"""PyTorch is held still while a run computes, and is afterwards what it was before."""

import os
from typing import Any

import pytest
import torch

from diva.errors import KernelError, UsageError
from diva.kernels.stock import WORKSPACE, choose_device, describe, deterministic, loosened, pin, prepare_process

FILL: Any = torch.utils.deterministic


def settings():
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill": FILL.fill_uninitialized_memory,
        "threads": torch.get_num_threads(),
        "benchmark": torch.backends.cudnn.benchmark,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
    }


@pytest.fixture(autouse=True)
def unusual():
    """Every setting other than the context asks for; restored afterwards."""
    before = settings()
    torch.use_deterministic_algorithms(True, warn_only=True)
    FILL.fill_uninitialized_memory = True
    torch.set_num_threads(3)
    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    yield settings()
    torch.use_deterministic_algorithms(before["deterministic"], warn_only=before["warn_only"])
    FILL.fill_uninitialized_memory = before["fill"]
    torch.set_num_threads(before["threads"])
    torch.backends.cudnn.benchmark = before["benchmark"]
    torch.backends.cudnn.allow_tf32 = before["cudnn_tf32"]
    torch.backends.cuda.matmul.allow_tf32 = before["matmul_tf32"]


HELD = {"deterministic": True, "warn_only": False, "fill": False, "benchmark": False}


@pytest.mark.parametrize("tf32", [False, True])
def test_inside_everything_is_held(tf32):
    with deterministic(2, tf32=tf32):
        assert settings() == {**HELD, "threads": 2, "cudnn_tf32": tf32, "matmul_tf32": tf32}


def test_settings_are_restored(unusual):
    with deterministic(1):
        pass
    assert settings() == unusual


def test_settings_are_restored_after_an_error(unusual):
    with pytest.raises(ZeroDivisionError), deterministic(1):
        1 / 0  # noqa: B018
    assert settings() == unusual


def test_settings_are_restored_when_they_cannot_be_set(unusual):
    with pytest.raises(RuntimeError, match="positive"), deterministic(0):
        pass
    assert settings() == unusual


def test_nested_use_restores_each_level(unusual):
    with deterministic(2):
        outer = settings()
        with deterministic(1, tf32=True):
            assert torch.get_num_threads() == 1 and torch.backends.cuda.matmul.allow_tf32
        assert settings() == outer
    assert settings() == unusual


MESSAGE = (
    "kthvalue CUDA does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms(True)'. "
    "You can turn off determinism just for this operation"
)


def test_an_operator_without_a_deterministic_form_is_refused_by_name(monkeypatch):
    def fail(*args):
        raise RuntimeError(MESSAGE)

    monkeypatch.setattr(torch, "kthvalue", fail)
    with (
        pytest.raises(KernelError, match=r"^kthvalue CUDA does not have a deterministic implementation") as raised,
        deterministic(1),
    ):
        torch.kthvalue(torch.ones(3), 1)
    assert "turn off" not in str(raised.value) and "--device cpu" in str(raised.value)
    assert raised.value.exit_code == 6 and isinstance(raised.value.__cause__, RuntimeError)


def test_other_errors_pass_unchanged():
    with pytest.raises(RuntimeError, match=r"^something else$"), deterministic(1):
        raise RuntimeError("something else")
    with pytest.raises(ValueError, match="does not have a deterministic"), deterministic(1):
        raise ValueError(MESSAGE)


@pytest.mark.gpu
def test_a_real_operator_without_a_deterministic_form_is_refused_on_a_gpu(device):
    with pytest.raises(KernelError, match="deterministic"), deterministic(1):
        torch.nn.MaxUnpool2d(2)(
            torch.ones(1, 1, 2, 2, device=device), torch.zeros(1, 1, 2, 2, dtype=torch.long, device=device)
        )


# Devices


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that PyTorch sees `n` GPUs."""

    def pretend(n):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n)

    return pretend


def test_auto_takes_a_gpu_when_there_is_one(gpus):
    gpus(2)
    assert choose_device("auto") == torch.device("cuda:0")
    gpus(0)
    assert choose_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("asked", ["cpu", "cuda", "cuda:0", "cuda:1"])
def test_a_device_is_taken_as_named(gpus, asked):
    gpus(2)
    assert choose_device(asked) == torch.device("cuda:0" if asked == "cuda" else asked)


@pytest.mark.parametrize(("asked", "n"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2), ("cuda:10", 2)])
def test_a_gpu_that_is_not_there_is_refused_with_their_number(gpus, asked, n):
    gpus(n)
    with pytest.raises(UsageError, match=f"^--device {asked}: PyTorch sees {n} CUDA devices here; use --device cpu$"):
        choose_device(asked)


@pytest.mark.parametrize("asked", ["gpu", "cuda:x", "cuda:-1", "cuda:0:1", "mps", "", "CPU", "cuda:²", "cuda: 0"])
def test_anything_else_is_refused_with_what_is_allowed(gpus, asked):
    gpus(2)
    with pytest.raises(UsageError, match="allowed are auto, cpu, cuda and cuda:<number>"):
        choose_device(asked)


@pytest.mark.parametrize("before", ["", ":16:8"])
def test_the_workspace_is_set_whatever_the_user_has(monkeypatch, before):
    """No variable of the environment may change bits."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", before)
    prepare_process()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == WORKSPACE == ":4096:8"


def test_pins_that_were_undone_are_named_and_set_again():
    with deterministic(1):
        torch.backends.cudnn.benchmark = True
        torch.use_deterministic_algorithms(False)
        assert loosened(1) == ["benchmark", "deterministic"]
        pin(1)
        assert loosened(1) == []


def test_what_can_change_bits_is_described():
    with deterministic(2):
        found = describe(torch.device("cpu"))
    assert found["version"] == torch.__version__
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert (found["threads"], found["device"]) == (2, "cpu")
    assert found["blas"] in torch.__config__.show()
