"""Which runs and studies are meant by the folders that a user names: these, or the finished ones in them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from diva.errors import UsageError
from diva.records.run_folder import RunFolder
from diva.records.study_folder import is_study, open_study

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from diva.report.console import Console

MOST_NAMED = 4


def named(paths: Sequence[Path], console: Console) -> list[Path]:
    """The runs and studies that `paths` stand for, in their order: a folder that is neither has those directly in it, by name.

    Of a folder the runs that have finished are taken, and the studies of which a member has; how many these are, and how many members
    of a study are left out, is said. UsageError for a folder in which nothing has finished; one without runs is returned as it is.
    """
    found = [path for given in paths for path in ([given] if _is_either(given) else _inside(given, console))]
    for path in dict.fromkeys(found):
        if is_study(path):
            _say_what_is_missing(path, console)
    return found


def _is_either(path: Path) -> bool:
    return is_study(path) or RunFolder(path.expanduser()).manifest_file.is_file()


def _children(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _inside(folder: Path, console: Console) -> list[Path]:
    held = [path for path in _children(folder.expanduser()) if _is_either(path)]
    if not held:
        deeper = [str(path) for path in _children(folder.expanduser()) if any(map(_is_either, _children(path)))]
        if deeper:
            more = f" and {len(deeper) - MOST_NAMED} more" if len(deeper) > MOST_NAMED else ""
            raise UsageError(
                f"{folder}: has no run itself; name a folder that has: {', '.join(deeper[:MOST_NAMED])}{more}"
            )
        return [folder]
    taken = [path for path in held if _has_finished(path)]
    if not taken:
        raise UsageError(f"{folder}: of {_count(held)} in it none has finished; name one to see how far it has come")
    left = [path for path in held if path not in taken]
    console.say(f"{folder}: {_count(taken)} in it" + (f"; without {_count(left)} not finished" if left else ""))
    return taken


def _has_finished(path: Path) -> bool:
    if not is_study(path):
        return RunFolder(path).result() is not None
    study = open_study(path)
    return any(study.outcome(member).status == "finished" for member in study.known_members())


def _count(paths: Sequence[Path]) -> str:
    n_studies = sum(map(is_study, paths))
    counts = [(len(paths) - n_studies, "run", "runs"), (n_studies, "study", "studies")]
    return " and ".join(f"{n} {one if n == 1 else many}" for n, one, many in counts if n)


def _say_what_is_missing(path: Path, console: Console) -> None:
    """How many of a study's members are no part of any statistic."""
    study = open_study(path)
    statuses = Counter(study.outcome(member).status for member in study.known_members())
    n, finished = statuses.total(), statuses.pop("finished", 0)
    if finished and statuses:
        how = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
        console.warn(f"{path}: {finished} of {n} members have finished and count; {how}")
