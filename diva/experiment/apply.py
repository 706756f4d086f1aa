"""Apply a run to other data: its own code, best weights, preprocessing and class names; nothing is learnt or computed from the data."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy
import torch
from torch.utils.data import Dataset, Subset

from diva.data import layouts, places, staging
from diva.data.catalogue import locate
from diva.data.pixels import keep_in_memory
from diva.errors import DataError, RecordError, UsageError
from diva.experiment.applied import Applied, write_applied
from diva.experiment.code import own_digest, recorded_diva, recorded_imports
from diva.experiment.execute import best_weights
from diva.experiment.recorded import become_recorded_diva, recorded_options, verify_record
from diva.experiment.run import with_computer
from diva.kernels import backends, stock
from diva.learning.checkpoints import load_model
from diva.learning.digests import digest_model
from diva.learning.inference import infer
from diva.learning.retrieval import nearest_neighbours
from diva.learning.task import Data, Task, Unseen
from diva.params import Layers, build
from diva.records import footprint
from diva.records.files import printable, read_json, sha256_file, some_of
from diva.seeding import Seeds, preserved_generators

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from diva.experiment.options import RunOptions
    from diva.kernels.backends import Backend
    from diva.records.manifest import Manifest
    from diva.records.run_folder import RunFolder
    from diva.report.console import Console

APPLIED = Path("applied")


@dataclass(frozen=True)
class Wanted:
    """What is asked for: which data, where the outcome goes, and what is computed."""

    data: str
    data_root: Path = Path("data")
    to: Path | None = None
    split: Literal["train", "val", "test"] | None = None
    features: str | None = None
    """None: those of the task, else of the last linear layer, if there is one; "none", "penultimate", or a layer's name."""
    ablate: bool = False
    crops: int = 1
    neighbours: int = 0
    embed: tuple[str, ...] = ("pca", "tsne")
    skip_broken: bool = False
    batch_size: int | None = None
    threads: int | None = None
    backend: Backend | None = None
    device: str | None = None


def hand_over(run: RunFolder, argv: Sequence[str], console: Console) -> None:
    """Let the diva that made the run do this, as it does for resume and reproduce: another may read and compute otherwise.

    Returns where that one is running already, or cannot do it, which is then said.
    """
    manifest = verify_record(run)
    tree = recorded_diva(run, manifest)
    if tree is not None and (tree / "diva" / "cli" / "apply.py").is_file():
        become_recorded_diva(run, manifest, argv)
    if manifest.diva["digest"] != own_digest():
        why = "was not kept" if tree is None else "could not apply runs yet"
        console.warn(f"the diva that made this run {why}; this one is another, so the bits may be others")


def apply(run: RunFolder, wanted: Wanted, console: Console) -> tuple[Applied, dict[str, Any]]:
    """Apply a run to a folder; what it says is in a new folder, which appears whole, and in what is returned, with `apply.json`.

    UsageError when that folder is there already, or for what the run's task cannot do; DataError names samples that cannot be read.
    """
    stock.prepare_process()
    if not wanted.data:
        raise UsageError("--data: is empty; give a folder or the name of a data set")
    if wanted.ablate and wanted.features == "none":
        raise UsageError("--ablate: keeps the features alone, and --features none asks for none; leave one of them out")
    manifest = verify_record(run)
    options = computer(recorded_options(manifest), wanted, console)
    name, root = locate(wanted.data, wanted.data_root)
    split, folder = _part_of(root, wanted.split, console)
    out = _place(run, wanted.to, f"{name}-{split}" if split else name)
    taken = _footprint(root)
    with (
        preserved_generators(),
        backends.computing(options.backend, options.n_threads, tf32=options.tf32),
        recorded_imports(manifest.task, run) as task_class,
    ):
        task = build(task_class, Layers(dict(manifest.task.knobs), dict(manifest.task.origins)))
        assert isinstance(task, Task)
        answer = _ask(task, run, manifest, folder, options, wanted, console)
    facts = {
        **answer.facts,
        "backend": options.backend,
        "data": {
            "footprint": taken.digest,
            "name": name,
            "of_the_run": manifest.data is not None and manifest.data.digest == taken.digest,
            "split": split,
        },
    }
    if wanted.to is None:
        places.prepare_root(out.parent, "--to")
    applied = Applied(out, facts, answer.unseen, answer.outputs, answer.classes, answer.nearest, answer.skipped)
    return applied, write_applied(applied, wanted.embed, Seeds(manifest.seed), console)


class _Answer(NamedTuple):
    """What the run says of the samples, and facts about how it was asked."""

    unseen: Unseen
    skipped: Mapping[str, str]
    outputs: Mapping[str, Tensor]
    classes: tuple[str, ...]
    nearest: tuple[numpy.ndarray, numpy.ndarray] | None
    facts: Mapping[str, Any]


def _ask(
    task: Task,
    run: RunFolder,
    manifest: Manifest,
    folder: Path,
    options: RunOptions,
    wanted: Wanted,
    console: Console,
) -> _Answer:
    """Read the samples of a folder and predict, in the scope of the run's kernels."""
    _refuse_silent(task)
    seeds, device = options.seeds(type(task)), torch.device(options.device)
    data = Data(_NotHere(), _NotHere(), _NotHere(), manifest.facts)
    model, epoch = best_model(run, task, data, seeds)
    if run.result() is None:
        what = "that learnt nothing yet" if epoch == 0 else f"of epoch {epoch}, the best so far"
        console.warn(f"run {run.id} has not finished: these are weights {what}; diva resume continues it")
    model.to(device)
    data = replace(data, constants={name: value.to(device) for name, value in calibration(run).items()})
    stock.pin(options.n_threads, tf32=options.tf32)  # a task's first lines may have set other things
    seeds.reseed("apply", "read")
    unseen, skipped = read_samples(task, folder, data, skip_broken=wanted.skip_broken), dict[str, str]()
    if wanted.skip_broken:
        unseen, skipped = _without_broken(unseen, folder, console)
    names, views = zip(*_views(unseen, wanted.crops), strict=True)
    if kept := keep_in_memory(views, "auto"):
        console.say(kept)
    batch_size = wanted.batch_size or task.batch_size
    try:
        with console.progress(len(unseen.names), "apply") as bar:
            outputs, layer = infer(
                task, model, data, views, seeds, batch_size, device, layer=wanted.features, advance=bar.update
            )
    except DataError as error:
        raise _all_broken(unseen, folder, error) from None
    if wanted.ablate:
        outputs = _features_alone(outputs)
    weights = digest_model(model)
    facts = {
        "features": layer or None,
        "options": {"ablate": wanted.ablate, "batch_size": batch_size, "neighbours": wanted.neighbours},
        "run": {"epoch": epoch, "id": run.id, "seed": manifest.seed, "task": manifest.task.name, "weights": weights},
        "views": list(names),
    }
    nearest = _neighbours(outputs, wanted.neighbours, console)
    return _Answer(unseen, skipped, outputs, _classes(manifest.facts, outputs), nearest, facts)


def read_samples(task: Task, folder: Path, data: Data, *, skip_broken: bool) -> Unseen:
    """The samples of a folder; the DataError of what is read at once, such as texts and tables, says that nothing of it is left out."""
    try:
        return task.read_unseen(folder, data)
    except DataError as error:
        if not skip_broken:
            raise
        why = "--skip-broken leaves out samples that are read one by one, as images are, not texts or rows of a table; mend or remove it"
        raise DataError(f"{error}. {why}") from None


def _classes(facts: Mapping[str, Any], outputs: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The names of the classes; numbers where the task told none."""
    n_classes = outputs["probabilities"].shape[1] if "probabilities" in outputs else 0
    named = tuple(map(str, facts.get("classes", ())))
    return named if named and len(named) == (n_classes or len(named)) else tuple(map(str, range(n_classes)))


def calibration(run: RunFolder) -> dict[str, Tensor]:
    """The constants that the run's task chose on its val split, float64, int64 or bool; none of a run that has not finished."""
    chosen = (run.result() or {}).get("calibration", {})
    arrays = {name: numpy.array(value) for name, value in chosen.items()}
    return {  # JSON has texts for what is not finite, and then numpy makes texts of all
        name: torch.from_numpy(array.astype(numpy.float64) if array.dtype.kind == "U" else array)
        for name, array in arrays.items()
    }


class _NotHere(Dataset[Any]):
    """The data that a run was trained on, which need not be where it is applied."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise _absent(name)

    def __len__(self) -> int:
        raise _absent("the size")

    def __getitem__(self, index: int) -> Any:
        raise _absent("a sample")


def _absent(what: str) -> UsageError:
    return UsageError(
        f"the task asks for {what} of the data it was trained on, which need not be where it is applied; build_model, read_unseen and "
        "predict must do with data.facts"
    )


def computer(recorded: RunOptions, wanted: Wanted, console: Console) -> RunOptions:
    """The recorded options with who computes now: the recorded backend, on its device where there is one such."""
    backend = wanted.backend or recorded.backend
    if wanted.device is not None:
        asked = wanted.device
    else:
        asked = "cpu" if backend == "exact" else recorded.device
    try:
        device = stock.choose_device(asked)
    except UsageError:
        if wanted.device is not None:
            raise
        console.warn(
            f"there is no {asked} here, on which the run was made: computing on the CPU, where the bits may be others"
        )
        device = torch.device("cpu")
    if backend != recorded.backend:
        console.warn(
            f"the run was computed by backend {recorded.backend}, it is applied by {backend}: the bits may be others"
        )
    threads = wanted.threads or (recorded.threads if backend == "torch" else None)  # under exact they change no bits
    return with_computer(replace(recorded, backend=backend, threads=threads), device)


def _part_of(root: Path, split: str | None, console: Console) -> tuple[str | None, Path]:
    """Which split of a data set, None for a folder without splits, and its folder."""
    if split is None:
        if not layouts.is_split(root):
            return None, root
        split = "test" if (root / "test").is_dir() else "val"
        console.say(f"{root}: has splits; {split} is taken, another with --split")
    if not (root / split).is_dir():
        there = [name for name in layouts.SPLITS if (root / name).is_dir()]
        raise UsageError(
            f"--split {split}: {root} has no folder {split}; it has {', '.join(there) or 'no splits: leave it out'}"
        )
    return split, root / split


def _place(run: RunFolder, to: Path | None, name: str) -> Path:
    """The folder to make, found out before anything is computed; a run's own folder is a record, and stays as it is."""
    out = (to or APPLIED / f"{run.id}-{name}").expanduser()
    if out.resolve() == run.path or run.path in out.resolve().parents:
        raise UsageError(f"--to {out}: is inside the run, which is a record; name a folder elsewhere")
    if out.is_file() or staging.is_there(out):
        raise UsageError(f"--to {out}: is there already; remove it, or name another folder")
    existing = next(place for place in out.absolute().parents if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise DataError(f"--to {out}: cannot be written in {existing}; choose another place")
    return out


def _footprint(folder: Path) -> footprint.Footprint:
    """The footprint as it is now; one that is stored spares hashing what is untouched, and stays as it is: applying accepts no change."""
    stored = footprint.location(folder)
    try:
        known = footprint.read(stored) if stored.exists() else None
    except RecordError:
        known = None
    return footprint.take(folder, known, deep=False)


def _features_alone(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is left of the outputs with `--ablate`."""
    if "features" not in outputs:
        raise UsageError(
            "--ablate: there are no features: the model has no linear layer; name another with --features LAYER"
        )
    return {"features": outputs["features"]}


def _refuse_silent(task: Task) -> None:
    """UsageError for a task that does not say how it reads and answers what is new."""
    own = type(task)
    missing = [name for name in ("read_unseen", "predict") if getattr(own, name) is getattr(Task, name)]
    if missing:
        raise UsageError(
            f"this run's task, {own.__name__}, has no {' and no '.join(missing)}, hence cannot be applied; see docs/reference/tasks.md"
        )


def best_model(run: RunFolder, task: Task, data: Data, seeds: Seeds) -> tuple[nn.Module, int]:
    """The model of the best epoch, in evaluation mode, and that epoch; RecordError when the weights are not those that were written."""
    seeds.reseed("init")
    model = task.build_model(data)
    name = best_weights(run)
    path, state = run.checkpoints / name, read_json(run.checkpoints / "state.json")
    if path.is_file() and sha256_file(path) != state["files"].get(name):
        raise RecordError(f"{path}: was altered since it was written; the run cannot be applied")
    load_model(path, model)
    result = run.result()
    if result is not None and digest_model(model) != result["best_weights_digest"]:
        raise RecordError(f"{path}: not the weights that the run's result names; the record was altered")
    return model.eval(), int(state["progress"]["best_epoch"])


def _without_broken(unseen: Unseen, folder: Path, console: Console) -> tuple[Unseen, dict[str, str]]:
    """The samples that can be read, and by name why the others cannot be."""
    broken = _broken(unseen, folder)
    for name, why in broken.items():
        console.warn(f"{printable(name)}: left out: {why}")
    if len(broken) == len(unseen.names):
        raise DataError(f"{folder}: none of {len(broken):,} samples can be read")
    if not broken:
        return unseen, broken
    good = [i for i, name in enumerate(unseen.names) if name not in broken]
    own = getattr(unseen.samples, "subset", None)
    samples = own(good) if own is not None else Subset(unseen.samples, good)
    labels = [unseen.labels[i] for i in good] if unseen.labels else ()
    return Unseen(samples, [unseen.names[i] for i in good], labels), broken


def _broken(unseen: Unseen, folder: Path) -> dict[str, str]:
    """Why each sample that cannot be read cannot be, by its name; reads them all."""
    found: dict[str, str] = {}
    for i, name in enumerate(unseen.names):
        try:
            unseen.samples[i]
        except DataError as error:
            told = str(error).replace(f"{folder}{os.sep}", "")
            found[name] = told.removeprefix(f"{name}: ").removesuffix("; mend or remove it")
    return found


def _all_broken(unseen: Unseen, folder: Path, first: DataError) -> DataError:
    """The error that names every sample that cannot be read, not only the first that was met."""
    broken = _broken(unseen, folder)
    if not broken:
        return first
    name, why = next(iter(broken.items()))
    return DataError(
        f"{folder}: {len(broken):,} of {len(unseen.names):,} samples cannot be read: {some_of(list(broken))} ({printable(name)}: {why}). "
        "Mend or remove them, or leave them out with --skip-broken"
    )


def _views(unseen: Unseen, n: int) -> list[tuple[str, Any]]:
    """The data sets to average over, with what they show of each sample."""
    if n == 1:
        return [("whole", unseen.samples)]
    own = getattr(unseen.samples, "views", None)
    if own is None:
        raise UsageError(f"--crops {n}: this task's samples cannot be cropped; leave the option out")
    views: list[tuple[str, Any]] = own(n)
    return views


def _neighbours(
    outputs: Mapping[str, Tensor], asked: int, console: Console
) -> tuple[numpy.ndarray, numpy.ndarray] | None:
    """Indices and distances of the nearest neighbours, (n, k) each; None when none are asked for."""
    if not asked:
        return None
    if "features" not in outputs:
        raise UsageError("--neighbours: there are no features to compare; name a layer with --features")
    features = outputs["features"]
    k = min(asked, len(features) - 1)
    if k < asked:
        console.warn(f"--neighbours {asked}: of {len(features)} samples each has {k} others")
    return nearest_neighbours(features.numpy(), k=k) if k else None
