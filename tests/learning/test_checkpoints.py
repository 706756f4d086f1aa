"""Checkpoints: what was saved goes on as if it had not been; nothing of someone's file is ever executed."""

import copy
import json
import pickle
from collections import Counter, OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from diva.errors import RecordError
from diva.learning.checkpoints import (
    load_model,
    load_tensors,
    load_weights,
    model_tensors,
    pack,
    pack_optimizer,
    pack_schedule,
    save_tensors,
    unpack,
)
from diva.learning.digests import digest_model, digest_optimizer
from diva.learning.optim import build_optimizer, build_schedule
from diva.learning.task import Step, Task
from diva.records.files import read_json, write_json

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES: dict[str, dict] = {
    "constant": {},
    "step": {"schedule": "step", "step_epochs": 2},
    "multistep": {"schedule": "multistep", "milestones": (2, 4, 4)},
    "exponential": {"schedule": "exponential"},
    "cosine": {"schedule": "cosine"},
    "plateau": {"schedule": "plateau", "step_epochs": 1},
    "warm-up": {"warmup_epochs": 4},
    "warm-up, then cosine": {"schedule": "cosine", "warmup_epochs": 2},
    "warm-up, then multistep": {"schedule": "multistep", "milestones": (3, 5), "warmup_epochs": 2},
}


class Toy(Task):
    epochs: int = 6

    def load_data(self, folder):
        raise NotImplementedError

    def build_model(self, data):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def training_step(self, model, batch, data):
        return Step(model(batch).square().mean())


def parts(task):
    model = task.build_model(None)
    optimizer = build_optimizer(task, model)
    return model, optimizer, build_schedule(task, optimizer)


def train(task, learning, epochs):
    model, optimizer, schedule = learning
    for epoch in epochs:
        for step in range(2):
            batch = torch.randn(5, 3, generator=torch.Generator().manual_seed(10 * epoch + step))
            optimizer.zero_grad()
            loss = task.training_step(model, batch, None).loss
            loss.backward()
            optimizer.step()
        if task.schedule == "plateau":
            schedule.step(1.0)
        elif schedule is not None:
            schedule.step()


def through_a_checkpoint(folder, task, model, optimizer, schedule):
    """New objects with the state of these, from files."""
    state, tensors = pack_optimizer(optimizer)
    save_tensors(folder / "model.safetensors", model.state_dict())
    save_tensors(folder / "optimizer.safetensors", tensors)
    write_json(folder / "state.json", {"optimizer": state, "schedule": pack_schedule(schedule)})
    for parameter in model.parameters():
        parameter.data.fill_(9)  # files, not memory, must carry the state
    stored = read_json(folder / "state.json")
    model, optimizer, schedule = parts(task)
    load_model(folder / "model.safetensors", model)
    optimizer.load_state_dict(unpack(stored["optimizer"], load_tensors(folder / "optimizer.safetensors")))
    if schedule is not None:
        schedule.load_state_dict(unpack(stored["schedule"], {}))
    return model, optimizer, schedule


def through_json(state):
    tensors: dict = {}
    packed = json.loads(json.dumps(pack(state, tensors), allow_nan=False))
    return unpack(packed, tensors)


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_to_the_same_bits(tmp_path, optimizer, schedule, after):
    task = Toy(optimizer=optimizer, lr=0.05, **SCHEDULES[schedule])
    whole = parts(task)
    train(task, whole, range(1, 7))
    cut = parts(task)
    train(task, cut, range(1, after + 1))
    cut = through_a_checkpoint(tmp_path, task, *cut)
    train(task, cut, range(after + 1, 7))
    assert digest_model(cut[0]) == digest_model(whole[0])
    assert digest_optimizer(cut[1]) == digest_optimizer(whole[1])


@settings(deadline=None, max_examples=60)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(st.integers() | st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=12,
    )
)
def test_plain_state_survives_the_record(state):
    restored = through_json(state)
    assert restored == state and repr(restored) == repr(state)  # repr also tells 1 from True and lists from tuples


@pytest.mark.parametrize("name", ["$tensor", "$tuple", "$items", "$counter"])
def test_names_that_look_like_marks_survive(name):
    assert through_json({name: [1]}) == {name: [1]}


def test_tensors_and_counters_survive():
    state = {"a": [torch.arange(3), {"b": (torch.ones(2), 1)}], "counts": Counter({3: 2})}
    restored = through_json(state)
    assert torch.equal(restored["a"][0], torch.arange(3)) and torch.equal(restored["a"][1]["b"][0], torch.ones(2))
    assert restored["counts"] == Counter({3: 2}) and isinstance(restored["counts"], Counter)


def test_numbers_that_are_not_finite_survive_the_files(tmp_path):
    state = {"best": float("inf"), "worst": -float("inf"), "none": float("nan"), "word": "NaN"}
    write_json(tmp_path / "state.json", pack(state, {}))
    restored = unpack(read_json(tmp_path / "state.json"), {})
    assert repr(restored) == repr(state)


def test_what_cannot_be_kept_is_said():
    with pytest.raises(TypeError, match=r"a/0: a object cannot be kept"):
        pack([object()], {}, "a")


def test_tied_weights_are_kept_and_stay_tied(tmp_path):
    def tied():
        model = nn.ModuleDict({"one": nn.Linear(3, 3), "two": nn.Linear(3, 3)})
        model["two"].weight = model["one"].weight
        return model

    model, other = tied(), tied()
    save_tensors(tmp_path / "w.safetensors", model.state_dict())
    load_model(tmp_path / "w.safetensors", other)
    assert digest_model(other) == digest_model(model)
    assert other["two"].weight is other["one"].weight


def test_views_of_one_tensor_are_kept_apart(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {"whole": whole, "row": whole[0], "column": whole[:, 1], "tail": whole[1:], "none": torch.zeros(0)}
    save_tensors(tmp_path / "w.safetensors", tensors)
    restored = load_tensors(tmp_path / "w.safetensors")
    assert all(torch.equal(restored[name], tensors[name]) for name in tensors)
    assert list(tmp_path.iterdir()) == [tmp_path / "w.safetensors"]


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.int64, torch.bfloat16, torch.float16, torch.float64])
def test_every_dtype_is_kept(tmp_path, dtype):
    save_tensors(tmp_path / "w.safetensors", {"x": torch.arange(4).to(dtype), "y": torch.tensor(1).to(dtype)})
    restored = load_tensors(tmp_path / "w.safetensors")
    assert restored["x"].dtype == dtype and torch.equal(restored["x"], torch.arange(4).to(dtype))
    assert restored["y"].shape == ()


def test_a_failure_while_saving_keeps_the_file_before(tmp_path, monkeypatch):
    save_tensors(tmp_path / "w.safetensors", {"x": torch.ones(1)})

    def fail(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diva.learning.checkpoints.save_file", fail)
    with pytest.raises(OSError, match="No space"):
        save_tensors(tmp_path / "w.safetensors", {"x": torch.zeros(1)})
    assert load_tensors(tmp_path / "w.safetensors")["x"].tolist() == [1]
    assert list(tmp_path.iterdir()) == [tmp_path / "w.safetensors"]


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b"", lambda b: b"\xff" * 9 + b[9:], lambda b: b[5:]])
def test_a_damaged_file_is_refused_by_name(tmp_path, damage):
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"x": torch.ones(9)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RecordError, match=r"w\.safetensors: not a readable safetensors file"):
        load_tensors(path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(RecordError, match=r"w\.safetensors: the checkpoint is missing"):
        load_tensors(tmp_path / "w.safetensors")


@pytest.mark.parametrize("left_out", [{"bias": None}, {"more": torch.ones(1)}, {"bias": torch.ones(7)}])
def test_weights_of_another_model_are_refused(tmp_path, left_out):
    tensors = {**nn.Linear(2, 3).state_dict(), **left_out}
    save_tensors(tmp_path / "w.safetensors", {name: value for name, value in tensors.items() if value is not None})
    with pytest.raises(RecordError, match="does not fit the model"):
        load_model(tmp_path / "w.safetensors", nn.Linear(2, 3))


# Weights of someone's


class Malicious:
    """Runs a command when it is unpickled the usual way."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        import os

        return os.mkdir, (self.target,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_a_malicious_pickle_is_refused_and_nothing_is_executed(tmp_path, suffix):
    path, executed = tmp_path / f"w{suffix}", tmp_path / "executed"
    torch.save({"weight": torch.ones(1), "more": Malicious(executed)}, path)
    with pytest.raises(RecordError, match=f"w{suffix}: not a state dict that can be read safely"):
        load_weights(path)
    path.write_bytes(pickle.dumps(Malicious(executed)))
    with pytest.raises(RecordError, match=f"w{suffix}"):
        load_weights(path)
    assert not executed.exists()
    pickle.loads(path.read_bytes())  # it would have been
    assert executed.exists()


def test_a_state_dict_is_read(tmp_path):
    state = nn.Linear(2, 3).state_dict()
    torch.save(state, tmp_path / "w.pth")
    save_file(dict(state), tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        found = load_weights(tmp_path / name)
        assert list(found) == ["weight", "bias"] or sorted(found) == ["bias", "weight"]
        assert all(torch.equal(found[key], state[key]) for key in state)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_state_dict_inside_a_checkpoint_is_found(tmp_path, key):
    torch.save({"epoch": 3, key: OrderedDict(a=torch.ones(1)), "optimizer": {"lr": 0.1}}, tmp_path / "w.pth")
    assert list(load_weights(tmp_path / "w.pth")) == ["a"]


def test_the_prefix_of_a_parallel_model_is_taken_off(tmp_path):
    torch.save({f"module.{name}": value for name, value in nn.Linear(2, 3).state_dict().items()}, tmp_path / "w.pth")
    assert sorted(load_weights(tmp_path / "w.pth")) == ["bias", "weight"]


def test_a_part_called_module_keeps_its_name(tmp_path):
    torch.save({"module.a": torch.ones(1), "a": torch.zeros(1)}, tmp_path / "w.pth")
    assert sorted(load_weights(tmp_path / "w.pth")) == ["a", "module.a"]


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 3}, {"state_dict": {}}, torch.ones(2), None])
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(RecordError, match=r"w\.pth: holds no state dict of tensors"):
        load_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_a_file_of_something_else_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(RecordError) as raised:
        load_weights(tmp_path / "w.pth")
    assert str(tmp_path / "w.pth") in str(raised.value) and "\n" not in str(raised.value)


def test_a_missing_file_of_weights_is_refused_with_what_load_takes(tmp_path):
    with pytest.raises(RecordError, match=r"gone\.pth: no such file; --load takes"):
        load_weights(tmp_path / "gone.pth")


def test_saving_changes_nothing_that_learns(tmp_path):
    task = Toy(optimizer="adam", schedule="cosine")
    model, optimizer, schedule = parts(task)
    train(task, (model, optimizer, schedule), range(1, 3))
    before = digest_model(model), digest_optimizer(optimizer), copy.deepcopy(schedule.state_dict())
    state, tensors = pack_optimizer(optimizer)
    save_tensors(tmp_path / "o.safetensors", tensors)
    pack_schedule(schedule)
    assert (digest_model(model), digest_optimizer(optimizer), schedule.state_dict()) == before
    assert json.dumps(state)


def test_buffers_that_a_state_dict_leaves_out_are_kept_and_digested(tmp_path):
    class Counting(nn.Module):
        seen: torch.Tensor

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)
            self.register_buffer("seen", torch.zeros(1), persistent=False)

    one, two = Counting(), Counting()
    one.seen += 3
    save_tensors(tmp_path / "w.safetensors", model_tensors(one))
    load_model(tmp_path / "w.safetensors", two)
    assert two.seen.item() == 3
    assert digest_model(one) == digest_model(two)
    two.seen += 1
    assert digest_model(one) != digest_model(two)
