"""What is compared: runs, and groups of runs of a study that differ by what they drew alone: their seed, or streams of other seeds."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from diva.errors import RecordError, UsageError, nearest
from diva.learning.task import less_is_better
from diva.records.files import hide_home
from diva.records.run_folder import RunFolder, open_run
from diva.records.study_folder import is_study, open_study

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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

    label: "A", "B", ...; a table's column. study: None for a run that was named itself; configuration: which of the study's.
    """

    label: str
    name: str
    runs: tuple[Run, ...]
    missing: tuple[str, ...] = ()
    study: StudyFolder | None = None
    configuration: str = ""

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


def open_subjects(paths: Sequence[Path], base: str = "") -> list[Subject]:
    """The runs and the studies' configurations that `paths` name, each once, the one that all others are compared with before them.

    base: which that is, by label, configuration or path, also one that is not among `paths`; "" for the first named: of a sweep its best
    trial, of a sensitivity study its base. Labels follow `paths`. UsageError when there are not two, too many to show, or no such base.
    """
    found = _found(paths)
    place = _place_of_base(found, base)
    if place is None and Path(base).expanduser().exists():
        found = _found([Path(base), *paths])
        place = _default(found, found[0].study)
    if len(found) < 2:
        what = f"{paths[0]} holds one configuration" if found and found[0].is_group else "one run is named"
        raise UsageError(f"{what}, and it takes two to compare; name another run or study: diva compare RUN RUN")
    if len(found) > MOST_SUBJECTS:
        raise UsageError(
            f"{len(found)} runs and configurations are named, at most {MOST_SUBJECTS} fit; {_fewer(found)}"
        )
    if place is None:
        names = [subject.configuration or subject.name for subject in found]
        raise UsageError(f"--base {base}: none of what is compared, and no folder; {nearest(base, names)}")
    labelled = [replace(one, label=_label(k)) for k, one in enumerate(found)]
    return [labelled.pop(place), *labelled]


def _found(paths: Sequence[Path]) -> list[Subject]:
    """What `paths` name, in their order, without labels."""
    found: list[Subject] = []
    for path in dict.fromkeys(path.expanduser().resolve() for path in paths):
        found += _of_study(open_study(path)) if is_study(path) else [_of_run(path)]
    return found


def _place_of_base(found: Sequence[Subject], base: str) -> int | None:
    """Where the base is: by label, by configuration or name, by the path of a study or of a run; None when it is not there."""
    if not base:
        return _default(found, found[0].study) if found else None
    path = Path(base).expanduser().resolve()
    for place, one in enumerate(found):
        named = (_label(place), one.configuration, one.name, one.name.partition(" ")[2])
        if base in named or path in [run.folder.path.resolve() for run in one.runs]:
            return place
        if one.study is not None and one.study.path == path:
            return _default(found, one.study)
    return None


def _default(found: Sequence[Subject], study: StudyFolder | None) -> int:
    """Of a sweep the trial with the best mean of the monitored metric, of a sensitivity study its base, else the first of all."""
    own = [place for place, one in enumerate(found) if one.study == study]
    kind = study.record().kind if study else ""
    if kind == "sensitivity":
        return next((place for place in own if found[place].configuration == "base"), own[0])
    if kind == "sweep":
        means = {place: _mean(list(found[place].values(found[place].monitor).values())) for place in own}
        known = [place for place in own if math.isfinite(means[place])]
        sign = 1 if less_is_better(found[own[0]].monitor) else -1
        return min(known, key=lambda place: sign * means[place], default=own[0])
    return own[0] if study else 0


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _fewer(found: Sequence[Subject]) -> str:
    """What to do when too many are named: of a large study its best runs by the monitored metric can be named one by one."""
    runs = [run for one in found if one.is_group for run in one.runs]
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


def _of_run(path: Path) -> Subject:
    run = Run(open_run(path))
    return Subject("", run.folder.id, (run,))


def _of_study(study: StudyFolder) -> list[Subject]:
    """A group per configuration, in the order in which they were planned."""
    groups: dict[str, list[Any]] = {}
    for member in study.known_members():
        groups.setdefault(member.configuration, []).append(study.outcome(member))
    names = _names(study, {configuration: outcomes[0].member.values for configuration, outcomes in groups.items()})
    found: list[Subject] = []
    for configuration, outcomes in groups.items():
        started = [o for o in outcomes if study.member(o.member.name).manifest_file.is_file()]
        counted = [o for o in started if o.status in ("finished", "waiting")]
        runs = sorted((Run(study.member(o.member.name)) for o in counted), key=lambda run: run.seed)
        missing = [
            f"{o.member.name}: {o.error or _why(o.status, o in started)}" for o in outcomes if o.status != "finished"
        ]
        if runs:
            name = study.id if len(groups) == 1 else f"{study.id} {names[configuration]}"
            found.append(Subject("", name, tuple(runs), tuple(missing), study, configuration))
    if not found:
        raise UsageError(f"{study.path}: none of its runs has begun; diva resume {study.path} continues it")
    return found


def _names(study: StudyFolder, values: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What configurations are called: a sweep's trials by their values, where these tell them apart; all others as they are."""
    if study.record().kind != "sweep":
        return {configuration: configuration for configuration in values}
    for digits in (4, 17):
        names = [_in_words(own, digits) for own in values.values()]
        if len(set(names)) == len(names) and all(names):
            return dict(zip(values, names, strict=True))
    return {configuration: configuration for configuration in values}


def _in_words(values: Mapping[str, Any], digits: int) -> str:
    """ "lr=0.096 width=16"."""
    kept = {name: value for name, value in values.items() if name != "seed"}
    shown = {name: f"{v:.{digits}g}" if isinstance(v, float) else str(v) for name, v in kept.items()}
    return " ".join(f"{name}={value}" for name, value in shown.items())


def _why(status: str, started: bool) -> str:
    return status if status != "waiting" else "not finished" if started else "not started"
