"""The activation study of a run: what each layer makes of some samples while it learns, as JSON and as figures."""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING, Any

import numpy

from diva.errors import UsageError
from diva.experiment.describe import one_sample
from diva.experiment.writers import is_drawn
from diva.learning.activations import Activation, capture
from diva.learning.events import EpochEnded, Evaluated, Event
from diva.learning.loop import mixed_precision
from diva.records.files import read_json, write_atomic
from diva.report.activation_figures import activation_curves, activation_sheet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from diva.experiment.writers import BoardWriter
    from diva.learning.loop import Learner
    from diva.records.run_folder import RunFolder
    from diva.report.console import Console

MOST_SAMPLES = 16
MOST_SHEETS = 4
MAP_SIDE = 16
MOST_NUMBERS = 200_000  # of means of filters in one file
MOST_MAP_BYTES = 2_000_000  # of maps in one file


def check_samples(n: int) -> None:
    """UsageError when `--activations` is out of its range."""
    if not 0 <= n <= MOST_SAMPLES:
        raise UsageError(f"--activations {n}: allowed are 0 to {MOST_SAMPLES} samples")


class ActivationWriter:
    """`activations/epoch-NNNN.json` after epochs 0, 1, 2, 4, 8, ... and the last, of samples spread over the validation split.

    Also a sheet for each of the first four, and how the layers' mean absolute activation develops, where figures are made. It reads;
    what it draws from generators, and every mode and buffer, is put back: the run has the bits of one without it.
    """

    def __init__(self, run: RunFolder, learner: Learner, n: int, board: BoardWriter | None, console: Console) -> None:
        self._run, self._learner, self._board, self._console = run, learner, board, console
        n_val = len(learner.data.val)  # type: ignore[arg-type]
        self._samples = [i * n_val // n for i in range(n)] if n <= n_val else list(range(n_val))

    def write(self, event: Event, numbers: Mapping[str, float] | None) -> None:
        """Study the model when an epoch is whole; a layer that cannot be studied costs a warning, no run."""
        if isinstance(event, EpochEnded) and is_drawn(event.epoch, self._learner.task.epochs):
            self._try(event)

    def draw_last(self, event: Evaluated) -> None:
        """Study the model of the last epoch, where `write` did not know that it was the last."""
        self._try(event)

    def _try(self, event: EpochEnded | Evaluated) -> None:
        try:
            self._study(event)
        except OSError:
            raise
        except Exception as error:
            self._console.warn(
                f"activations after epoch {event.epoch} were not recorded: {type(error).__name__}: {error}"
            )

    def _study(self, event: EpochEnded | Evaluated) -> None:
        found = [self._activations(index) for index in self._samples]
        self._run.activations.mkdir(exist_ok=True)
        record = describe(event.epoch, event.step, self._samples, [self._name(i) for i in self._samples], found)
        path = self._run.activations / f"epoch-{event.epoch:04}.json"
        write_atomic(path, json.dumps(record, sort_keys=True, allow_nan=False, separators=(",", ":")) + "\n")
        if self._board is not None:
            self._draw(event, found)

    def _activations(self, index: int) -> list[Activation]:
        learner = self._learner

        def forward() -> None:
            learner.task.training_step(learner.model, one_sample(learner, index), learner.data)

        with mixed_precision(learner.task, learner.device):
            return capture(learner.model, forward)

    def _draw(self, event: EpochEnded | Evaluated, found: list[list[Activation]]) -> None:
        assert self._board is not None
        self._run.figures.mkdir(exist_ok=True)
        for index, activations in list(zip(self._samples, found, strict=True))[:MOST_SHEETS]:
            layers = [(a.name, f"{a.kind} {' x '.join(map(str, a.shape))}", _drawn(a)) for a in activations]
            picture = getattr(self._learner.data.val, "picture", None)
            name = self._name(index)
            title = f"val sample {index}{f' ({name})' if name else ''} after epoch {event.epoch}"
            sheet = activation_sheet(layers, title, picture(index) if picture else None)
            self._board.keep(f"activations_{index:04}", sheet, "val", event.epoch, event.step)
        curves = activation_curves(strengths_over_epochs(self._run.activations, event.epoch))
        self._board.keep("activations", curves, "val", event.epoch, event.step)

    def _name(self, index: int) -> str | None:
        """The class of a sample, where its data set has labels and the task knows their names."""
        labels: Any = getattr(self._learner.data.val, "labels", None)
        classes = self._learner.data.facts.get("classes")
        label = labels[index] if labels is not None else None
        is_class = isinstance(label, (int, numpy.integer)) and isinstance(classes, list) and 0 <= label < len(classes)
        return str(classes[label]) if is_class and classes is not None else None

    def close(self) -> None:
        """Nothing is held back."""


def _drawn(activation: Activation) -> numpy.ndarray:
    return activation.means if activation.maps is None else activation.maps


def describe(
    epoch: int, step: int, samples: list[int], names: list[str | None], found: list[list[Activation]]
) -> dict[str, Any]:
    """The record of one epoch, as docs/how-to/activations.md says; `found` are the activations of each sample.

    It stays small: maps are at most 16 x 16 and of as many filters as fit into 2 MB, and where there are more than 200,000 means of
    filters, those of the strongest are kept.
    """
    common = [a.name for a in found[0]]
    by_name = [{a.name: a for a in activations} for activations in found]
    common = [name for name in common if all(name in one for one in by_name)]
    everything = sum(len(one[name].means) for one in by_name for name in common) <= MOST_NUMBERS
    with_maps = sum(one[name].maps is not None for one in by_name for name in common)
    n_maps = max(0, min(8, MOST_MAP_BYTES // max(1, with_maps * (MAP_SIDE * MAP_SIDE * 4 // 3 + 8))))
    layers = [_layer([one[name] for one in by_name], n_maps, everything=everything) for name in common]
    return {
        "schema_version": 1,
        "epoch": epoch,
        "step": step,
        "samples": [{"index": i, "class": name} for i, name in zip(samples, names, strict=True)],
        "filters": "all" if everything else "strongest",
        "maps_per_layer": n_maps,
        "layers": layers,
    }


def _layer(samples: list[Activation], n_maps: int, *, everything: bool) -> dict[str, Any]:
    first = samples[0]
    kept = [range(len(a.means)) if everything else a.strongest for a in samples]
    return {
        "name": first.name,
        "class": first.kind,
        "shape": list(first.shape),
        "strength": [_short(a.strength) for a in samples],
        "means": [[_short(float(a.means[i])) for i in of] for a, of in zip(samples, kept, strict=True)],
        "strongest": [list(a.strongest) for a in samples],
        "maps": None
        if first.maps is None or not n_maps
        else [_maps(a.maps[:n_maps]) for a in samples if a.maps is not None],
    }


def _maps(maps: numpy.ndarray) -> dict[str, Any]:
    """Maps (K, h, w) as bytes, row by row, in base64: 0 is `low`, 255 `high`, the lowest and highest value in all of them."""
    small = numpy.stack([_shrunk(one) for one in maps])
    finite = small[numpy.isfinite(small)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    shares = numpy.where(numpy.isfinite(small), small - low, 0.0) / ((high - low) or 1.0)
    pixels = numpy.floor(shares * 255 + 0.5).astype(numpy.uint8)
    return {
        "size": list(small.shape[1:]),
        "low": _short(low),
        "high": _short(high),
        "pixels": [base64.b64encode(one.tobytes()).decode() for one in pixels],
    }


def _shrunk(one: numpy.ndarray) -> numpy.ndarray:
    """A map (h, w) with at most 16 x 16 places, each the mean of those it covers, its sum exactly rounded."""
    rows, columns = (_edges(n) for n in one.shape)
    if len(rows) == one.shape[0] and len(columns) == one.shape[1]:
        return one
    return numpy.array(
        [[math.fsum(one[a:b, c:d].flat) / ((b - a) * (d - c)) for c, d in columns] for a, b in rows], numpy.float64
    )


def _edges(n: int) -> list[tuple[int, int]]:
    m = min(n, MAP_SIDE)
    return [(i * n // m, max((i + 1) * n // m, i * n // m + 1)) for i in range(m)]


def _short(value: float) -> float | None:
    """Four significant digits; None for what JSON does not have."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def strengths_over_epochs(folder: Path, last: int) -> dict[str, tuple[list[int], list[float]]]:
    """The mean absolute activation of each layer over the samples, by epoch up to `last`, from the files in `folder`."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for path in sorted(folder.glob("epoch-*.json")):
        record = read_json(path)
        if record["epoch"] > last:
            continue
        for layer in record["layers"]:
            epochs, means = found.setdefault(layer["name"], ([], []))
            values = [value for value in layer["strength"] if value is not None]
            epochs.append(record["epoch"])
            means.append(math.fsum(values) / len(values) if values else math.nan)
    return found
