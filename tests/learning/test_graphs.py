"""Steps replayed as graphs have the bits of steps taken one by one; what cannot be a graph is refused, and training goes on."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import nn

from diva.kernels import capture
from diva.kernels.exact import exact
from diva.kernels.library import native
from diva.kernels.operators import randomness
from diva.learning.digests import digest_model
from diva.learning.graphs import NotCapturable, OtherBits, StepGraphs, replaced, signature, tensors_of
from diva.learning.task import Step
from diva.seeding import reseeder


class Recorder:
    """A graph on the CPU: records by running, with what it writes put back; replays by running on the same memory."""

    def __init__(self, model: nn.Module, fail: Exception | None = None) -> None:
        self.model, self.fail, self.replays = model, fail, 0

    def record(self, function: Any) -> Any:
        if self.fail is not None:
            raise self.fail
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        first = capture._taken
        loss, outputs = function()
        for buffer, value in buffers:
            buffer.copy_(value)
        gradients = [p.grad for p in self.model.parameters()]

        def replay() -> None:
            self.replays += 1
            for p in self.model.parameters():
                p.grad = None
            capture._taken = first  # the same codes, which the kernels look up in memory
            try:
                again, repeated = function()
            finally:
                capture._taken = None
            with torch.no_grad():
                loss.copy_(again)
                for name, value in repeated.items():
                    outputs[name].copy_(value)
                for place, p in zip(gradients, self.model.parameters(), strict=True):
                    assert place is not None and p.grad is not None
                    place.copy_(p.grad)

        return (loss, outputs), replay


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The GPU's kernels in their emulator, and tensors of float32 taken for a GPU's where a nonce is drawn."""
    plain = randomness.nonce

    def nonce(generator: Any = None, on: Any = None) -> int:
        code = capture.code() if on is not None and on.dtype != torch.float64 else None
        return plain(generator) if code is None else code

    monkeypatch.setattr(randomness, "nonce", nonce)
    native.use("emulated")
    yield
    native.on(torch.zeros(1)).cuda_nonces(0, 0, None)
    native.use()


def model() -> nn.Module:
    torch.default_generator.manual_seed(1)
    return nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.4), nn.Linear(6, 3), nn.Dropout(0.2)
    )


BATCHES = [(torch.arange(20.0).reshape(4, 5).sin() * k, torch.arange(4) % 3) for k in range(1, 6)]
BATCHES.append((BATCHES[0][0][:2], BATCHES[0][1][:2]))  # the last, shorter one


def train(step: Any, graphs: bool, fail: Exception | None = None, owners: Any = (), epochs: int = 1) -> Any:
    """(digest of weights and buffers, losses, what was said, replays) of a training with momentum."""
    network, replays = model(), 0
    said: list[str] = []
    losses: list[float] = []
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    reseed = reseeder()
    for epoch in range(epochs):
        recorder = Recorder(network, fail)
        steps = StepGraphs(
            network,
            optimizer,
            lambda batch: step(network, batch),
            reseed,
            say=said.append,
            recorder=recorder,
            owners=owners,
        )
        for k, batch in enumerate(BATCHES):
            if graphs:
                loss, _ = steps.run(100 * epoch + k, batch)
            else:
                loss, _ = steps._launched(100 * epoch + k, batch)
            nn.utils.clip_grad_norm_(network.parameters(), 0.5)
            optimizer.step()
            losses.append(loss.item())
            losses.append(random.random())
            losses.append(torch.default_generator.get_state().sum().item())
        replays += recorder.replays
    return digest_model(network), losses, said, replays


def plain_step(network: nn.Module, batch: Any, factor: float = 1.0) -> Any:
    inputs, labels = batch
    logits = network(inputs)
    loss = nn.functional.cross_entropy(logits, labels) * factor
    loss.backward()
    return loss, {"logits": logits}


def both(step: Any, **how: Any) -> Any:
    """The same training without graphs and with them; each gets a step of its own."""
    with exact():
        return train(step(), False, epochs=how.get("epochs", 1)), train(step(), True, **how)


def test_replayed_steps_have_the_bits_of_launched_ones(emulated: None) -> None:
    (digest, losses, _, _), (again, found, said, replays) = both(lambda: plain_step, epochs=2)
    assert (again, found, said) == (digest, losses, [])
    assert replays == 2 * 4  # of each epoch's six: not the first of a shape


def test_a_step_that_draws_elsewhere_is_not_captured(emulated: None) -> None:
    def drawing() -> Any:
        return lambda network, batch: plain_step(network, batch, 1 + random.random())

    (digest, losses, _, _), (again, found, said, replays) = both(drawing)
    assert (again, found, replays) == (digest, losses, 0)
    assert len(said) == 1
    assert said[0].startswith(
        "cuda graph: off, since this task's step cannot be captured: it draws random numbers on the CPU"
    )


class Keeps:
    """A task that keeps something between steps."""

    def __init__(self, way: str) -> None:
        self.way, self.calls, self.mean, self.seen = way, 0, torch.ones(()), [0.0]

    def __call__(self, network: nn.Module, batch: Any) -> Any:
        if self.way == "counts":
            self.calls += 1
        elif self.way == "averages":
            self.mean.mul_(0.9)
        elif self.way == "replaces":
            self.mean = self.mean * 0.9
        elif self.way == "collects":
            self.seen.append(1.0)
        return plain_step(network, batch, float(1 + self.calls + self.mean + len(self.seen)))


@pytest.mark.parametrize("way", ["counts", "averages", "replaces", "collects"])
def test_a_step_that_keeps_something_is_not_captured(way: str, emulated: None) -> None:
    kept, other = Keeps(way), Keeps(way)
    with exact():
        digest, losses, *_ = train(kept, False)
        again, found, said, replays = train(other, True, owners=(other,))
    assert (again, found, replays) == (digest, losses, 0)
    assert "it changes Keeps." in said[0] and "which is no buffer" in said[0]


def test_a_buffer_that_is_replaced_is_not_captured(emulated: None) -> None:
    def replacing() -> Any:
        def step(network: Any, batch: Any) -> Any:
            network[1].running_mean = network[1].running_mean * 0.5
            return plain_step(network, batch)

        return step

    (digest, losses, _, _), (again, found, said, replays) = both(replacing)
    assert (again, found, replays) == (digest, losses, 0)
    assert "it changes 1.running_mean" in said[0]


def test_what_is_kept_out_of_sight_ends_the_training(emulated: None) -> None:
    hidden = Keeps("counts")
    with exact(), pytest.raises(OtherBits, match="use --cuda-graph off"):
        train(hidden, True)


@pytest.mark.parametrize(
    "error", [MemoryError("no memory for it"), NotCapturable("no"), RuntimeError("a\nb"), ValueError()]
)
def test_a_capture_that_fails_is_said_and_changes_nothing(error: Exception, emulated: None) -> None:
    (digest, losses, _, _), (again, found, said, _) = both(lambda: plain_step, fail=error)
    assert (again, found) == (digest, losses)
    assert said[0].endswith(("no memory for it", ": no", ": a", ": ValueError"))


def test_a_replay_with_other_bits_is_not_used(emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Recorder.record

    def wrong(self: Recorder, function: Any) -> Any:
        (loss, outputs), replay = record(self, function)
        return (loss, outputs), lambda: (replay(), loss.data.add_(1e-6))

    monkeypatch.setattr(Recorder, "record", wrong)
    (digest, losses, _, _), (again, found, said, _) = both(lambda: plain_step)
    assert (again, found) == (digest, losses)
    assert "its replay has other bits than its launches" in said[0]


def test_batches_of_any_nest_are_copied_into_place() -> None:
    x, y = torch.zeros(2), torch.ones(3)
    batch = {"a": [x, (y, x)], "b": Step(y)}
    assert [t is x for t in tensors_of(batch["a"])] == [True, False, True]
    still = replaced({"a": [x, (y,)]}, {id(x): y, id(y): x})
    assert still["a"][0] is y and still["a"][1][0] is x
    assert signature([x, "name"], [x]) is None and signature((), []) is None
    assert signature([x], [x]) != signature([y], [y])
