"""What went into runs, side by side: knobs, options, code, environment and data; only what differs, and whether it can change bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from diva.errors import RecordError
from diva.experiment.options import as_recorded, changes_no_bits
from diva.experiment.reproduce import weigh
from diva.records import environment, footprint
from diva.records.source_diff import compare_snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from diva.experiment.compare.subjects import Run
    from diva.records.footprint import Differences
    from diva.records.source_diff import FileChange

MOST_NAMED_FILES: Final = 2


@final
class Absent:
    """Stands where a run has no such knob, option or fact."""

    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = Absent()


@dataclass(frozen=True)
class Row:
    """One thing in which runs differ (or do not, where all are shown): its value in each of them."""

    name: str
    values: tuple[Any, ...]
    can_change_bits: bool = True

    @property
    def differs(self) -> bool:
        """Whether not all values are equal."""
        return any(value != self.values[0] for value in self.values)


@dataclass(frozen=True)
class CodeDifference:
    """In which files the code of one run differs from that of the first; `note` when that cannot be said."""

    of: str
    changes: tuple[FileChange, ...] = ()
    note: str = ""


def side_by_side(
    facts: Sequence[Mapping[str, Any]], bits: Callable[[str], bool] = lambda _: True, *, shown: bool = False
) -> list[Row]:
    """A row per name in which the facts differ, in the order in which they are first named; with `shown` a row for every name."""
    names = dict.fromkeys(name for of_one in facts for name in of_one)
    rows = [Row(name, tuple(of_one.get(name, ABSENT) for of_one in facts), bits(name)) for name in names]
    return [row for row in rows if shown or row.differs]


def knobs(runs: Sequence[Run], *, shown: bool = False) -> list[Row]:
    """The task and its knobs."""
    facts = [
        {"task": run.manifest.task.name, "class": run.manifest.task.class_name, **run.manifest.task.knobs}
        for run in runs
    ]
    return [row for row in side_by_side(facts, shown=shown) if row.differs or row.name not in ("task", "class")]


def options(runs: Sequence[Run], *, shown: bool = False) -> list[Row]:
    """The options of the runs, the seed among them; those that change no bits last. One that an older diva had not is as if not given."""
    facts = [{**as_recorded(run.manifest.options), "seed": run.seed} for run in runs]
    exact = all(run.manifest.options.get("backend") == "exact" for run in runs)
    rows = side_by_side(facts, lambda name: not changes_no_bits(name, exact=exact), shown=shown)
    return sorted(rows, key=lambda row: not row.can_change_bits)


def surroundings(runs: Sequence[Run]) -> list[Row]:
    """Machine, libraries and variables; what can change bits first. A run is weighed by the backend that computed it."""
    first = runs[0].manifest
    found: dict[str, dict[int, Any]] = {}
    then: dict[str, Any] = {}
    bits: set[str] = set()
    for place, run in enumerate(runs[1:], 1):
        torch = next((m for m in (first, run.manifest) if m.options.get("backend") != "exact"), first)
        for row in weigh(environment.differences(first.environment, run.manifest.environment), torch):
            found.setdefault(row.what, {})[place] = row.now
            then[row.what] = row.then
            bits |= {row.what} if row.can_change_bits else set()
    rows = [Row(what, _filled(then[what], now, len(runs)), what in bits) for what, now in found.items()]
    return sorted(rows, key=lambda row: (not row.can_change_bits, row.name))


def _filled(first: Any, others: Mapping[int, Any], n: int) -> tuple[Any, ...]:
    values = [others.get(place, first) for place in range(n)]
    return tuple(ABSENT if value is None else value for value in values)


def data(runs: Sequence[Run]) -> list[Row]:
    """The data sets' names, footprints and what the tasks found out about them."""
    facts = []
    for run in runs:
        record, found = run.manifest.data, run.manifest.facts
        kept = {"footprint": record.digest, "files": record.n_files, "bytes": record.n_bytes} if record else {}
        named = {"name": record.name} if record else {}
        facts.append({**named, **kept, **{k: v for k, v in found.items() if k != "decoder"}})
    return side_by_side(facts, lambda name: name != "name")


def data_files(one: Run, two: Run) -> Differences | str | None:
    """The files in which the data of two runs differ; None where the footprints are equal, a sentence where one cannot be read."""
    left, right = one.manifest.data, two.manifest.data
    if left is None or right is None or left.digest == right.digest:
        return None
    try:
        return footprint.compare(footprint.read(one.folder.footprint_file), footprint.read(two.folder.footprint_file))
    except RecordError as error:
        return str(error)


def code(runs: Sequence[Run]) -> list[Row]:
    """Which code: the project's commit and snapshot, and which diva."""
    facts = []
    for run in runs:
        source, own = run.manifest.source, run.manifest.diva
        facts.append({
            "project": source.get("name"), "commit": source.get("commit"), "branch": source.get("branch"),
            "uncommitted changes": source.get("dirty"), "snapshot": source.get("digest"),
            "diva": own.get("version"), "diva's files": own.get("digest"),
        })  # fmt: skip
    return side_by_side(facts, lambda name: name in ("snapshot", "diva's files"))


def code_changes(one: Run, two: Run) -> list[CodeDifference]:
    """The files in which the snapshots of two runs differ: those of the task first, then diva's."""
    found = []
    if one.manifest.source["digest"] != two.manifest.source["digest"]:
        found.append(_snapshots("project", one, two))
    own = one.manifest.diva, two.manifest.diva
    if own[0]["digest"] != own[1]["digest"]:
        kept = [record.get("snapshot") for record in own]
        if kept == ["diva", "diva"]:
            found.append(_snapshots("diva", one, two))
        elif kept != ["project", "project"]:
            found.append(CodeDifference("diva", note="another diva, and not both runs keep its files"))
    return found


def _snapshots(of: str, one: Run, two: Run) -> CodeDifference:
    try:
        changes = compare_snapshots(one.folder.source / of, two.folder.source / of)
    except RecordError as error:
        return CodeDifference(of, note=str(error))
    tasks = {run.manifest.task.path for run in (one, two)}
    return CodeDifference(of, tuple(sorted(changes, key=lambda change: (_far(change.path, tasks), change.path))))


def _far(path: str, tasks: set[str]) -> int:
    """How far from the task a file is: its own, diva's, anything else."""
    own = any(task == "." or path == task or path.startswith(f"{task}/") for task in tasks)
    return 0 if own else 1 if path.startswith("diva/") else 2


def explanations(runs: Sequence[Run]) -> list[str]:
    """What may explain that bits differ: everything in which the runs differ that can change them, by name."""
    one, two = runs
    tasks = {run.manifest.task.path for run in runs}
    found = [f"knob {row.name}" if row.name not in ("task", "class") else row.name for row in knobs(runs)]
    found += [f"option {row.name}" if row.name != "seed" else "seed" for row in options(runs) if row.can_change_bits]
    changes = [c for difference in code_changes(one, two) for c in difference.changes]
    found += _few_files([change.path for change in changes if _far(change.path, tasks) == 0])
    diva_files = [change.path for change in changes if _far(change.path, tasks) == 1]
    found += _few_files(diva_files)
    if one.manifest.diva["digest"] != two.manifest.diva["digest"] and not diva_files:
        found.append("diva")
    found += [f"data {row.name}" for row in data(runs) if row.can_change_bits]
    loaded = [run.manifest.loaded.digest if run.manifest.loaded else None for run in runs]
    found += ["the weights that training started from"] if loaded[0] != loaded[1] else []
    return found + [row.name for row in surroundings(runs) if row.can_change_bits]


def _few_files(paths: Sequence[str]) -> list[str]:
    """Up to two files by name; of more the first and how many others."""
    if len(paths) <= MOST_NAMED_FILES:
        return [f"code {path}" for path in paths]
    return [f"code {paths[0]} and {len(paths) - 1} files more"]
