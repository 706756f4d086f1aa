"""`diva apply`: what a finished run says of other data, when its task and its training data are gone."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

import diva
from diva.errors import DataError, RecordError, UsageError
from diva.experiment.apply import Wanted, apply, computer, hand_over
from diva.experiment.execute import best_weights
from diva.experiment.options import RunOptions
from diva.records.run_folder import RunFolder, open_run
from diva.report.console import Console

TABLES = ("predictions.csv", "predictions.npz", "features.npz", "neighbours.csv", "apply.json")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, shades: Callable[[Path], Path]) -> Path:
    """`run`, of a task whose folder is gone like its training data, and `test`, the images it was tested on."""
    lab = tmp_path_factory.mktemp("lab")
    shades(lab / "shades")
    shutil.copytree(diva.resources("templates") / "image_classification", lab / "cells")
    values = {
        "data": lab / "shades",
        "output": lab / "runs",
        "seed": 5,
        "epochs": 2,
        "batch_size": 4,
        "tensorboard": False,
    }
    run = diva.run(lab / "cells", values).path
    run.rename(lab / "run")
    (lab / "shades" / "test").rename(lab / "test")
    for gone in ("shades", "cells", "runs"):
        shutil.rmtree(lab / gone)
    return lab


class Applying:
    """Applies the run of `lab` and keeps what is said."""

    def __init__(self, lab: Path, to: Path) -> None:
        self.run, self.test, self.to = open_run(lab / "run"), lab / "test", to
        self.said = io.StringIO()

    def __call__(self, data: Path | None = None, to: str = "out", **wanted: Any) -> Path:
        asked = replace(Wanted(str(data or self.test), to=self.to / to, embed=()), **wanted)
        applied, record = apply(self.run, asked, Console(io.StringIO(), self.said))
        assert json.loads((applied.folder / "apply.json").read_text()) == record
        return applied.folder


@pytest.fixture
def applying(lab: Path, tmp_path: Path) -> Applying:
    return Applying(lab, tmp_path / "applied")


@pytest.fixture(scope="module")
def plain(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is left of applying the run to its test images, with neighbours; not to be changed."""
    return Applying(lab, tmp_path_factory.mktemp("plain"))(neighbours=3)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "apply.json").read_text())
    return found


def test_its_own_test_images_are_judged_as_when_it_was_tested(applying: Applying, plain: Path) -> None:
    folder = plain
    result = applying.run.result()
    assert result is not None
    assert record(folder)["metrics"]["accuracy"] == result["metrics"]["test/accuracy"]
    assert record(folder)["run"]["weights"] == result["best_weights_digest"]
    rows = table(folder / "predictions.csv")
    assert [row["file"] for row in rows] == [f"{name}/{i}.png" for name in ("bright", "dark") for i in range(6)]
    assert [row["label"] for row in rows] == ["bright"] * 6 + ["dark"] * 6
    for row in rows:
        likely = max(("bright", "dark"), key=lambda name: float(row[f"p_{name}"]))
        assert row["predicted"] == likely
        assert float(row["p_bright"]) + float(row["p_dark"]) == pytest.approx(1, abs=1e-6)  # rounded to float32


def test_arrays_hold_what_the_table_says_and_no_objects(plain: Path) -> None:
    folder = plain
    predictions, features = (
        numpy.load(folder / f"{name}.npz", allow_pickle=False) for name in ("predictions", "features")
    )
    rows = table(folder / "predictions.csv")
    assert predictions["names"].tolist() == features["names"].tolist() == [row["file"] for row in rows]
    assert predictions["classes"].tolist() == ["bright", "dark"]
    told = numpy.array([[row["p_bright"], row["p_dark"]] for row in rows]).astype(numpy.float32)
    assert (predictions["probabilities"] == told).all()
    assert features["features"].shape == (12, 128) and features["features"].dtype == numpy.float32
    assert record(folder)["features"] == "input of classifier"


def test_the_tables_are_the_same_bytes_whoever_computes(applying: Applying, plain: Path) -> None:
    """Other batches, threads, instruction set, place; by the command line, whose last line is the folder."""
    one, two = plain, applying.to / "two"
    command = [sys.executable, "-m", "diva", "apply", applying.run.path, "--data", applying.test, "--to", two]
    command += ["--batch-size", 5, "--threads", 2, "--neighbours", 3, "--embed", "none", "--json"]
    environment = {**os.environ, "DIVA_KERNELS_ISA": "scalar"}
    done = subprocess.run([str(word) for word in command], env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["folder"] == str(two)
    for name in TABLES[:-1]:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    assert record(one)["files"] == record(two)["files"]


def test_what_is_said_of_an_image_does_not_depend_on_the_others(
    applying: Applying, plain: Path, tmp_path: Path
) -> None:
    """Mean, standard deviation, size and mode are those of the run; a colour image of another size is brought to them."""
    flat = tmp_path / "flat"
    flat.mkdir()
    shutil.copy(applying.test / "dark" / "3.png", flat / "b.png")
    Image.new("RGB", (50, 20), (250, 240, 230)).save(flat / "a.png")
    alone = table(applying(flat, "flat") / "predictions.csv")
    among = {row["file"]: row for row in table(plain / "predictions.csv")}
    assert [row["file"] for row in alone] == ["a.png", "b.png"]
    assert {**alone[1], "file": "dark/3.png", "label": "dark"} == among["dark/3.png"]


def test_images_without_labels_get_predictions_and_no_metrics(applying: Applying, tmp_path: Path) -> None:
    (tmp_path / "flat" / "more").mkdir(parents=True)
    shutil.copy(applying.test / "dark" / "3.png", tmp_path / "flat" / "more" / "b.png")
    shutil.copy(applying.test / "dark" / "2.png", tmp_path / "flat" / "a.png")
    folder = applying(tmp_path / "flat")
    assert [(row["file"], row["label"]) for row in table(folder / "predictions.csv")] == [
        ("a.png", ""),
        ("more/b.png", ""),
    ]
    assert record(folder)["metrics"] == {} and record(folder)["labelled"] is False
    assert not (folder / "figures" / "confusion_matrix.png").exists()


def test_a_class_that_the_run_does_not_know_counts_as_wrong_and_is_said(applying: Applying, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(applying.test / "dark", data / "dark")
    shutil.copytree(applying.test / "bright", data / "grey")
    folder = applying(data)
    right = sum(row["predicted"] == "dark" == row["label"] for row in table(folder / "predictions.csv"))
    assert record(folder)["metrics"]["accuracy"] == right / 12
    assert "6 are of classes that the run does not know and count as wrong: grey" in applying.said.getvalue()
    shutil.rmtree(data / "dark")
    assert record(applying(data, "strange"))["metrics"] == {}
    assert "none of the labels is a class of the run" in applying.said.getvalue()


def test_a_split_is_taken_from_a_data_set_that_has_splits(applying: Applying, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(applying.test, data / "train")
    shutil.copytree(applying.test / "dark", data / "test" / "dark")
    assert record(applying(data, "default"))["data"]["split"] == "test"
    assert "test is taken, another with --split" in applying.said.getvalue()
    assert record(applying(data, "train", split="train"))["samples"] == 12
    with pytest.raises(UsageError, match="has no folder val; it has train, test"):
        applying(data, "val", split="val")


def test_features_come_from_the_layer_that_is_named(applying: Applying) -> None:
    folder = applying(features="features.0")
    assert numpy.load(folder / "features.npz")["features"].shape == (12, 32 * 8 * 8)
    assert record(folder)["features"] == "features.0"
    assert not (applying(to="none", features="none") / "features.npz").exists()
    with pytest.raises(UsageError, match=r"no such layer; did you mean features\.0"):
        applying(to="wrong", features="feature.0")


def test_ablation_leaves_features_alone(applying: Applying) -> None:
    folder = applying(ablate=True)
    assert not list(folder.glob("predictions.*")) and record(folder)["metrics"] == {}
    rows = table(folder / "features.csv")
    features = numpy.load(folder / "features.npz")["features"]
    assert numpy.float32(rows[7]["feature_5"]) == features[7, 5]
    with pytest.raises(UsageError, match="--ablate: keeps the features alone, and --features none"):
        applying(to="none", ablate=True, features="none")


def test_crops_are_averaged_and_named(applying: Applying, plain: Path) -> None:
    folder, one = applying(crops=3), plain
    assert record(folder)["views"] == ["centre", "top left", "top right"]
    assert (folder / "predictions.csv").read_bytes() != (one / "predictions.csv").read_bytes()
    assert numpy.load(folder / "predictions.npz")["probabilities"].sum(1) == pytest.approx(1, abs=1e-6)  # float32
    with pytest.raises(UsageError, match="--crops 11: allowed are 1"):
        applying(to="many", crops=11)


def test_neighbours_are_listed_and_scored(applying: Applying) -> None:
    folder = applying(neighbours=20)
    assert "of 12 samples each has 11 others" in applying.said.getvalue()
    rows = table(folder / "neighbours.csv")
    for row in rows:
        others = [row[f"neighbour_{rank}"] for rank in range(1, 12)]
        assert sorted([*others, row["file"]]) == sorted(r["file"] for r in rows)
        distances = [float(row[f"distance_{rank}"]) for rank in range(1, 12)]
        assert distances == sorted(distances)
    right = sum(row["label_1"] == row["label"] for row in rows)
    assert record(folder)["metrics"]["precision_at_1"] == right / 12


def test_broken_images_are_all_named_and_left_out_when_asked(applying: Applying, plain: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(applying.test, data)
    (data / "bright" / "2.png").write_bytes(b"no image")
    (data / "dark" / "5.png").write_bytes((data / "dark" / "5.png").read_bytes()[:50])
    with pytest.raises(DataError, match=r"2 of 12 samples cannot be read: bright/2\.png, dark/5\.png .*--skip-broken"):
        applying(data)
    assert not applying.to.exists()
    folder = applying(data, skip_broken=True)
    skipped = record(folder)["skipped"]
    assert list(skipped) == ["bright/2.png", "dark/5.png"] and str(data) not in str(skipped)
    whole = [row for row in table(plain / "predictions.csv") if row["file"] not in skipped]
    assert table(folder / "predictions.csv") == whole


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_is_stopped_leaves_nothing(applying: Applying, monkeypatch: pytest.MonkeyPatch, stop: Any) -> None:
    def stopped(*_: object) -> None:
        raise stop

    monkeypatch.setattr("diva.experiment.applied._draw", stopped)
    with pytest.raises((KeyboardInterrupt, DataError)):
        applying()
    assert list(applying.to.iterdir()) == []


def test_places_that_are_taken_or_part_of_the_record_are_refused(applying: Applying, lab: Path, plain: Path) -> None:
    with pytest.raises(UsageError, match="is there already"):
        apply(applying.run, Wanted(str(applying.test), to=plain), Console(io.StringIO(), applying.said))
    with pytest.raises(UsageError, match="inside the run"):
        apply(
            applying.run, Wanted(str(applying.test), to=lab / "run" / "applied"), Console(io.StringIO(), applying.said)
        )


def test_a_place_that_cannot_be_written_is_found_out_first(applying: Applying, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diva.experiment.apply.os.access", lambda *_: False)
    with pytest.raises(DataError, match=r"cannot be written in .*; choose another place"):
        applying()


def test_who_computes_is_who_computed_the_run_where_that_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    torch_run = replace(RunOptions(), backend="torch", device="cuda:0", threads=3)
    asked = Wanted("data"), Console(io.StringIO(), said)
    found = computer(torch_run, *asked)
    assert (found.backend, found.device, found.threads) == ("torch", "cpu", 3)
    assert "there is no cuda:0 here" in said.getvalue()
    found = computer(replace(RunOptions(), backend="exact", device="cpu", threads=999), *asked)
    assert found.backend == "exact" and found.threads != 999  # of this machine, not of that one


def test_a_run_that_has_not_finished_is_applied_with_a_warning(applying: Applying, lab: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(lab / "run", tmp_path / "run"))
    (run / "result.json").unlink()
    applying.run = open_run(run)
    applying()
    assert "has not finished: these are weights of epoch" in applying.said.getvalue()


def test_altered_weights_are_refused(applying: Applying, lab: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(lab / "run", tmp_path / "run"))
    weights = run / "checkpoints" / best_weights(RunFolder(run))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    applying.run = open_run(run)
    with pytest.raises(RecordError, match="was altered since it was written"):
        applying()


def test_the_recorded_diva_applies_its_run(applying: Applying, monkeypatch: pytest.MonkeyPatch) -> None:
    """As resume and reproduce do, when today's diva is another."""
    started: list[list[str]] = []
    tree = applying.run.source / applying.run.manifest().diva["snapshot"] / "tree"
    monkeypatch.setattr("diva.experiment.code.own_digest", lambda: "sha256:another")
    monkeypatch.setattr("diva.experiment.recorded.os.execve", lambda program, words, environment: started.append(words))
    hand_over(applying.run, ["apply", "RUN"], Console(io.StringIO(), applying.said))
    assert started[0][-3:] == [str(tree), "apply", "RUN"]


def several(folder: Path, shades: Path) -> Path:
    """The images of class folders with two labels each: their class, and whether their number is even."""
    for split in ("train", "val", "test"):
        lines = ["image,bright,even"]
        (folder / split / "images").mkdir(parents=True)
        for path in sorted((shades / split).rglob("*.png")):
            name = f"{path.parent.name}-{path.name}"
            shutil.copy(path, folder / split / "images" / name)
            lines.append(f"{name},{int(path.parent.name == 'bright')},{1 - int(path.stem) % 2}")
        (folder / split / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(("task", "score", "scored", "knobs"), [
    ("multi_label", "exact_match", "test/tuned_exact_match", {"epochs": 2}),
    ("trunk", "accuracy", "test/accuracy", {"epochs": 4, "stage_epochs": 1}),
    ("similarity", "precision_at_1", "test/precision_at_1", {"epochs": 1, "batch_size": 8, "images_per_class": 4}),
])  # fmt: skip
def test_thresholds_trees_and_vectors_are_applied_as_they_were_tested(
    applying: Applying, data: Path, tmp_path: Path, task: str, score: str, scored: str, knobs: dict[str, Any]
) -> None:
    folder = several(tmp_path / "several", data) if task == "multi_label" else data
    values = {"data": folder, "output": tmp_path / "runs", "seed": 3, "tensorboard": False}
    applying.run = diva.run(task, {**values, **knobs})
    result = applying.run.result()
    assert result is not None
    assert record(applying(folder, neighbours=int(task == "similarity")))["metrics"][score] == result["metrics"][scored]


SILENT = """
import torch
from torch.utils.data import TensorDataset

from diva import Data, Step, Task


class Silent(Task):
    epochs: int = 0

    def load_data(self, folder):
        data = TensorDataset(torch.arange(12.0).view(6, 2), torch.arange(6) % 2)
        return Data(data, data, data)

    def build_model(self, data):
        return torch.nn.Linear(2, 2)

    def training_step(self, model, batch, data):
        return Step(torch.nn.functional.cross_entropy(model(batch[0]), batch[1]))
"""


def test_a_task_that_cannot_read_what_is_new_is_refused(applying: Applying, tmp_path: Path) -> None:
    (tmp_path / "silent.py").write_text(SILENT)
    applying.run = diva.run(tmp_path / "silent.py", {"seed": 1, "output": tmp_path / "runs", "tensorboard": False})
    with pytest.raises(UsageError, match=r"Silent, has no read_unseen and no predict, .*docs/reference/tasks\.md"):
        applying()


def state(run: RunFolder) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in run.path.rglob("*"))


def test_pictures_of_features_are_drawn_with_limits_said_and_the_run_as_it_was(
    applying: Applying, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diva.report import projections

    monkeypatch.setitem(projections.LIMITS, "mds", 7)
    monkeypatch.setitem(projections.LEAST, "isomap", 13)
    before = state(applying.run)
    folder = applying(embed=projections.PROJECTIONS)
    assert state(applying.run) == before
    drawn = {path.name for path in (folder / "figures").iterdir()}
    assert drawn == {"confusion_matrix.png", "report.md", "pca.png", "tsne.png", "mds.png"}
    assert "MDS: of 7 of 12 samples" in applying.said.getvalue()
    assert "Isomap: is not drawn, it needs at least 13 samples" in applying.said.getvalue()
    projector = folder / "tensorboard" / "projector" / "features"
    assert (projector / "metadata.tsv").read_text().split() == ["bright"] * 6 + ["dark"] * 6
    assert Image.open(projector / "sprite.png").size == (32, 32)  # 12 thumbnails of 8 x 8, 4 in a row
