"""The writer of the tensor trace: weights after every epoch; with `--trace step` everything that each step computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diva.learning.events import EpochEnded, StepEnded
from diva.learning.tensor_digests import ForwardRecord, step_digests, weight_digests
from diva.records.tensor_trace import TensorJournal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diva.learning.events import Event
    from diva.learning.loop import Learner
    from diva.records.run_folder import RunFolder


class TensorWriter:
    """`tensors.jsonl`. With `steps` an entry per step, and one before the first; otherwise one per epoch, of the weights alone.

    done: the last whole epoch of a run that is resumed, -1 for a new one. Of several shards the first alone is seen from within.
    """

    def __init__(self, run: RunFolder, learner: Learner, *, steps: bool, done: int) -> None:
        self._learner = learner
        self._journal = TensorJournal(run.tensors_file, done)
        self._forward = ForwardRecord(learner.model) if steps else None

    def write(self, event: Event, numbers: Mapping[str, float] | None) -> None:
        """Digest what a step, or an epoch, has left."""
        learner = self._learner
        match event:
            case StepEnded() if self._forward is not None:
                seen = self._forward.take()
                if (
                    learner.exchange.shards.n > 1
                ):  # how many shards this worker computes depends on how many workers there are
                    seen = {name: digest for name, digest in seen.items() if "#" not in name}
                self._journal.write(event.epoch, event.step, seen | step_digests(learner.model, learner.optimizer))
            case EpochEnded():
                if self._forward is None or event.step == 0:
                    self._journal.write(event.epoch, event.step, weight_digests(learner.model))
                self._journal.flush()

    def close(self) -> None:
        """Take the hooks away, write out and close."""
        if self._forward is not None:
            self._forward.close()
        self._journal.close()
