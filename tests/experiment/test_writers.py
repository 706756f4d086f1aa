"""What a task draws reaches TensorBoard and `figures/`: what TensorBoard's own reader and Pillow find of it."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import torch
from PIL import Image
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from diva import Animation, Histogram
from diva.experiment.writers import BoardWriter
from diva.records.run_folder import RunFolder
from diva.report.console import Console


def kept(folder: Path, drawing: Any) -> numpy.ndarray:
    """What TensorBoard has of a drawing named "shown" of val, after epoch 2 and step 7."""
    run, learner = RunFolder(folder), SimpleNamespace(task=SimpleNamespace(model_dump=dict))
    run.figures.mkdir()
    writer = BoardWriter(run, learner, Console(io.StringIO(), io.StringIO()))  # type: ignore[arg-type]
    writer.keep("shown", drawing, "val", 2, 7)
    writer.close()
    (event,) = EventAccumulator(str(run.tensorboard)).Reload().Tensors("val/shown")
    assert event.step == 7
    values: numpy.ndarray = make_ndarray(event.tensor_proto)
    return values


def test_an_animation_is_a_gif_in_tensorboard_and_in_figures(tmp_path: Path) -> None:
    frames = [numpy.full((4, 6, 3), level, numpy.uint8) for level in (0, 255)]
    width, height, gif = kept(tmp_path, Animation(frames, seconds_per_frame=0.5)).tolist()
    assert (int(width), int(height)) == (6, 4)
    assert (tmp_path / "figures" / "val_shown_epoch0002.gif").read_bytes() == gif
    with Image.open(io.BytesIO(gif)) as image:
        assert (image.format, image.n_frames, image.info["duration"]) == ("GIF", 2, 500)  # type: ignore[attr-defined]


def test_a_histogram_counts_every_element_of_a_tensor_of_any_shape(tmp_path: Path) -> None:
    buckets = kept(tmp_path, Histogram(torch.tensor([[0.0, 0.0], [0.0, 3.0]])))
    assert buckets[0].tolist()[0::2] == [0.0, 3.0] and buckets[-1].tolist()[1:] == [3.0, 1.0]
    assert buckets[:, 2].sum() == 4 and not list((tmp_path / "figures").iterdir())
