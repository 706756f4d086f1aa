"""Where two runs part: the first epoch, step and tensor, as exactly as they recorded it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from diva.errors import RecordError
from diva.experiment.compare.checkpoint_tensors import tensors_that_differ
from diva.experiment.reproduce import DIGESTS
from diva.records.tensor_trace import first_tensors_that_differ
from diva.records.trace import Parting, comparable, first_difference, read_trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.experiment.compare.subjects import Run
    from diva.records.run_folder import RunFolder

    Entries = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class TensorParting:
    """The first tensors that differ, in the order of computation, and the step after which; `of` says what was looked at."""

    epoch: int
    step: int
    names: tuple[str, ...]
    of: str


@dataclass(frozen=True)
class Parted:
    """How two runs relate. `identical`: every digest of both is equal. `parting`: the first entry of their traces that differs.

    equal_until: the last step that is known to be the same. value: the first logged number that differs, as (step, name, one, two).
    notes: what could not be looked at, and what would tell more.
    """

    identical: bool
    parting: Parting | None = None
    equal_until: int | None = None
    value: tuple[int, str, Any, Any] | None = None
    tensor: TensorParting | None = None
    outcomes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def part(one: Run, two: Run) -> Parted:
    """Compare what two runs computed. What was not recorded, or is damaged, is said in the notes; nothing is raised for it."""
    notes = [f"altered: {run.altered}" for run in (one, two) if run.altered]
    try:
        traces = read_trace(one.folder.trace_file), read_trace(two.folder.trace_file)
    except RecordError as error:
        return Parted(False, outcomes=_outcomes(one, two), notes=(*notes, str(error)))
    left, right = comparable(*traces)
    if left is not traces[0]:
        notes.append("one trace has entries per step, the other per epoch: epochs are compared")
    parting = first_difference(left, right)
    outcomes = _outcomes(one, two)
    over = one.result is not None and two.result is not None
    if parting is None and not outcomes and over:
        return Parted(True, notes=tuple(notes))
    if not over:
        notes.append("not both have finished: what is recorded so far is compared")
    value = _first_value(one.folder, two.folder)
    tensor = _first_tensor(one, two, parting, notes) if parting is not None else None
    if parting is not None:
        notes += _finer(one, two, parting, tensor)
    return Parted(False, parting, _equal_until(left, parting), value, tensor, outcomes, tuple(notes))


def _equal_until(entries: Entries, parting: Parting | None) -> int | None:
    """The step of the last entry before the one at which two traces part; None where they part in their first."""
    if parting is None:
        return None
    place = (parting.epoch, parting.step)
    before = [entry["step"] for entry in entries if (entry["epoch"], entry["step"]) < place]
    return before[-1] if before else None


def _outcomes(one: Run, two: Run) -> tuple[str, ...]:
    """Names of the digests and metrics in which two results differ; none where one has no result."""
    if one.result is None or two.result is None:
        return ()
    digests = [name for name in DIGESTS if one.result.get(name) != two.result.get(name)]
    old, new = one.result["metrics"], two.result["metrics"]
    return (*digests, *sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)))


def _first_value(one: RunFolder, two: RunFolder) -> tuple[int, str, Any, Any] | None:
    """The first row of `metrics.jsonl` that differs, when the rows before it are of the same steps and names."""
    for left, right in zip_longest(_rows(one), _rows(two)):
        if left != right:
            if left is None or right is None or any(left[key] != right[key] for key in ("step", "name")):
                return None  # other numbers are logged, or at other steps: the first to differ is not known
            return left["step"], left["name"], left["value"], right["value"]
    return None


def _rows(run: RunFolder) -> Any:
    """The rows of what was trained on and validated; the best epoch's test comes last and has a step of its own."""
    return (row for row in run.rows() if not row["name"].startswith(("test/", "optimizer/")))


def _first_tensor(one: Run, two: Run, parting: Parting, notes: list[str]) -> TensorParting | None:
    """From the tensor traces; else from the checkpoints of the epoch at which the runs part, where both still keep them."""
    files = one.folder.tensors_file, two.folder.tensors_file
    if all(file.is_file() for file in files):
        try:
            found = first_tensors_that_differ(*files)
        except RecordError as error:
            notes.append(str(error))
            return None
        if found is None:
            return None
        return TensorParting(found[0].epoch, found[0].step, found[1], _kinds(found[0].digests))
    names = tensors_that_differ(one.folder.checkpoints, two.folder.checkpoints, parting.epoch)
    if names is None:
        notes.append("the tensor is not known: a run has no tensors.jsonl, nor a checkpoint of that epoch")
        return None
    return TensorParting(parting.epoch, parting.step, names, "the checkpoints of the epoch") if names else None


def _kinds(names: Mapping[str, str]) -> str:
    steps = any(name.startswith("gradient:") for name in names)
    return "inputs, outputs of layers, gradients, weights and state" if steps else "weights and buffers"


def _finer(one: Run, two: Run, parting: Parting, tensor: TensorParting | None) -> list[str]:
    """What would name the step and the tensor, where the runs recorded epochs alone."""
    coarse = [run for run in (one, two) if run.manifest.options.get("trace") != "step"]
    if not coarse or parting.names == ("length",) or (parting.step == 0 and tensor is not None):
        return []
    return [
        "traces of epochs name no single step; diva reproduce RUN --trace step makes the same bits with one of steps"
    ]
