"""Weights from elsewhere: what matched, what was left as initialised, and what does not fit."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch

from diva.errors import UsageError, nearest
from diva.learning.checkpoints import model_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn


def start_from(model: nn.Module, weights: Mapping[str, Tensor], skip: Sequence[str], origin: str) -> str:
    """Put weights from elsewhere into the model: all names must match, with equal shapes, but those that `skip` names.

    skip: shell patterns of names that keep their fresh values. Returns a line that says what matched.
    """
    own = model_tensors(model)
    for pattern in skip:
        if not any(fnmatchcase(name, pattern) for name in own.keys() | weights.keys()):
            raise UsageError(
                f"--load-skip {pattern}: no tensor of {origin} or the model has such a name; {nearest(pattern, own)}"
            )
    skipped = {name for name in own.keys() | weights.keys() if any(fnmatchcase(name, pattern) for pattern in skip)}
    missing = sorted(own.keys() - weights.keys() - skipped)
    surplus = sorted(weights.keys() - own.keys() - skipped)
    shapes = sorted(n for n in own.keys() & weights.keys() - skipped if own[n].shape != weights[n].shape)
    problems = [
        *(f"{n} is missing" for n in missing),
        *(f"{n} is not in the model" for n in surplus),
        *(f"{n} is {list(weights[n].shape)}, the model's is {list(own[n].shape)}" for n in shapes),
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UsageError(
            f"{origin}: {'; '.join(problems[:3])}{more}. Leave tensors out by name with --load-skip PATTERN, as in --load-skip 'fc.*'"
        )
    taken = {name: weights[name] for name in own if name in weights and name not in skipped}
    with torch.no_grad():
        for name, tensor in taken.items():
            own[name].copy_(tensor)
    fresh = (
        f"; left as initialised: {', '.join(sorted(own.keys() - taken.keys()))}" if own.keys() - taken.keys() else ""
    )
    return f"loaded {len(taken)} of {len(own)} tensors from {origin}{fresh}"
