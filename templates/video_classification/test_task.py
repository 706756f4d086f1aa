"""The task on a few clips drawn here: it trains, tests, and gives the same bits twice. Keep it green as you change the task."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

import diva

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright bar that goes down or up over noise, 6 frames of 12 x 12 pixels: folders of frames, and animated GIFs in train."""
    folder = tmp_path_factory.mktemp("data") / "bars"
    generator = numpy.random.Generator(numpy.random.Philox(0))
    for split, n in (("train", 8), ("val", 4), ("test", 4)):
        for name, towards in (("down", 1), ("up", -1)):
            for i in range(n):
                pixels = generator.integers(0, 40, (6, 12, 12), dtype=numpy.uint8)
                for t in range(6):
                    pixels[t, (i + 2 * towards * t) % 12] = 255
                frames = [Image.fromarray(frame) for frame in pixels]
                clip = folder / split / name / f"clip{i}"
                if split == "train":
                    clip.parent.mkdir(parents=True, exist_ok=True)
                    frames[0].save(clip.with_suffix(".gif"), save_all=True, append_images=frames[1:])
                else:
                    clip.mkdir(parents=True)
                    for t, frame in enumerate(frames):
                        frame.save(clip / f"{t}.png")
    (folder / "dataset.yaml").write_text("layout: clips\n", encoding="utf-8")
    return folder


SMALL = {"seed": 1, "image_size": 12, "frames": 4, "batch_size": 4, "lr": 0.01}


def loaded(folder: Path, **knobs: Any) -> tuple[Any, Any]:
    task = diva.load_task(HERE).model_validate(knobs)
    return task, task.load_data(diva.DataFolder("bars", folder, "sha256:0", folder.parent / "bars.statistics.json"))


def test_it_learns_what_a_child_can_see(dots: Path, tmp_path: Path) -> None:
    run = diva.run(HERE, {"data": dots, "output": tmp_path / "runs", "epochs": 8, **SMALL})
    result = run.result()
    assert result is not None
    assert result["metrics"]["test/accuracy"] == 1.0
    assert {path.name for path in run.figures.glob("t*")} == {
        "train_samples.png", "test_confusion_matrix.png", "test_filmstrips.png", "test_report.md",
    }  # fmt: skip


def test_the_same_seed_gives_the_same_bits(dots: Path, tmp_path: Path) -> None:
    values = {"data": dots, "output": tmp_path / "runs", "epochs": 1, "model": "frame_gru", **SMALL}
    one, two = (diva.run(HERE, values).result() for _ in range(2))
    assert one is not None and two is not None
    assert one["weights_digest"] == two["weights_digest"]


def test_frames_are_drawn_in_training_and_lie_in_the_middle_in_evaluation(dots: Path) -> None:
    _, data = loaded(dots, frames=2, stride=2, image_size=12)
    torch.manual_seed(0)
    assert len({data.train[0][0].numpy().tobytes() for _ in range(40)}) == 4  # it may begin at frames 0, 1, 2 and 3
    numbers = data.val.numbers[0]
    seen = (data.val[0][0].permute(1, 2, 3, 0) * 127.5 + 127.5).round().to(torch.uint8).numpy()
    assert (seen == data.val.pixels.read([numbers[1], numbers[3]])).all()


def test_the_last_frame_of_a_short_clip_is_repeated(dots: Path) -> None:
    task, data = loaded(dots, frames=9, image_size=12)
    clips = import_module(".clips", type(task).__module__)
    assert clips.choose_frames(6, 9, 1) == [0, 1, 2, 3, 4, 5, 5, 5, 5]
    assert data.val[0][0].shape == (3, 9, 12, 12)


def test_only_with_differences_a_frame_tells_where_things_go(dots: Path) -> None:
    """A clip played backwards has the same frames: to the frame CNN it is the same clip."""
    for differences in (False, True):
        task, data = loaded(dots, model="frame_cnn", differences=differences, image_size=12, frames=4)
        torch.manual_seed(0)
        model = task.build_model(data).eval()
        clip = data.val[0][0][None]
        with torch.no_grad():
            same = torch.allclose(model(clip), model(clip.flip(2)), atol=1e-5)
        assert same is not differences


def test_a_still_image_where_a_clip_should_be_is_named(dots: Path, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / split / "a" / "x.jpg")
    with pytest.raises(diva.DataError, match=r"x\.jpg: is a still image, not a clip"):
        loaded(tmp_path)


def test_a_folder_of_still_images_is_sent_to_image_classification(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        for name in ("x.png", "y.gif"):
            Image.new("L", (8, 8)).save(tmp_path / split / "a" / name)
    with pytest.raises(diva.DataError, match=r"every clip has a single frame.*--task image_classification"):
        loaded(tmp_path)
    (tmp_path / "val" / "a" / "z").mkdir()
    for t in range(2):
        Image.new("L", (8, 8)).save(tmp_path / "val" / "a" / "z" / f"{t}.png")
    assert len(loaded(tmp_path)[1].val) == 3
