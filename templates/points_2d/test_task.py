"""The task on a few points made here: it trains, tests, draws, and gives the same bits twice. Keep it green as you change the task."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

import diva

HERE = Path(__file__).parent
SPLITS = ("train", "val", "test")


def write_points(folder: Path, rows: dict[str, list[str]], header: str = "x,y,label") -> Path:
    for split, lines in rows.items():
        (folder / split).mkdir(parents=True)
        (folder / split / "points.csv").write_text("\n".join([header, *lines, ""]))
    return folder


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clouds of points, far from each other and from the origin."""
    generator = numpy.random.Generator(numpy.random.Philox(0))

    def cloud(n: int) -> list[str]:
        points = generator.normal(size=(n, 2)).tolist()
        return [f"{x + (112 if k % 2 else 100)},{y},{'right' if k % 2 else 'left'}" for k, (x, y) in enumerate(points)]

    rows = {"train": cloud(32), "val": cloud(8), "test": cloud(8)}
    return write_points(tmp_path_factory.mktemp("data") / "blobs", rows)


def load(folder: Path, **knobs: Any) -> tuple[Any, diva.Data]:
    """The task and its data."""
    task = diva.load_task(HERE).model_validate(knobs)
    return task, task.load_data(diva.DataFolder("own", folder, "sha256:0", folder.parent / "statistics.json"))


@pytest.mark.parametrize("model", ["fc_simple", "fc_wide"])
def test_it_learns_what_a_child_can_see(blobs: Path, tmp_path: Path, model: str) -> None:
    values = {"data": blobs, "output": tmp_path / "runs", "seed": 1, "model": model, "epochs": 8, "batch_size": 4}
    result = diva.run(HERE, {**values, "tensorboard": False}).result()
    assert result is not None
    assert result["metrics"]["test/accuracy"] == 1.0


def test_the_same_seed_gives_the_same_bits_and_pictures(blobs: Path, tmp_path: Path) -> None:
    values = {"data": blobs, "output": tmp_path / "runs", "seed": 1, "epochs": 2, "dropout": 0.5}
    one, two = (diva.run(HERE, values) for _ in range(2))
    first, second = one.result(), two.result()
    assert first is not None and second is not None
    assert first["weights_digest"] == second["weights_digest"]
    names = sorted(path.name for path in one.figures.iterdir())
    assert {"val_boundary.gif", "train_points.png", *(f"val_boundary_epoch{k:04}.png" for k in range(3))} <= set(names)
    assert [(one.figures / n).read_bytes() for n in names] == [(two.figures / n).read_bytes() for n in names]


def test_only_the_training_split_is_measured(tmp_path: Path) -> None:
    rows = {"train": ["1,5,a", "3,5,b"], "val": ["900,7,a"], "test": ["-4,5,b"]}
    _, data = load(write_points(tmp_path / "d", rows))
    assert (data.facts["mean"], data.facts["std"]) == (
        [2.0, 5.0],
        [1.0, 1.0],
    )  # a constant column stays as wide as it is
    assert data.train[:][0].tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert data.val[:][0].tolist() == [[898.0, 2.0]]


def test_a_constant_column_keeps_its_width_even_where_the_mean_of_equals_is_rounded(tmp_path: Path) -> None:
    rows = {"train": ["0.1,1,a", "0.1,2,b", "0.1,3,a"], "val": ["0.1,1,a"], "test": ["0.11,1,b"]}
    _, data = load(write_points(tmp_path / "d", rows))
    assert (data.facts["mean"][0], data.facts["std"][0]) == (0.1, 1.0)  # 3 times 0.1, divided by 3, is not 0.1
    assert data.train[:][0][:, 0].tolist() == [0.0, 0.0, 0.0]
    assert float(data.test[0][0][0]) == pytest.approx(0.01)


def test_what_is_across_a_line_of_points_is_not_blown_up(tmp_path: Path) -> None:
    lines = [f"{x},{3 * x + 0.7},{-0.1 * x},{k % 2}" for k, x in enumerate((0.1, 0.7, 1.3, 2.9))]
    rows = {"train": lines, "val": lines, "test": ["0.1,2.0,0.3,0"]}
    _, data = load(write_points(tmp_path / "d", rows, "a,b,c,label"), projection="pca")
    assert data.facts["axes_std"][1] == 1.0
    assert float(data.test[0][0].abs().max()) < 100


def test_the_projection_is_that_of_principal_component_analysis(tmp_path: Path) -> None:
    values = numpy.random.Generator(numpy.random.Philox(2)).normal(size=(40, 5))
    values[:, 3] += 2 * values[:, 0]
    values[:, 4] -= values[:, 1]
    lines = [",".join(map(repr, [*row, k % 2])) for k, row in enumerate(values.tolist())]
    folder = write_points(tmp_path / "d", dict.fromkeys(SPLITS, lines), "a,b,c,d,e,label")
    _, data = load(folder, projection="pca")
    scaled = (values - values.mean(0)) / values.std(0)
    variances, vectors = numpy.linalg.eigh(scaled.T @ scaled / 40)
    for axis, vector in zip(data.facts["axes"], vectors.T[::-1], strict=False):
        assert numpy.allclose(axis, vector * numpy.sign(vector[abs(vector).argmax()]), atol=1e-12)
    assert numpy.allclose(data.facts["axes_std"], numpy.sqrt(variances[::-1][:2]), atol=1e-12)
    assert data.facts["n_features"] == data.train[0][0].numel() == 2


def test_chosen_columns_are_seen_and_no_others(tmp_path: Path) -> None:
    rows = {split: ["1,2,9,a", "3,4,7,b"] for split in SPLITS}
    folder = write_points(tmp_path / "d", rows, "a,b,c,label")
    _, data = load(folder, features=("c", "a"))
    assert data.train[:][0].tolist() == [[1.0, -1.0], [-1.0, 1.0]]
    with pytest.raises(diva.UsageError, match=r"--features d: the table has no such column; it has a, b, c"):
        load(folder, features=("d",))


def test_splits_with_other_columns_are_refused(tmp_path: Path) -> None:
    folder = write_points(tmp_path / "d", {"train": ["1,2,a"], "val": ["1,2,a"]})
    write_points(folder, {"test": ["1,2,a"]}, "y,x,label")
    with pytest.raises(diva.DataError, match=r"test/points\.csv: its columns are y, x; those of train are x, y"):
        load(folder)


def test_probabilities_sum_to_one_over_the_classes_at_every_place(blobs: Path) -> None:
    task, data = load(blobs, depth=0)
    model = task.build_model(data)
    with torch.no_grad():  # the class "right" wins where x > 0, whatever y is
        model.classifier.weight.copy_(torch.tensor([[0.0, 0.0], [9.0, 0.0]]))
        model.classifier.bias.zero_()
        boundary = import_module(".boundary", type(task).__module__)
        shares = boundary.probabilities_in_plane(model, data, numpy.array([-1.0, -1.0]), numpy.array([1.0, 1.0]))
    assert numpy.allclose(shares.sum(2), 1, atol=1e-6)
    assert (shares[:, :50, 0] > 0.5).all() and (shares[:, 50:, 1] > 0.5).all()
    assert shares[0, 0, 0] > 0.99 and (shares[0] == shares[-1]).all()


def test_unseen_points_are_prepared_as_those_that_were_learnt_from(tmp_path: Path) -> None:
    rows = {split: ["1,2,9,a", "3,4,7,b", "5,1,2,a"] for split in SPLITS}
    folder = write_points(tmp_path / "d", rows, "a,b,c,label")
    task, data = load(folder, projection="pca")
    recorded = diva.Data(data.train, data.val, data.test, json.loads(json.dumps(data.facts)))
    unseen: Any = task.read_unseen(folder / "test", recorded)
    assert torch.equal(unseen.samples[:][0], data.test[:][0])
    assert (tuple(unseen.names), tuple(unseen.labels)) == (tuple(f"points.csv:{k}" for k in (2, 3, 4)), ("a", "b", "a"))
    probabilities = task.predict(task.build_model(recorded).eval(), unseen.samples[:], recorded)["probabilities"]
    assert torch.allclose(probabilities.sum(1), torch.ones(3))
