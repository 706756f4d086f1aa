"""Aggregation: what the runs of each configuration have in common and how far they are apart, in TensorBoard and as pictures."""

from __future__ import annotations

import math
import re
import statistics
from functools import partial
from typing import TYPE_CHECKING, Final, final

from diva.experiment.study.curves import CurveReader, read_all
from diva.experiment.study.summary import is_outcome, is_whole
from diva.records.files import read_json, write_atomic
from diva.report.bands import STATISTICS, band_of, middle, since
from diva.report.board_layout import CONFIGURATION, band_tag, late, margin_charts, score_columns
from diva.report.tensorboard import TensorBoardWriter, sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from diva.experiment.study.curves import Curve
    from diva.records.run_folder import RunFolder
    from diva.report.bands import Band
    from diva.report.board_layout import Knob

LIVE_STEPS: Final = 300
KEPT_EMPTY: Final = 20
BOARD, SCORES = "aggregate", "summary"


@final
class Aggregation:
    """The aggregate of groups of runs, in `folder`: `tensorboard/aggregate` (one configuration) or `tensorboard/aggregate/<configuration>`
    (several), `tensorboard/summary` with a row per configuration for the HParams tab, and `figures/`.

    groups: configuration -> its runs, which may have ended, be running, or not be there yet. title: of the pictures. Everything
    follows from the runs' `metrics.jsonl`, `result.json` and `manifest.json`, in the order in which the runs are given: the same runs
    give the same numbers and the same PNGs, however often and whenever `refresh` was called.
    """

    def __init__(self, groups: Mapping[str, Sequence[RunFolder]], folder: Path, title: str) -> None:
        self._folder, self._title = folder, title
        self._readers: dict[Path, CurveReader] = {}
        self._groups: dict[str, list[RunFolder]] = {}
        self.follow(groups)

    def follow(self, groups: Mapping[str, Sequence[RunFolder]]) -> None:
        """Aggregate these groups from now on; what was read of runs that stay is kept."""
        self._groups = {name: list(runs) for name, runs in groups.items()}
        paths = [run.path for runs in self._groups.values() for run in runs]
        self._readers = {path: self._readers.get(path) or CurveReader(path / "metrics.jsonl") for path in paths}

    def refresh(self) -> bool:
        """Read what is new, and show it in TensorBoard, thinned to 300 steps of each metric; False when there was nothing new.

        Cheap, to be called while runs go on: it imports neither torch nor Matplotlib.
        """
        if not self._read():
            return False
        self._write_bands(LIVE_STEPS)
        return True

    def finish(self) -> None:
        """Show every step, and draw the figures and the rows of the HParams tab; Matplotlib is imported here."""
        self._read()
        self._write_scores()
        self._write_bands(None)

    def bands(self, most_steps: int | None = None) -> dict[str, dict[str, Band]]:
        """Metric -> configuration -> its band, of the runs as they were read last."""
        found: dict[str, dict[str, Band]] = {}
        for name, lines in self._lines().items():
            for configuration, curves in lines.items():
                band = band_of([(curve.steps, curve.values) for curve in curves], most_steps)
                if len(band.steps):
                    found.setdefault(name, {})[configuration] = band
        return found

    def _read(self) -> bool:
        readers, changed = read_all(list(self._readers.values()))
        self._readers = dict(zip(self._readers, readers, strict=True))
        return changed

    def scores(self) -> dict[str, dict[str, list[float]]]:
        """Metric -> configuration -> what its finished runs measured with their best epoch, in the order of the runs."""
        found: dict[str, dict[str, list[float]]] = {}
        for configuration, runs in self._groups.items():
            for result in [result for run in runs if (result := run.result())]:
                for metric, value in result["metrics"].items():
                    found.setdefault(metric, {}).setdefault(configuration, []).append(float(value))
        return found

    def _lines(self) -> dict[str, dict[str, list[Curve]]]:
        """Metric -> configuration -> the curves of its runs."""
        found: dict[str, dict[str, list[Curve]]] = {}
        for configuration, runs in self._groups.items():
            for run in runs:
                for name, curve in self._readers[run.path].curves().items():
                    found.setdefault(name, {}).setdefault(configuration, []).append(curve)
        return found

    def _board(self, kind: str, configuration: str) -> Path:
        """The run of TensorBoard that a configuration has: the only one has `kind` itself, several have folders in it."""
        board = self._folder / "tensorboard" / kind
        names = list(self._groups)
        return board if len(names) == 1 else board / folder_names(names)[names.index(configuration)]

    def _write_bands(self, most_steps: int | None) -> None:
        """The bands; with every step also the figures, and the last half of the steps once more."""
        bands = self.bands(most_steps)
        charts = [name for name, found in bands.items() if any(len(band.steps) > 1 for band in found.values())]
        zoomed = [name for name in charts if is_zoomed(name, bands[name])] if most_steps is None else []
        root = self._folder / "tensorboard" / BOARD
        for folder in dict.fromkeys([root, *(self._board(BOARD, name) for name in self._groups)]):
            with session(folder) as writer:
                if folder == root:
                    writer.summary(margin_charts(charts, zoomed), 0)
                    if most_steps is None:
                        self._draw(writer, {name: bands[name] for name in charts})
                for name in self._groups:
                    if self._board(BOARD, name) == folder:
                        own = {metric: found[name] for metric, found in bands.items() if name in found}
                        begins = {metric: middle(bands[metric].values()) for metric in zoomed if metric in own}
                        write_bands(writer, own, {metric: since(own[metric], step) for metric, step in begins.items()})
            discard_before(folder)

    def _draw(self, writer: TensorBoardWriter, bands: Mapping[str, Mapping[str, Band]]) -> None:
        """Bands of every metric and strips of every score on the test split, but for those of single classes."""
        from diva.report.band_figures import Runs, band_figure, score_figure

        lines, scores = self._lines(), self.scores()
        last = max((int(band.steps[-1]) for found in bands.values() for band in found.values()), default=0)
        drawn: dict[str, Callable[[], Figure]] = {}
        for metric in filter(is_whole, bands):
            runs = {
                name: Runs(
                    band,
                    [(curve.steps, curve.values) for curve in lines[metric][name]],
                    scores.get(metric, {}).get(name, ()),
                )
                for name, band in bands[metric].items()
            }
            drawn[f"bands/{metric}"] = partial(band_figure, metric, runs, self._title)
        for metric, found in scores.items():
            if is_outcome(metric):
                drawn[f"scores/{metric}"] = partial(score_figure, metric, found, self._title)
        self._folder.joinpath("figures").mkdir(exist_ok=True)
        kinds = [tag.partition("/") for tag in drawn]
        names = folder_names([metric if kind == "bands" else f"{metric}_{kind}" for kind, _, metric in kinds])
        for (tag, picture), name in zip(pictures(drawn).items(), names, strict=True):
            write_atomic(self._folder / "figures" / f"{name}.png", picture)
            writer.figure(tag, picture, last)

    def _write_scores(self) -> None:
        """The HParams tab: a row for each configuration that has a finished run."""
        scores = {metric: found for metric, found in self.scores().items() if is_whole(metric)}
        rows: dict[str, tuple[dict[str, Knob], dict[str, float]]] = {}
        for name, runs in self._groups.items():
            metrics = score_row({metric: found[name] for metric, found in scores.items() if name in found})
            if metrics:
                rows[name] = {CONFIGURATION: name or "all", **shared_knobs(runs)}, metrics
        root = self._folder / "tensorboard" / SCORES
        columns = dict.fromkeys(column for metric in scores for column in (metric, f"{metric}/sd"))
        for folder in dict.fromkeys([root, *(self._board(SCORES, name) for name in rows)] if rows else []):
            with session(folder) as writer:
                if folder == root:
                    writer.summary(score_columns([knobs for knobs, _ in rows.values()], [*columns, "runs"]), 0)
                for name, (knobs, metrics) in rows.items():
                    if self._board(SCORES, name) == folder:
                        writer.hyperparameters(knobs, metrics)
            discard_before(folder)


def score_row(scores: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Mean and sd of each metric's finite scores, and of how many runs they are: `test/loss`, `test/loss/sd`, `runs`."""
    row: dict[str, float] = {}
    for metric, values in scores.items():
        finite = [value for value in values if math.isfinite(value)]
        if finite:
            row[metric] = statistics.fmean(finite)
        if len(finite) > 1:
            row[f"{metric}/sd"] = statistics.stdev(finite)
    return {**row, "runs": float(max(map(len, scores.values())))} if row else {}


def pictures(drawn: Mapping[str, Callable[[], Figure]]) -> dict[str, bytes]:
    """Each figure as PNG, drawn on all cores."""
    from diva.data.analysis.workers import over_ranges
    from diva.report.style import png

    tags = list(drawn)

    def work(start: int, stop: int) -> list[tuple[str, bytes]]:
        return [(tag, png(drawn[tag]())) for tag in tags[start:stop]]

    found = dict(pair for part in over_ranges(work, len(tags), 2) for pair in part)
    return {tag: found[tag] for tag in tags}


def shared_knobs(runs: Sequence[RunFolder]) -> dict[str, Knob]:
    """The knobs, in the order of the first run, that all runs that have a manifest agree on; lists as text, as a single run writes them."""
    manifests = [read_json(run.manifest_file)["task"]["knobs"] for run in runs if run.manifest_file.exists()]
    return {
        name: str(tuple(value)) if isinstance(value, list) else value
        for name, value in (manifests[0] if manifests else {}).items()
        if all(name in other and other[name] == value for other in manifests)
    }


def session(folder: Path) -> TensorBoardWriter:
    """One more session of a run that is written anew: TensorBoard forgets what the earlier ones wrote."""
    return TensorBoardWriter(folder, purge_step=0)


def discard_before(folder: Path) -> None:
    """Empty the event files of all sessions but the last, and remove those that are long past.

    A TensorBoard that is open goes from file to file; if the one where it is vanishes, it stays there forever.
    """
    *past, _ = sessions(folder)
    for file in past[:-KEPT_EMPTY]:
        file.unlink()
    for file in past[-KEPT_EMPTY:]:
        if file.stat().st_size:
            file.open("wb").close()


def write_bands(writer: TensorBoardWriter, bands: Mapping[str, Band], halves: Mapping[str, Band]) -> None:
    """The statistics of each metric under tags of their own, and its mean under its own name, to lie among the runs' curves.

    halves: of some metrics the last half, to be drawn on a scale of its own.
    """
    together: dict[bytes, tuple[list[int], dict[str, list[float]]]] = {}  # equal steps: an event per step for all
    for metric, band in bands.items():
        columns = dict(zip(STATISTICS, band.columns(), strict=True))
        _, found = together.setdefault(band.steps.tobytes(), (band.steps.tolist(), {}))
        found[metric] = band.mean.tolist()
        found.update({band_tag(metric, name): column.tolist() for name, column in columns.items()})
    for metric, band in halves.items():
        _, found = together.setdefault(band.steps.tobytes(), (band.steps.tolist(), {}))
        margins = zip(STATISTICS[:3], band.columns(), strict=False)
        found.update({band_tag(late(metric), name): column.tolist() for name, column in margins})
    for steps, found in together.values():
        for step, values in zip(steps, zip(*found.values(), strict=True), strict=True):
            writer.scalars(dict(zip(found, values, strict=True)), step)


def is_zoomed(metric: str, bands: Mapping[str, Band]) -> bool:
    """Whether a metric has a chart of the last half of its steps: those that are measured once per epoch, of four epochs on."""
    return (
        is_whole(metric)
        and metric.startswith(("val/", "train/"))
        and any(len(band.steps) >= 4 for band in bands.values())
    )


def folder_names(names: Sequence[str]) -> list[str]:
    """A name for a file or folder for each of several texts: letters, digits and `._=+,-` stay, and no two are equal."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r"[^\w.=+,-]+", "_", name).strip("._") or "_"
        taken, n = plain, 1
        while taken.casefold() in {other.casefold() for other in found}:
            n += 1
            taken = f"{plain}_{n}"
        found.append(taken)
    return found
