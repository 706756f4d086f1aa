"""Pictures of all epochs become one animation: in `figures/` and in TensorBoard, and the same when the run was interrupted."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageSequence
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import diva
from diva.experiment import execute
from diva.experiment.resume import resume
from diva.records.run_folder import open_run
from diva.report.console import Console

TASK = '''"""A square that brightens from epoch to epoch."""

from __future__ import annotations

import numpy
import torch
from torch import nn
from torch.utils.data import TensorDataset

from diva import Data, Picture, Step, Task


class Brightens(Task):
    """Learns one number."""

    draws_every_epoch = True
    animations = ("square",)

    def load_data(self, folder):
        """Four times the number 1."""
        return Data(*(TensorDataset(torch.ones(4, 1)) for _ in range(3)))

    def build_model(self, data):
        """One weight, no bias."""
        return nn.Linear(1, 1, bias=False)

    def training_step(self, model, batch, data):
        """Squared distance from 1."""
        return Step(((model(batch[0]) - 1) ** 2).mean(), {"x": batch[0]})

    def draw_figures(self, model, outputs, data, split):
        """The weight as a grey."""
        shade = int(255 * model.weight.sigmoid())
        yield "square", Picture(numpy.full((8, 160), shade, numpy.uint8))
'''


@pytest.fixture
def task(tmp_path: Path) -> Path:
    (tmp_path / "brightens").mkdir()
    (tmp_path / "brightens" / "task.py").write_text(TASK)
    return tmp_path / "brightens"


def test_a_resumed_run_gives_the_animation_of_a_whole_one(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {"seed": 1, "epochs": 5, "lr": 0.5}
    whole = diva.run(task, {**values, "output": tmp_path / "whole"})
    saved = execute.save

    def save_and_stop(run: Any, learner: Any, event: Any, *rest: Any) -> Any:
        done = saved(run, learner, event, *rest)
        if event.epoch == 2:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(execute, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        diva.run(task, {**values, "output": tmp_path / "cut"})
    monkeypatch.undo()
    (folder,) = (tmp_path / "cut").glob("brightens/*")
    cut = open_run(folder)
    assert not list(cut.figures.glob("*.gif"))
    resume(cut, None, tmp_path / "data", Console(io.StringIO(), io.StringIO()))

    gif = (whole.figures / "val_square.gif").read_bytes()
    assert (cut.figures / "val_square.gif").read_bytes() == gif
    with Image.open(io.BytesIO(gif)) as image:
        assert len(list(ImageSequence.Iterator(image))) == 6
    for run in (whole, cut):
        board = EventAccumulator(str(run.tensorboard), {"images": 0}).Reload()
        assert board.Images("val/square_by_epoch")[-1].encoded_image_string == gif
        assert len(board.Images("val/square")) == 6


def test_a_run_without_figures_has_no_animation(task: Path, tmp_path: Path) -> None:
    run = diva.run(task, {"seed": 1, "epochs": 1, "output": tmp_path / "runs", "tensorboard": False})
    assert not list(run.path.rglob("*.gif"))
