"""What is compared: runs, and groups of runs of a study that differ by what they drew alone: their seed, or streams of other seeds."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from diva.errors import RecordError, UsageError
from diva.learning.task import less_is_better
from diva.records.files import hide_home
from diva.records.run_folder import RunFolder, open_run
from diva.records.study_folder import is_study, open_study

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from diva.records.manifest import Manifest
    from diva.records.study_folder import StudyFolder

MOST_SUBJECTS = 50
N_LETTERS = 26


class Draw(NamedTuple):
    """What sets a run apart in its group. streams: those from seeds of their own, as "init=7", that not all runs of the group have.

    run: the name of its folder where seed and streams do not tell it from another run of the group, else "".
    """

    seed: int
    streams: tuple[str, ...] = ()
    run: str = ""

    def __str__(self) -> str:
        """As tables show it: the seed, and what else there is."""
        return " ".join([str(self.seed), *self.streams, *([self.run] if self.run else [])])


@dataclass(frozen=True)
class Run:
    """One sealed run as it is read for a comparison."""

    folder: RunFolder

    @cached_property
    def manifest(self) -> Manifest:
        """What went in."""
        return self.folder.manifest()

    @cached_property
    def result(self) -> Mapping[str, Any] | None:
        """What came out; None while there is no result."""
        return self.folder.result()

    @cached_property
    def altered(self) -> str:
        """What is not as it was sealed, in words; empty for a whole record."""
        try:
            self.folder.check_seal()
        except RecordError as error:
            return str(error)
        return ""

    @property
    def seed(self) -> int:
        """Of all randomness."""
        return self.manifest.seed

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams of randomness that come from seeds of their own, as "init=7"."""
        return tuple(map(str, self.manifest.options.get("stream") or ()))

    @property
    def metrics(self) -> dict[str, float]:
        """What it measured on val and test; empty while it has not finished."""
        return {name: float(value) for name, value in self.result["metrics"].items()} if self.result else {}


@dataclass(frozen=True)
class Subject:
    """One side of a comparison. `runs` are those that were started, by seed; `missing` says of each other why it does not count.

    label: "A", "B", ...; a table's column. study: None for a run that was named itself.
    """

    label: str
    name: str
    runs: tuple[Run, ...]
    missing: tuple[str, ...] = ()
    study: StudyFolder | None = None

    @property
    def is_group(self) -> bool:
        """Whether it is a study's."""
        return self.study is not None

    @property
    def first(self) -> Run:
        """The run that stands for all of them, which differ by what they drew alone."""
        return self.runs[0]

    @property
    def finished(self) -> tuple[Run, ...]:
        """The runs that count."""
        return tuple(run for run in self.runs if run.result is not None)

    @property
    def monitor(self) -> str:
        """The metric that names the best epoch."""
        return str(self.first.manifest.task.knobs.get("monitor", "val/loss"))

    @cached_property
    def streams(self) -> tuple[str, ...]:
        """The streams from seeds of their own that all runs have."""
        return tuple(stream for stream in self.first.streams if all(stream in run.streams for run in self.runs))

    @cached_property
    def by_draw(self) -> Mapping[Draw, Run]:
        """Every run by what sets it apart, in the order of `runs`."""
        draws = [Draw(run.seed, tuple(s for s in run.streams if s not in self.streams)) for run in self.runs]
        n_of = Counter(draws)
        return {
            draw if n_of[draw] == 1 else draw._replace(run=run.folder.id): run
            for draw, run in zip(draws, self.runs, strict=True)
        }

    @property
    def finished_draws(self) -> tuple[Draw, ...]:
        """What sets the runs apart that count."""
        return tuple(draw for draw, run in self.by_draw.items() if run.result is not None)

    def values(self, metric: str) -> dict[Draw, float]:
        """The metric of each finished run that has it."""
        return {draw: run.metrics[metric] for draw, run in self.by_draw.items() if metric in run.metrics}


def open_subjects(paths: Sequence[Path]) -> list[Subject]:
    """The runs and the studies' configurations that `paths` name, each once; UsageError when there are not two, or too many to show."""
    found: list[tuple[str, tuple[Run, ...], tuple[str, ...], StudyFolder | None]] = []
    for path in dict.fromkeys(path.expanduser().resolve() for path in paths):
        found += _of_study(open_study(path)) if is_study(path) else [_of_run(path)]
    if len(found) < 2:
        what = f"{paths[0]} holds one configuration" if found and found[0][3] else "one run is named"
        raise UsageError(f"{what}, and it takes two to compare; name another run or study: diva compare RUN RUN")
    if len(found) > MOST_SUBJECTS:
        raise UsageError(
            f"{len(found)} runs and configurations are named, at most {MOST_SUBJECTS} fit; {_fewer(found)}"
        )
    return [Subject(_label(place), *one) for place, one in enumerate(found)]


def _fewer(found: Sequence[tuple[str, tuple[Run, ...], tuple[str, ...], StudyFolder | None]]) -> str:
    """What to do when too many are named: of a large study its best runs by the monitored metric can be named one by one."""
    runs = [run for _, of_one, _, study in found if study for run in of_one]
    if not runs:
        return "name fewer"
    monitor = Subject("", "", tuple(runs)).monitor
    scores = [(run.metrics[monitor], run) for run in runs if math.isfinite(run.metrics.get(monitor, math.nan))]
    ranked = sorted(scores, key=lambda pair: pair[0], reverse=not less_is_better(monitor))
    best = " ".join(hide_home(str(run.folder.path)) for _, run in ranked[:2]) or "RUN RUN"
    return f"of a study of many name those of its runs that matter: diva compare {best} ... (best first)"


def _label(place: int) -> str:
    """A to Z, AA to AX."""
    letter = chr(ord("A") + place % N_LETTERS)
    return letter if place < N_LETTERS else f"A{letter}"


def _of_run(path: Path) -> tuple[str, tuple[Run, ...], tuple[str, ...], None]:
    run = Run(open_run(path))
    return run.folder.id, (run,), (), None


def _of_study(study: StudyFolder) -> list[tuple[str, tuple[Run, ...], tuple[str, ...], StudyFolder | None]]:
    """A group per configuration, in the order in which they were planned."""
    groups: dict[str, list[Any]] = {}
    for member in study.known_members():
        groups.setdefault(member.configuration, []).append(study.outcome(member))
    named: list[tuple[str, tuple[Run, ...], tuple[str, ...], StudyFolder | None]] = []
    for configuration, outcomes in groups.items():
        started = [o for o in outcomes if study.member(o.member.name).manifest_file.is_file()]
        counted = [o for o in started if o.status in ("finished", "waiting")]
        runs = sorted((Run(study.member(o.member.name)) for o in counted), key=lambda run: run.seed)
        missing = [
            f"{o.member.name}: {o.error or _why(o.status, o in started)}" for o in outcomes if o.status != "finished"
        ]
        if runs:
            name = study.id if len(groups) == 1 else f"{study.id} {configuration}"
            named.append((name, tuple(runs), tuple(missing), study))
    if not named:
        raise UsageError(f"{study.path}: none of its runs has begun; diva resume {study.path} continues it")
    return named


def _why(status: str, started: bool) -> str:
    return status if status != "waiting" else "not finished" if started else "not started"
