"""What a model is, for the record: parameters, MACs of a sample, and a table of its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diva.data.loading import collate_of, to_device
from diva.learning.loop import mixed_precision
from diva.learning.sizes import measure
from diva.records.files import hide_home

if TYPE_CHECKING:
    from diva.learning.loop import Learner

MOST_ROWS = 40


def describe_model(learner: Learner) -> dict[str, Any]:
    """The model as the manifest keeps it; `macs` and `output` are those of the first validation sample.

    A model that cannot be watched costs a sentence, `not_counted`, and no run. Changes no bit: see `measure`.
    """
    model = learner.model
    parameters = list(model.parameters())
    plain: dict[str, Any] = {
        "class": type(model).__name__,
        "parameters": sum(p.numel() for p in parameters),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
    }
    try:
        with mixed_precision(learner.task, learner.device):
            sizes = measure(model, lambda: learner.task.training_step(model, one_sample(learner), learner.data))
    except Exception as error:
        why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        layers = [{"name": name, "class": type(module).__name__} for name, module in model.named_modules()]
        return {**plain, "macs": None, "not_counted": hide_home(why), "layers": layers}
    layers = [
        {
            "name": layer.name,
            "class": layer.kind,
            "output": None if layer.output is None else list(layer.output),
            "parameters": layer.parameters,
            "macs": layer.macs,
        }
        for layer in sizes.layers
    ]
    return {**plain, "macs": sizes.macs, "layers": layers}


def one_sample(learner: Learner, index: int = 0) -> Any:
    """A sample of the validation split as a batch of one, on the device."""
    val = learner.data.val
    return to_device(collate_of(val)([val[index]]), learner.device)


def layer_rows(layers: list[dict[str, Any]]) -> list[list[Any]]:
    """Rows name, class, output, parameters, MACs, at most about 40: a deep model's by block, all that is in a block summed.

    Layers are those that hold no others; a module that computes beside them stays, with what is its own.
    """
    names = [layer["name"] for layer in layers]
    inner = {name.rpartition(".")[0] for name in names if name}
    depth = max((name.count(".") + 1 for name in names if name), default=0)
    while True:
        rows = [row for layer in layers if (row := _row(layer, layers, inner, depth)) is not None]
        if len(rows) <= MOST_ROWS or depth <= 1:
            return rows
        depth -= 1


def _row(layer: dict[str, Any], layers: list[dict[str, Any]], inner: set[str], depth: int) -> list[Any] | None:
    """The row of a layer in a table so deep, None where those in it have theirs."""
    name = layer["name"]
    level = name.count(".") + 1 if name else 0
    if level > depth:
        return None
    holds = name in inner
    parts = [other for other in layers if other["name"].startswith(f"{name}.")] if holds and level == depth else []
    if holds and not parts and not layer.get("parameters") and not layer.get("macs"):
        return None
    n_parameters, n_macs = (sum(part.get(key, 0) for part in (layer, *parts)) for key in ("parameters", "macs"))
    output = " x ".join(map(str, layer.get("output") or ())) or ("" if "output" in layer else "not counted")
    return [name or "(model)", layer["class"], output, f"{n_parameters:,}" if n_parameters else "", _thousands(n_macs)]


def _thousands(number: int) -> str:
    return f"{number:,}" if number else ""


def in_words(macs: int) -> str:
    """A number of MACs as papers write it: 1.814 G, 80.74 M, 12.0 k."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if macs >= size:
            return f"{macs / size:.4g} {unit}"
    return str(macs)
