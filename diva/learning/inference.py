"""Inference: what a finished model says of samples it has not seen, averaged over views of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from diva.data.loading import Batches
from diva.learning.features import PENULTIMATE, FeatureTap
from diva.learning.loop import mixed_precision
from diva.seeding import reseeder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from diva.learning.task import Data, Outputs, Task
    from diva.seeding import Seeds

AVERAGED = ("probabilities", "features")


def infer(
    task: Task,
    model: nn.Module,
    data: Data,
    views: Sequence[Any],
    seeds: Seeds,
    batch_size: int,
    device: torch.device,
    *,
    layer: str | None,
    advance: Callable[[int], None] = lambda n: None,
) -> tuple[dict[str, Tensor], str]:
    """The outputs of `task.predict` for all samples, on the CPU, and what the features are, "" when there are none.

    views: data sets of the same samples in the same order. Of several, `probabilities` and `features` are their mean, added in the order
    of the views, and other outputs those of the first. layer: "none", a layer, or None for the features of the task, else those of the
    last linear layer. The generators are re-seeded before every batch; `advance` is told how many samples are done.
    """
    readers = [Batches(view, seeds, batch_size, device=device) for view in views]
    keys, reseed = seeds.keys(len(readers[0]), "apply"), reseeder()
    kept: list[dict[str, Tensor]] = []
    name = ""
    tap = FeatureTap(model, PENULTIMATE if layer is None or layer == "none" else layer)
    model.eval()
    with torch.no_grad(), mixed_precision(task, device), tap:
        batches = zip(*(reader.epoch(0) for reader in readers), strict=True)
        for key, size, seen in zip(keys, readers[0].sizes(), batches, strict=True):
            parts = []
            for batch in seen:
                reseed(key)
                part = {n: v.detach() for n, v in task.predict(model, batch, data).items()}
                tapped = tap.take(size, required=layer not in (None, "none"))
                if layer == "none":
                    part.pop("features", None)
                elif layer is None and "features" in part:
                    name = "the task's own"
                elif tapped is not None:
                    part["features"], name = tapped, tap.name
                parts.append({n: v.float() if n in AVERAGED else v for n, v in part.items()})
            kept.append(_mean(parts))
            advance(size)
    common = [n for n in kept[0] if all(n in outputs for outputs in kept)]
    joined = {n: torch.cat([outputs[n] for outputs in kept]).cpu() for n in common}
    return joined, name if "features" in joined else ""


def _mean(parts: Sequence[Outputs]) -> dict[str, Tensor]:
    if len(parts) == 1:
        return dict(parts[0])
    mean = dict(parts[0])
    for name in mean.keys() & set(AVERAGED):
        for part in parts[1:]:
            mean[name] = mean[name] + part[name]
        mean[name] = mean[name] / len(parts)
    return mean
