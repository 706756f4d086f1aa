"""Several workers in one process: threads that take turns, and change turns only where workers of a run wait for each other.

What `torch.distributed` does between processes is done here by hand, so that the code of diva around it runs unaltered. The global
generators are shared, which is safe only because every piece of work seeds them anew: this, too, is being tested.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

WAIT_S = 60.0


class Turns:
    """`n` threads of which one runs at a time, in turn."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._turn, self._left = 0, set(range(n))
        self._change = threading.Condition()
        self._said: list[list[Any]] = [[] for _ in range(n)]
        self._here = threading.local()

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """What `work(rank)` returns for each rank; the first error that any of them raised is raised here."""
        results: list[Any] = [None] * self.n
        errors: list[BaseException] = []

        def one(rank: int) -> None:
            self._here.rank = rank
            self._await(rank)
            try:
                results[rank] = work(rank)
            except BaseException as error:
                errors.append(error)
            finally:
                with self._change:
                    self._left.discard(rank)
                    self._pass_on(rank)

        threads = [threading.Thread(target=one, args=(rank,), daemon=True) for rank in range(self.n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        if errors:
            raise errors[0]
        return results

    def meet(self, own: Any) -> list[Any]:
        """What every worker says here, in the order of the workers."""
        rank = self._here.rank
        self._said[rank].append(copy.deepcopy(own))
        place = len(self._said[rank]) - 1
        with self._change:
            self._pass_on(rank)
        self._await(rank)
        if any(len(said) <= place for said in self._said):
            raise RuntimeError("Connection closed by peer")  # as gloo has it
        return [said[place] for said in self._said]

    def _pass_on(self, rank: int) -> None:
        if self._left:
            self._turn = min(self._left, key=lambda other: (other - rank - 1) % self.n)
        self._change.notify_all()

    def _await(self, rank: int) -> None:
        with self._change:
            assert self._change.wait_for(lambda: self._turn == rank, WAIT_S), "the other workers do not come"

    def stand_in(self, patch: pytest.MonkeyPatch) -> None:
        """Let the collectives of torch.distributed go through here."""

        def all_to_all_single(received: Any, sent: Any, taken: list[int], given: list[int]) -> None:
            rank = self._here.rank
            parts = [tensor.split(cuts)[rank] for tensor, cuts in self.meet((sent, given))]
            assert [len(part) for part in parts] == taken
            received.copy_(torch.cat(parts))

        def all_gather(received: list[Any], own: Any) -> None:
            for place, part in zip(received, self.meet(own), strict=True):
                place.copy_(part)

        def all_gather_object(said: list[Any], own: Any) -> None:
            said[:] = self.meet(own)

        patch.setattr("torch.distributed.all_to_all_single", all_to_all_single)
        patch.setattr("torch.distributed.all_gather", all_gather)
        patch.setattr("torch.distributed.all_gather_object", all_gather_object)
