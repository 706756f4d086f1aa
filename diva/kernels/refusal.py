"""Refusals: an operator without an exact kernel stops the run, and says which one, where, and what to do."""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch

from diva.errors import KernelError

# What computes the same by operators that are served.
INSTEAD = {
    "aten::_amp_foreach_non_finite_check_and_unscale": "float32 without a GradScaler",
    "aten::_amp_update_scale": "float32 without a GradScaler",
    "aten::_cdist_forward": 'cdist(..., compute_mode="use_mm_for_euclid_dist")',
    "aten::_cudnn_rnn": "torch.nn.LSTM, GRU or RNN",
    "aten::_fused_dropout": "torch.nn.functional.dropout",
    "aten::_thnn_fused_gru_cell": "torch.nn.GRUCell",
    "aten::_thnn_fused_lstm_cell": "torch.nn.LSTMCell",
    "aten::cudnn_batch_norm": "torch.nn.functional.batch_norm",
    "aten::cudnn_convolution": "torch.nn.functional.conv2d",
    "aten::linalg_inv_ex": "a float64 computation in NumPy before the run",
    "aten::prod": "exp of a sum of logarithms",
}
_LIBRARIES = tuple(
    {
        f"{Path(folder)}/"
        for folder in (*sysconfig.get_paths().values(), str(Path(torch.__file__).parent))
        if "bin" not in str(folder)
    }
)
_OWN = str(Path(__file__).parent)


def refusing(operator: str, because: str = "") -> Callable[..., NoReturn]:
    """A kernel that refuses: KernelError with the operator's name and the user's line."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise refused(operator, because)

    return refuse


def refused(operator: str, because: str = "") -> KernelError:
    """The error for an operator that is called now."""
    short = operator.removeprefix("aten::")
    instead = INSTEAD.get(re.sub(r"_?(\..*)?$", "", operator))
    said = f"use {instead}, or --backend torch" if instead else "use --backend torch"
    return KernelError(
        f"{operator} has no exact kernel{because and f' {because}'}; called {_called_from()}; {said}, or say that PyTorch's own "
        f"is exact: diva.kernels.declare_safe({short!r}, reason), or bring one: diva.kernels.register({short!r}, function)"
    )


def _called_from() -> str:
    place = _users_line()
    node: Any = torch._C._current_autograd_node()
    if node is None:
        return f"at {place}"
    forward = f"in the backward of {operator_of(node.name())}"
    lines = [line for line in node.metadata.get("traceback_", []) if _is_users(_file_of(line))]
    if lines:
        return f"{forward}, whose forward ran at {_place_in(lines[-1])}"
    return f"{forward}, started at {place} (torch.autograd.set_detect_anomaly(True) shows the line of the forward)"


def operator_of(node: str) -> str:
    """The operator whose gradient an autograd node computes: "LogSoftmaxBackward0" is log_softmax."""
    name = re.sub(r"Backward\d*$", "", node)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() or node


def _users_line() -> str:
    frame: FrameType | None = sys._getframe()
    inner = None
    while frame is not None:
        file = frame.f_code.co_filename
        if _is_users(file):
            return f"{file}:{frame.f_lineno}"
        if (
            inner is None
            and not file.startswith((_OWN, "<frozen", "<eval"))
            and f"{Path(torch.__file__).parent}/" not in file
        ):
            inner = f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return inner or "no place known"


def _is_users(file: str) -> bool:
    return not file.startswith((*_LIBRARIES, _OWN, "<frozen", "<eval")) and "site-packages" not in file


def _file_of(line: str) -> str:
    found = re.search(r'File "([^"]+)"', line)
    return found.group(1) if found else "<unknown>"


def _place_in(line: str) -> str:
    found = re.search(r'File "([^"]+)", line (\d+)', line)
    return f"{found.group(1)}:{found.group(2)}" if found else line.strip()
