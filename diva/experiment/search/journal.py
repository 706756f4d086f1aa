"""`optuna.journal`: the trials of a sweep as Optuna's own tools read them, whichever sampler suggested them.

    optuna-dashboard runs/<task>/<id>/optuna.journal

It follows from the trials and can be deleted; nothing reads it back.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diva.experiment.search.samplers import Told, optuna_trial, quiet

if TYPE_CHECKING:
    from diva.experiment.search.space import Dimension
    from diva.records.study_folder import StudyFolder

NAME = "optuna.journal"


class OptunaJournal:
    """Adds trials, in their order, as they end; does nothing where Optuna is not installed."""

    def __init__(self, space: Sequence[Dimension], *, less: bool) -> None:
        self._space, self._less = space, less
        self._written = 0
        self._study: Any = None

    def follow(self, study: StudyFolder, told: Sequence[Told]) -> None:
        """Write the trials that have ended and all whose predecessors have."""
        ended = next((t.number for t in told if t.state == "running"), len(told))
        if ended == self._written:
            return
        try:
            import optuna
        except ImportError:
            return
        with quiet(optuna):
            if self._study is None:
                self._begin_anew(optuna, study, told[:ended])
            else:
                for trial in told[self._written : ended]:
                    self._study.add_trial(optuna_trial(self._space, trial, for_tools=True))
        self._written = ended

    def _begin_anew(self, optuna: Any, study: StudyFolder, told: Sequence[Told]) -> None:
        """Write it from the start in another place and move it here: what a killed process left, its lock too, is gone."""
        path = study.path / NAME
        folder = Path(tempfile.mkdtemp(prefix=".optuna-", dir=study.path))
        try:
            made = self._open(optuna, folder / NAME, study.id)
            for trial in told:
                made.add_trial(optuna_trial(self._space, trial, for_tools=True))
            for left in study.path.glob(f"{NAME}*"):
                left.unlink()
            (folder / NAME).replace(path)
        finally:
            shutil.rmtree(folder)
        self._study = self._open(optuna, path, study.id)

    def _open(self, optuna: Any, path: Path, name: str) -> Any:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        return optuna.create_study(
            study_name=name,
            storage=JournalStorage(JournalFileBackend(str(path))),
            direction="minimize" if self._less else "maximize",
            load_if_exists=True,
        )
