"""TensorBoard: what is written is what TensorBoard's own readers find."""

from __future__ import annotations

import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing import tag_types
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_ndarray

from diva.report import tensorboard
from diva.report.figures import curves
from diva.report.style import png
from diva.report.tensorboard import TensorBoardWriter, frames

torch.set_num_threads(1)


def _read(folder) -> EventAccumulator:
    """The folder as a TensorBoard server reads it, keeping every point."""
    return EventAccumulator(str(folder), size_guidance={tag_types.TENSORS: 0}).Reload()


def _curve(folder, tag) -> list[tuple[int, float]]:
    events = _read(folder).Tensors(tag)
    return [(event.step, float(make_ndarray(event.tensor_proto))) for event in events]


def _texts(folder, tag) -> list[str]:
    return [make_ndarray(event.tensor_proto).item().decode() for event in _read(folder).Tensors(tag)]


def _histograms(folder, tag) -> list[np.ndarray]:
    return [make_ndarray(event.tensor_proto) for event in _read(folder).Tensors(tag)]


def test_scalars_come_back_in_order_across_chunks(tmp_path):
    with TensorBoardWriter(tmp_path) as writer:
        for step in range(1300):
            writer.scalars(
                {"train/loss": step / 2, "train/accuracy": 1.0} if step % 3 else {"train/loss": step / 2}, step
            )
    assert _curve(tmp_path, "train/loss") == [(step, step / 2) for step in range(1300)]
    assert [step for step, _ in _curve(tmp_path, "train/accuracy")] == [step for step in range(1300) if step % 3]


def test_several_values_of_a_step_are_one_event(tmp_path):
    with TensorBoardWriter(tmp_path) as writer:
        writer.scalars({"a": 1.0, "b": math.nan, "c": math.inf}, 7)
    (path,) = tmp_path.iterdir()
    events = [event for event in EventFileLoader(str(path)).Load() if event.HasField("summary")]
    assert [(event.step, [value.tag for value in event.summary.value]) for event in events] == [(7, ["a", "b", "c"])]


@pytest.mark.parametrize("lengths", [[4], [70] * 600, [4, 5, 300, 68, 69, 68, 4000], list(range(4, 260))])
def test_frames_are_those_of_tensorboards_record_writer(lengths, tmp_path):
    draw = random.Random(0)
    records = [draw.randbytes(length) for length in lengths]
    with (tmp_path / "records").open("wb") as file:
        for record in records:
            RecordWriter(file).write(record)
    assert frames(records) == (tmp_path / "records").read_bytes()


def test_values_reach_the_file_without_a_call_of_flush(tmp_path, monkeypatch):
    writer = TensorBoardWriter(tmp_path)
    writer.scalars({"loss": 1.0}, 1)
    assert _read(tmp_path).Tags()["tensors"] == []
    monkeypatch.setattr(tensorboard, "FLUSH_EVERY_S", 0.0)
    writer.scalars({"loss": 2.0}, 2)
    assert _curve(tmp_path, "loss") == [(1, 1.0), (2, 2.0)]
    monkeypatch.undo()
    writer.scalars({"loss": 3.0}, 3)
    writer.flush()
    assert len(_curve(tmp_path, "loss")) == 3
    writer.close()
    writer.close()


@pytest.mark.parametrize("read", ["accumulator", "multiplexer"])
def test_resumed_run_shows_one_clean_curve(tmp_path, read):
    with TensorBoardWriter(tmp_path / "run") as writer:
        for step in range(100):
            writer.scalars({"loss": 1.0, "only_before": 1.0}, step)
        writer.text("note", "old", 90)
        writer.text("kept", "old", 10)
    with TensorBoardWriter(tmp_path / "run", purge_step=60) as writer:
        for step in range(60, 80):
            writer.scalars({"loss": 2.0}, step)
    if read == "accumulator":
        events = {tag: _read(tmp_path / "run").Tensors(tag) for tag in ("loss", "only_before", "kept")}
        assert _texts(tmp_path / "run", "note") == []
    else:
        every = {tag_types.TENSORS: 0}
        multiplexer = EventMultiplexer(size_guidance=every).AddRunsFromDirectory(str(tmp_path)).Reload()
        events = {tag: multiplexer.Tensors("run", tag) for tag in ("loss", "only_before", "kept")}
    curve = [(event.step, float(make_ndarray(event.tensor_proto))) for event in events["loss"]]
    assert curve == [(step, 1.0 if step < 60 else 2.0) for step in range(80)]
    assert [event.step for event in events["only_before"]] == list(range(60))
    assert len(events["kept"]) == 1


def test_files_of_sessions_sort_in_order_and_name_no_host(tmp_path):
    for _ in range(11):
        TensorBoardWriter(tmp_path).close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"events.out.tfevents.{session:010d}" for session in range(11)]


def test_png_is_kept_byte_for_byte(tmp_path):
    picture = png(curves({"loss": ([1, 2], [1, 2])}, "t", "x", "y"))
    with TensorBoardWriter(tmp_path) as writer:
        writer.figure("val/curve", picture, 3)
        with pytest.raises(ValueError, match="figure val/curve: expected the bytes of a PNG"):
            writer.figure("val/curve", b"GIF89a", 3)
    (event,) = _read(tmp_path).Tensors("val/curve")
    width, height, stored = make_ndarray(event.tensor_proto)
    assert stored == picture
    assert (int(width), int(height)) == (int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big"))


def test_text_comes_back(tmp_path):
    with TensorBoardWriter(tmp_path) as writer:
        writer.text("report", "# Título\n\n| a |", 1)
    assert _texts(tmp_path, "report") == ["# Título\n\n| a |"]


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]
)
def test_histogram_counts_every_element(tmp_path, dtype):
    tensor = torch.arange(96).reshape(2, 48).to(dtype).requires_grad_(dtype.is_floating_point)
    with TensorBoardWriter(tmp_path) as writer:
        writer.histogram("w", tensor, 1)
    (buckets,) = _histograms(tmp_path, "w")
    assert buckets[:, 2].sum() == 96
    assert (buckets[0, 0], buckets[-1, 1]) == (tensor.min().item(), tensor.max().item())
    if dtype != torch.bool:
        assert (buckets[:, 2] == 2).all()


@pytest.mark.parametrize(
    ("values", "n_counted"),
    [
        ([5.0], 1),
        ([0.0] * 9, 9),
        ([1.0, math.nextafter(1.0, 2.0)], 2),
        ([-1.7e308, 1.7e308], 2),
        ([5e-324, 0.0, 1e-323], 3),
        ([math.nan, 1.0, math.inf, 2.0, -math.inf], 2),
        ([math.nan], 0),
        ([], 0),
    ],
)
def test_histogram_takes_anything_and_says_what_it_left_out(tmp_path, values, n_counted):
    with TensorBoardWriter(tmp_path) as writer:
        writer.histogram("w", torch.tensor(values, dtype=torch.float64), 1)
    tags = _read(tmp_path).Tags()["tensors"]
    if n_counted:
        (buckets,) = _histograms(tmp_path, "w")
        assert buckets[:, 2].sum() == n_counted and np.isfinite(buckets).all()
    assert ("w" in tags) == bool(n_counted)
    if len(values) != n_counted:
        (text,) = _texts(tmp_path, "w/left_out")
        assert text.startswith(f"{len(values) - n_counted} of {len(values)} elements left out")
    assert ("w/left_out" in tags) == (len(values) != n_counted or not values)


def test_histogram_of_complex_numbers_is_skipped_with_the_reason(tmp_path):
    with TensorBoardWriter(tmp_path) as writer:
        writer.histogram("w", torch.zeros(3, dtype=torch.complex64), 1)
    assert _texts(tmp_path, "w/left_out") == ["no histogram: the 3 elements are complex"]


def test_hyperparameters_keep_their_types_and_the_metrics_come_last(tmp_path):
    knobs: dict[str, bool | int | float | str | None] = {
        "augment": True,
        "epochs": 3,
        "lr": 0.1,
        "model": "cnn",
        "crop": None,
        "clip": math.inf,
    }
    with TensorBoardWriter(tmp_path) as writer:
        writer.hyperparameters(knobs, {})
        writer.scalars({"train/loss": 1.0}, 40)
        assert hparams_metadata.SESSION_END_INFO_TAG not in _read(tmp_path).Tags()["tensors"]
        writer.hyperparameters(knobs, {"test/accuracy": 0.5})
    accumulator = _read(tmp_path)
    content = accumulator.SummaryMetadata(hparams_metadata.SESSION_START_INFO_TAG).plugin_data.content
    found = hparams_metadata.parse_session_start_info_plugin_data(content).hparams
    assert {name: value.WhichOneof("kind") for name, value in found.items()} == {
        "augment": "bool_value",
        "epochs": "number_value",
        "lr": "number_value",
        "model": "string_value",
        "clip": "string_value",
    }
    assert found["lr"].number_value == 0.1 and found["clip"].string_value == "inf"
    assert hparams_metadata.SESSION_END_INFO_TAG in accumulator.Tags()["tensors"]
    assert _curve(tmp_path, "test/accuracy") == [(40, 0.5)]


def test_global_generators_are_untouched_and_nothing_is_said(tmp_path):
    program = """
import random, sys
import numpy, torch
before = random.getstate(), numpy.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()
from pathlib import Path
from diva.report.figures import image_grid
from diva.report.style import png
from diva.report.tensorboard import TensorBoardWriter
with TensorBoardWriter(Path(sys.argv[1])) as writer:
    writer.scalars({"loss": 1.0}, 1)
    writer.figure("f", png(image_grid([numpy.zeros((8, 8), numpy.uint8)], ["x"])), 1)
    writer.text("t", "x", 1)
    writer.histogram("h", torch.tensor([1.0, float("nan")]), 1)
    writer.hyperparameters({"lr": 0.1}, {"test/accuracy": 1.0})
after = random.getstate(), numpy.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()
assert before == after
assert "tensorflow" not in sys.modules
"""
    command = [sys.executable, "-W", "default", "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": ":".join(sys.path)})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
