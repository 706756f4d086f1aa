"""What applying a run leaves: tables for people, arrays for programs, figures, TensorBoard, and `apply.json`, which says what it all is."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy
import torch

import diva
from diva.data import staging
from diva.errors import UsageError, nearest
from diva.learning.metrics import class_report, confusion_counts, macro_f1
from diva.records.files import printable, sha256_file, write_atomic, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure
    from torch import Tensor

    from diva.learning.task import Unseen
    from diva.report.console import Console
    from diva.seeding import Seeds

SCHEMA = 1
SEVERAL = "|"  # between the names of several classes
OWN = ("file", "label", "labels", "names", "classes", "predicted")  # arrays and columns that are no outputs of a task
MOST_PROJECTED = 10_000  # points that TensorBoard's projector moves without a jerk
THUMBNAIL = 64  # pixels


@dataclass(frozen=True)
class Applied:
    """What a run said of samples. outputs: (n, ...) each, on the CPU; nearest: indices and distances of neighbours, (n, k) each."""

    folder: Path
    facts: Mapping[str, Any]
    unseen: Unseen
    outputs: Mapping[str, Tensor]
    classes: tuple[str, ...]
    nearest: tuple[numpy.ndarray, numpy.ndarray] | None
    skipped: Mapping[str, str]

    @cached_property
    def names(self) -> list[str]:
        """What the samples are called in tables: one line each."""
        return [printable(name) for name in self.unseen.names]

    @cached_property
    def labels(self) -> list[str]:
        """The label of each sample, "" where there is none; of several their names joined by "|", those of the run first, in its order."""
        place = {name: i for i, name in enumerate(self.classes)}
        ordered = [sorted(names, key=lambda name: (place.get(name, len(place)), name)) for names in self.label_sets]
        return [printable(SEVERAL.join(names)) for names in ordered]

    @cached_property
    def label_sets(self) -> list[frozenset[str]]:
        """The names of all classes of each sample; none where there is no label."""
        given = self.unseen.labels or [""] * len(self.unseen.names)
        return [frozenset([label] if label else []) if isinstance(label, str) else frozenset(label) for label in given]

    @cached_property
    def chosen(self) -> list[list[str]] | None:
        """The names of the classes that were predicted of each sample, where there can be several."""
        if "chosen" not in self.outputs:
            return None
        rows = self.outputs["chosen"].numpy().astype(bool)
        return [[self.classes[i] for i in numpy.flatnonzero(row)] for row in rows]

    @cached_property
    def predicted(self) -> list[str] | None:
        """The name of the most probable class of each sample, of equally probable ones the first; of `chosen` ones all, joined by "|"."""
        if (rows := self.chosen) is not None:
            return [SEVERAL.join(row) for row in rows]
        if "probabilities" in self.outputs:
            return [self.classes[i] for i in self.outputs["probabilities"].numpy().argmax(1)]
        return None


def check_embeddings(embed: Sequence[str]) -> None:
    """UsageError for a projection that is not known."""
    from diva.report.projections import PROJECTIONS

    for name in embed:
        if name not in PROJECTIONS:
            raise UsageError(f"--embed {name}: not known; {nearest(name, [*PROJECTIONS, 'none'])}")


def check_outputs(outputs: Iterable[str], classes: Sequence[str]) -> None:
    """UsageError for a task's output whose name is that of an array or a column that is written anyway."""
    taken = {*OWN, *(f"p_{printable(name)}" for name in classes)}
    if names := sorted(taken.intersection(outputs)):
        raise UsageError(
            f"predict: gives {', '.join(names)}, a name that the tables have for something else ({', '.join(OWN)}, p_<class>); rename it"
        )


def write_applied(applied: Applied, embed: Sequence[str], seeds: Seeds, console: Console) -> dict[str, Any]:
    """Write the folder, which appears whole or not at all; returns what `apply.json` in it says."""
    check_outputs(applied.outputs, applied.classes)
    metrics, told = measure(applied)
    if told:
        console.say(told)
    try:
        with staging.appearing(applied.folder) as place:
            files = _write_tables(applied, place)
            _draw(applied, embed, seeds, console, place)
            record = {
                "schema": SCHEMA,
                **applied.facts,
                "classes": list(applied.classes),
                "diva": diva.__version__,
                "files": {path.name: f"sha256:{sha256_file(path)}" for path in files},
                "labelled": bool(applied.unseen.labels),
                "metrics": metrics,
                "samples": len(applied.unseen.names),
                "skipped": {printable(name): why for name, why in applied.skipped.items()},
            }
            write_json(place / "apply.json", record)
    except FileExistsError:
        raise UsageError(f"--to {applied.folder}: another process made it meanwhile; name another folder") from None
    return record


def measure(applied: Applied) -> tuple[dict[str, float], str]:
    """Metrics over all labelled samples, and a line that tells them, "" where nothing can be measured."""
    metrics: dict[str, float] = {}
    told = ""
    labels, sets, chosen = applied.labels, applied.label_sets, applied.chosen
    if chosen is not None and frozenset().union(*sets) & set(applied.classes):
        n_right = sum(one == set(other) for one, other in zip(sets, chosen, strict=True))
        metrics["exact_match"] = n_right / len(labels)
        told = f"all classes right: {metrics['exact_match']:.4f} ({n_right:,} of {len(labels):,})"
    elif chosen is None and (found := confusion(applied)) is not None:
        names, counts = found
        n_right, n = int(counts.trace()), int(counts.sum())
        metrics |= {"accuracy": n_right / n, "macro_f1": macro_f1(counts)}
        told = f"accuracy {metrics['accuracy']:.4f} ({n_right:,} of {n:,})"
        if strange := names[len(applied.classes) :]:
            n_strange = int(counts[len(applied.classes) :].sum())
            told += f"; {n_strange:,} are of classes that the run does not know and count as wrong: {_few(strange)}"
    elif any(sets) and applied.predicted is not None:
        told = f"none of the labels is a class of the run, so nothing is measured; its classes: {_few(applied.classes)}"
    if applied.nearest is not None and any(sets):
        pairs = [(names, sets[row[0]]) for names, row in zip(sets, applied.nearest[0], strict=True) if names]
        metrics["precision_at_1"] = sum(one == other for one, other in pairs) / len(pairs)
        told += f"{'; ' if told else ''}nearest neighbour of the same label: {metrics['precision_at_1']:.4f}"
    return metrics, told


def confusion(applied: Applied) -> tuple[list[str], numpy.ndarray] | None:
    """Class names, first those of the run, then others that are labels, and counts (C, C); None when no label is a class of the run."""
    if "chosen" in applied.outputs or "probabilities" not in applied.outputs:
        return None
    known = [i for i, label in enumerate(applied.labels) if label]
    found = {applied.labels[i] for i in known}
    if not found & set(applied.classes):
        return None
    names = [*applied.classes, *sorted(found - set(applied.classes))]
    number = {name: i for i, name in enumerate(names)}
    true = torch.tensor([number[applied.labels[i]] for i in known])
    predicted = torch.from_numpy(applied.outputs["probabilities"].numpy().argmax(1)[known])
    return names, confusion_counts(true, predicted, len(names))


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _write_tables(applied: Applied, place: Path) -> list[Path]:
    """CSV for people, NPZ without pickled objects for programs; floats in the fewest digits that give the same float32 back."""
    written = []
    outputs = {name: value.numpy() for name, value in applied.outputs.items()}
    features = outputs.pop("features", None)
    rows = list(zip(applied.names, applied.labels, strict=True))
    told = {"names": _texts(applied.names), "labels": _texts(applied.labels)}
    headers, columns = _columns(applied, outputs)
    if headers:
        written.append(_write_csv(place / "predictions.csv", ["file", "label", *headers], rows, columns))
    if outputs:
        own = (
            {}
            if applied.predicted is None
            else {"classes": _texts(applied.classes), "predicted": _texts(applied.predicted)}
        )
        written.append(_write_npz(place / "predictions.npz", {**told, **own, **outputs}))
    if features is not None:
        if not headers:
            named = [f"feature_{i}" for i in range(features.shape[1])]
            written.append(_write_csv(place / "features.csv", ["file", "label", *named], rows, [features]))
        written.append(_write_npz(place / "features.npz", {**told, "features": features}))
    if applied.nearest is not None:
        written.append(_write_neighbours(applied, place / "neighbours.csv", rows))
    return written


def _columns(applied: Applied, outputs: Mapping[str, numpy.ndarray]) -> tuple[list[str], list[Any]]:
    """Headers and blocks of columns of the table of predictions: the class, numbers of each sample, the probability of each class."""
    headers: list[str] = []
    blocks: list[Any] = []
    predicted = applied.predicted
    if predicted is not None:
        headers.append("predicted")
        blocks.append([[printable(name)] for name in predicted])
    for name, value in outputs.items():
        if value.ndim == 1:
            headers.append(name)
            blocks.append(value[:, None])
    if "probabilities" in outputs:
        headers += [f"p_{printable(name)}" for name in applied.classes]
        blocks.append(outputs["probabilities"])
    return headers, blocks


def _write_csv(path: Path, headers: list[str], rows: Sequence[tuple[str, ...]], blocks: Sequence[Any]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(headers)
        for i, row in enumerate(rows):
            writer.writerow([*row, *(str(value) for block in blocks for value in block[i])])
    return path


def _write_npz(path: Path, arrays: dict[str, numpy.ndarray]) -> Path:
    with path.open("wb") as file:
        numpy.savez(file, **arrays)  # type: ignore[arg-type]
    return path


def _texts(texts: Sequence[str]) -> numpy.ndarray:
    return numpy.array([printable(text) for text in texts], dtype=str)


def _write_neighbours(applied: Applied, path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    """Each sample with its nearest others: name, label and cosine distance of the first, of the second, ..."""
    assert applied.nearest is not None
    indices, distances = applied.nearest[0], applied.nearest[1].astype(numpy.float32)
    headers = ["file", "label"]
    for rank in range(1, indices.shape[1] + 1):
        headers += [f"neighbour_{rank}", f"label_{rank}", f"distance_{rank}"]
    block = [
        [part for j, far in zip(near, distances[i], strict=True) for part in (*rows[j], far)]
        for i, near in enumerate(indices)
    ]
    return _write_csv(path, headers, rows, [block])


def _draw(applied: Applied, embed: Sequence[str], seeds: Seeds, console: Console, place: Path) -> None:
    """Pictures, to `figures/` and to TensorBoard; one that cannot be drawn costs a warning."""
    from diva.report.figures import confusion_matrix
    from diva.report.style import png
    from diva.report.tensorboard import TensorBoardWriter

    figures = place / "figures"
    figures.mkdir()
    with TensorBoardWriter(place / "tensorboard") as board:
        found = confusion(applied)
        if found is not None:
            names, counts = found
            report = class_report(counts, names)
            board.text("report", report, 0)
            write_atomic(figures / "report.md", report + "\n")
            picture = png(
                confusion_matrix(counts, names, title=f"{applied.facts['data']['name']}: rows are true classes")
            )
            board.figure("confusion_matrix", picture, 0)
            write_atomic(figures / "confusion_matrix.png", picture)
        if "features" in applied.outputs:
            for name, figure in (*_planes(applied, embed, seeds, console), *_neighbour_sheet(applied)):
                picture = png(figure)
                board.figure(name, picture, 0)
                write_atomic(figures / f"{name}.png", picture)
            _project(applied, seeds, console, place / "tensorboard")


def _planes(applied: Applied, embed: Sequence[str], seeds: Seeds, console: Console) -> Iterator[tuple[str, Figure]]:
    """The features in the plane, by each projection."""
    from diva.report.projections import LEAST, LIMITS, PROJECTIONS, TITLES, plane, project

    features = applied.outputs["features"].numpy()
    n, labels, whose = len(features), *_colours(applied)
    for how in PROJECTIONS:
        if how not in embed:
            continue
        chosen = _some(n, LIMITS[how], seeds)
        note = f"{n:,} samples" if len(chosen) == n else f"{len(chosen):,} of {n:,} samples, drawn from the run's seed"
        if len(chosen) < n:
            console.say(f"{TITLES[how]}: of {note}")
        if n < LEAST[how]:
            console.say(f"{TITLES[how]}: is not drawn, it needs at least {LEAST[how]} samples")
            continue
        try:
            points = project(features[chosen], how, seeds.key("apply", "embed") % 2**32)
        except Exception as error:  # what scikit-learn makes of strange features
            console.warn(f"{TITLES[how]}: is not drawn: {type(error).__name__}: {' '.join(str(error).split())[:120]}")
            continue
        yield (
            how,
            plane(points, [labels[i] for i in chosen], f"{TITLES[how]} of features", f"{note} · colours are {whose}"),
        )


def _neighbour_sheet(applied: Applied) -> Iterator[tuple[str, Figure]]:
    """Some labelled images, spread over all, each beside its nearest neighbours."""
    from diva.report.neighbours import MOST_NEIGHBOURS, MOST_ROWS, RankedRow, neighbour_sheet

    picture = getattr(applied.unseen.samples, "picture", None)
    if applied.nearest is None or picture is None or not applied.unseen.labels:
        return
    labels, (indices, distances) = applied.labels, applied.nearest
    rows = []
    for i in range(0, len(labels), -(-len(labels) // MOST_ROWS)):
        near = indices[i, :MOST_NEIGHBOURS].tolist()
        captions = [f"{labels[j]} {far:.3f}" for j, far in zip(near, distances[i], strict=False)]
        rows.append(
            RankedRow(
                picture(i), labels[i], [picture(j) for j in near], captions, [labels[j] == labels[i] for j in near]
            )
        )
    yield "neighbours", neighbour_sheet(rows, "Nearest neighbours by cosine distance")


def _colours(applied: Applied) -> tuple[list[str], str]:
    """What samples are coloured by: their labels, else what was predicted, else nothing."""
    if applied.unseen.labels:
        return applied.labels, "labels"
    predicted = applied.predicted
    return (predicted, "predictions") if predicted is not None else (applied.labels, "all the same")


def _some(n: int, limit: int, seeds: Seeds) -> numpy.ndarray:
    """Indices of at most `limit` of n samples, in their order."""
    return numpy.arange(n) if n <= limit else numpy.sort(seeds.order(n, "apply", "some")[:limit])


def _project(applied: Applied, seeds: Seeds, console: Console, folder: Path) -> None:
    """The features in TensorBoard's projector, with thumbnails where the samples are images."""
    from diva.report.projector import write_embedding

    features = applied.outputs["features"].numpy()
    chosen = _some(len(features), MOST_PROJECTED, seeds)
    if len(chosen) < len(features):
        console.say(f"projector: {len(chosen):,} of {len(features):,} samples, drawn from the run's seed")
    labels, _ = _colours(applied)
    picture = getattr(applied.unseen.samples, "picture", None)
    thumbnails = [_thumbnail(picture(int(i))) for i in chosen] if picture is not None else None
    if thumbnails and len({thumbnail.shape for thumbnail in thumbnails}) > 1:
        thumbnails = None  # the projector takes one size
    write_embedding(folder, "features", features[chosen], [labels[i] for i in chosen], thumbnails)


def _thumbnail(pixels: numpy.ndarray) -> numpy.ndarray:
    """The image, shrunk where it is larger than the projector shows it."""
    from PIL import Image

    if max(pixels.shape[:2]) <= THUMBNAIL:
        return pixels
    height, width = (max(1, round(length * THUMBNAIL / max(pixels.shape[:2]))) for length in pixels.shape[:2])
    return numpy.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
