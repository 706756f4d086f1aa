"""Checkpoints: weights as safetensors, everything else as JSON; never pickles."""

from __future__ import annotations

import errno
import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from diva.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn
    from torch.optim import Optimizer


@runtime_checkable
class Restructurable(Protocol):
    """A model whose parameters are not always those that `Task.build_model` gives it, see `Task.end_epoch`."""

    def structure(self) -> Any:
        """What JSON can hold and `restructure` needs; kept in the same file as the weights, and part of their digest."""

    def restructure(self, structure: Any) -> None:
        """Take the structure that this model, or one like it, had: the same modules in the same order, their values do not matter."""


def structure_of(model: nn.Module) -> str | None:
    """The structure of a model as JSON with sorted keys; None for one whose structure is settled by its task."""
    return json.dumps(model.structure(), sort_keys=True, allow_nan=False) if isinstance(model, Restructurable) else None


def save_model(path: Path, model: nn.Module) -> None:
    """Write all parameters and buffers, and with them the structure, as `save_tensors` does."""
    save_tensors(path, model_tensors(model), structure_of(model))


def save_tensors(path: Path, tensors: Mapping[str, Tensor], structure: str | None = None) -> None:
    """Write tensors atomically: to a temporary sibling, flushed, then renamed. Tensors that share memory are written apart.

    structure: text that stands in the file's metadata.
    """
    import os

    own: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        memory = value.untyped_storage().data_ptr()
        own[name] = value.clone() if memory in seen else value
        seen.add(memory)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # as the umask has it; safetensors would leave the file to its owner alone
        save_file(own, temporary, None if structure is None else {"structure": structure})
        temporary.chmod(mode)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except SafetensorError as error:
        full = "os error 28" in str(error) or "No space left" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors; RecordError when the file is missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise RecordError(f"{path}: the checkpoint is missing") from None
    except Exception as error:
        raise RecordError(f"{path}: not a readable safetensors file ({error})") from None


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name, also buffers that a state dict leaves out and names that share a tensor."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


def load_model(path: Path, model: nn.Module) -> None:
    """Put the weights of a checkpoint into the model that made it, all of them; it takes the structure they had."""
    kept = load_tensors(path)
    if isinstance(model, Restructurable):
        with safe_open(path, "pt") as file:
            structure = (file.metadata() or {}).get("structure")
        if structure is None:
            raise RecordError(f"{path}: says nothing about the structure of the model")
        device = next((tensor.device for tensor in model_tensors(model).values()), torch.device("cpu"))
        model.restructure(json.loads(structure))
        model.to(device)
    own = model_tensors(model)
    strange = sorted(kept.keys() ^ own.keys()) or sorted(n for n in own if own[n].shape != kept[n].shape)
    if strange:
        raise RecordError(f"{path}: does not fit the model, in {', '.join(strange[:3])}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(kept[name])


def pack(state: Any, tensors: dict[str, Tensor], place: str = "") -> Any:
    """State as JSON, its tensors moved to `tensors` under the path of their place; `unpack` gives it back."""
    if isinstance(state, Tensor):
        tensors[place] = state
        return {"$tensor": place}
    if isinstance(state, dict):
        kind = "$counter" if isinstance(state, Counter) else "$items"
        return {kind: [[key, pack(value, tensors, f"{place}/{key}")] for key, value in state.items()]}
    if isinstance(state, (list, tuple)):
        items = [pack(value, tensors, f"{place}/{i}") for i, value in enumerate(state)]
        return {"$tuple": items} if isinstance(state, tuple) else items
    if isinstance(state, float) and not math.isfinite(state):
        return {"$float": repr(state)}
    if state is None or isinstance(state, (bool, int, float, str)):
        return state
    raise TypeError(f"{place}: a {type(state).__name__} cannot be kept in a checkpoint")


def unpack(state: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `pack` packed."""
    if isinstance(state, list):
        return [unpack(value, tensors) for value in state]
    if not isinstance(state, dict):
        return state
    ((kind, value),) = state.items()
    if kind == "$tensor":
        return tensors[value]
    if kind == "$float":
        return float(value)
    if kind == "$tuple":
        return tuple(unpack(item, tensors) for item in value)
    items = {key: unpack(item, tensors) for key, item in value}
    return Counter(items) if kind == "$counter" else items


def pack_optimizer(optimizer: Optimizer) -> tuple[Any, dict[str, Tensor]]:
    """An optimizer's state as JSON and tensors."""
    tensors: dict[str, Tensor] = {}
    return pack(optimizer.state_dict(), tensors, "optimizer"), tensors


def pack_schedule(schedule: Any) -> Any:
    """A schedule's state as JSON; a chained one with its parts."""
    if schedule is None:
        return None
    state = dict(schedule.state_dict())
    tensors: dict[str, Tensor] = {}
    packed = pack({name: value for name, value in state.items() if not callable(value)}, tensors)
    if tensors:
        raise TypeError("a schedule that keeps tensors cannot be kept in a checkpoint")
    return packed


def load_weights(path: Path) -> dict[str, Tensor]:
    """Weights from a file of someone's: safetensors, or a `.pt`/`.pth` state dict read without executing pickled code."""
    if not path.is_file():
        raise RecordError(
            f"{path}: no such file; --load takes a run's folder, a .safetensors file or a .pth state dict"
        )
    if path.suffix == ".safetensors":
        return load_tensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RecordError(
            f"{path}: not a state dict that can be read safely ({type(error).__name__}: {' '.join(str(error).split())[:100]})"
        ) from None
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise RecordError(f"{path}: holds no state dict of tensors")
    wrapped = all(str(name).startswith("module.") for name in state)  # as torch.nn.DataParallel writes them
    return {str(name).removeprefix("module." if wrapped else ""): value for name, value in state.items()}
