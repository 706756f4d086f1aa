"""Digests of tensors: the same values give the same string, whatever the device, layout or file format."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING

import numpy
import torch

from diva.learning.checkpoints import model_tensors, pack_optimizer, structure_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the tensors in the order of their names: for each its name, dtype and shape as JSON and its bytes, little-endian.

    Every NaN counts as the canonical quiet NaN, since its payload carries no result and differs between machines.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        header = [name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        digest.update(json.dumps(header).encode() + b"\n")
        digest.update(_bytes(tensor))
    return "sha256:" + digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    values = tensor.cpu().resolve_conj().resolve_neg().contiguous()
    if values.is_floating_point() and bool(torch.isnan(values).any()):
        values = torch.where(torch.isnan(values), torch.full_like(values, float("nan")), values)
    if values.numel() == 0:
        return memoryview(b"")
    flat = values.reshape(-1)
    if flat.stride(0) != 1:  # a single element may stand with any stride
        flat = flat.clone(memory_format=torch.contiguous_format)
    raw = flat.view(torch.uint8).numpy()
    if sys.byteorder == "big":
        raw = raw.reshape(-1, values.element_size())[:, ::-1].copy()
    return raw.reshape(-1).data


def digest_model(model: nn.Module) -> str:
    """Digest of all parameters and buffers of a model; with the structure of one that has such."""
    tensors, structure = digest_tensors(model_tensors(model)), structure_of(model)
    return tensors if structure is None else _of_text(f"{tensors}\n{structure}")


def digest_optimizer(optimizer: Optimizer) -> str:
    """Digest of an optimizer's state and parameter groups, as a checkpoint keeps them: JSON, and the tensors in it."""
    state, tensors = pack_optimizer(optimizer)
    return _of_text(f"{digest_tensors(tensors)}\n{json.dumps(state, sort_keys=True)}")


def _of_text(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def digest_order(order: numpy.ndarray) -> str:
    """Digest of the order in which samples were read: its int64 little-endian bytes."""
    return "sha256:" + hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()


def digest_losses(losses: Sequence[float]) -> str:
    """Digest of the bits of a list of losses, as binary64 little-endian; every NaN counts as one."""
    values = numpy.array(losses, dtype="<f8")
    values[numpy.isnan(values)] = numpy.nan
    return "sha256:" + hashlib.sha256(values.tobytes()).hexdigest()
