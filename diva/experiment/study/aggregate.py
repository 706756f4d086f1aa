"""Aggregation: what the runs of each configuration have in common and how far they are apart, in TensorBoard and as pictures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, final

from diva.experiment.study.curves import CurveReader
from diva.report.bands import STATISTICS, band_of
from diva.report.board_layout import band_tag, margin_charts
from diva.report.tensorboard import TensorBoardWriter, sessions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from diva.experiment.study.curves import Curve
    from diva.records.run_folder import RunFolder
    from diva.report.bands import Band

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
        """Show every step, and draw the figures and the rows of the HParams tab."""
        self._read()
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
        changed = [reader.read() for reader in self._readers.values()]
        return any(changed)

    def _lines(self) -> dict[str, dict[str, list[Curve]]]:
        """Metric -> configuration -> the curves of its runs."""
        found: dict[str, dict[str, list[Curve]]] = {}
        for configuration, runs in self._groups.items():
            for run in runs:
                for name, curve in self._readers[run.path].curves().items():
                    found.setdefault(name, {}).setdefault(configuration, []).append(curve)
        return found

    def _board(self, configuration: str) -> Path:
        """Where the band of a configuration is in TensorBoard."""
        board = self._folder / "tensorboard" / BOARD
        return board if len(self._groups) == 1 else board / folder_names(list(self._groups))[configuration]

    def _write_bands(self, most_steps: int | None) -> None:
        bands = self.bands(most_steps)
        self._write_root(bands)
        for configuration in self._groups:
            own = {metric: found[configuration] for metric, found in bands.items() if configuration in found}
            if len(self._groups) > 1:
                with session(self._board(configuration)) as writer:
                    write_bands(writer, own)
                discard_before(self._board(configuration))

    def _write_root(self, bands: Mapping[str, Mapping[str, Band]]) -> None:
        root = self._folder / "tensorboard" / BOARD
        curves = [metric for metric, found in bands.items() if any(len(band.steps) > 1 for band in found.values())]
        with session(root) as writer:
            writer.summary(margin_charts(curves), 0)
            if len(self._groups) == 1:
                only = next(iter(self._groups))
                write_bands(writer, {metric: found[only] for metric, found in bands.items()})
        discard_before(root)


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


def write_bands(writer: TensorBoardWriter, bands: Mapping[str, Band]) -> None:
    """The statistics of each metric under tags of their own, and its mean under its own name, to lie among the runs' curves."""
    together: dict[bytes, list[tuple[str, Band]]] = {}
    for metric, band in bands.items():
        together.setdefault(band.steps.tobytes(), []).append((metric, band))
    for same in together.values():
        tags = [tag for metric, _ in same for tag in (metric, *(band_tag(metric, of) for of in STATISTICS))]
        columns = [column.tolist() for _, band in same for column in (band.mean, *band.columns())]
        for step, values in zip(same[0][1].steps.tolist(), zip(*columns, strict=True), strict=True):
            writer.scalars(dict(zip(tags, values, strict=True)), step)


def folder_names(names: Sequence[str]) -> dict[str, str]:
    """A name for a folder for each of several texts: letters, digits and `._=+,-` stay, and no two are equal."""
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^\w.=+,-]+", "_", name).strip("._") or "_"
        taken, n = plain, 1
        while taken.casefold() in {other.casefold() for other in found.values()}:
            n += 1
            taken = f"{plain}_{n}"
        found[name] = taken
    return found
