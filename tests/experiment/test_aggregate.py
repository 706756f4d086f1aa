"""Aggregation: what TensorBoard is given are NumPy's numbers on the runs' metrics, however often and whenever it looked."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from diva.cli.aggregate import summary_rows
from diva.errors import UsageError
from diva.experiment.study import aggregate as module
from diva.experiment.study.aggregate import Aggregation, folder_names
from diva.experiment.study.gather import aggregate, gather
from diva.experiment.study.named import named
from diva.records.run_folder import RunFolder
from diva.report.console import Console
from diva.report.tensorboard import sessions
from diva.statistics.summary import summarise

EPOCHS = 6


def metrics(seed: int, epochs: int = EPOCHS) -> dict[str, list[tuple[int, float]]]:
    """The curves of a hand-made run."""
    draw = np.random.Generator(np.random.Philox(seed))
    names = ("val/loss", "val/accuracy", "val/f1/cat")
    curves = {name: [(17 * e, float(draw.random())) for e in range(epochs)] for name in names}
    return {**curves, "test/accuracy": [(17 * seed, 0.9 + seed / 100)]}


def write_run(path: Path, seed: int, epochs: int = EPOCHS, finished: bool = True, **knobs: object) -> RunFolder:
    path.mkdir(parents=True, exist_ok=True)
    rows = [{"per": "epoch", "epoch": step // 17, "step": step, "name": name, "value": value}
            for name, curve in metrics(seed, epochs).items() for step, value in curve]  # fmt: skip
    (path / "metrics.jsonl").write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
    manifest = {
        "task": {"name": "digits", "knobs": {"lr": 0.1, "milestones": [3, 5], "crop": None, **knobs}},
        "data": None, "options": {"backend": "exact", "threads": 1}, "seed": seed, "source": {"digest": "sha256:1"},
    }  # fmt: skip
    (path / "manifest.json").write_text(json.dumps(manifest))
    if finished:
        scores = {"test/accuracy": 0.9 + seed / 100, "test/f1/cat": 0.5, "val/accuracy": 0.8}
        (path / "result.json").write_text(json.dumps({"metrics": scores}))
    return RunFolder(path)


def record(run: RunFolder, **changes: object) -> None:
    """Alter what the manifest says."""
    run.manifest_file.write_text(json.dumps({**json.loads(run.manifest_file.read_text()), **changes}))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[RunFolder]:
    folder = tmp_path_factory.mktemp("members")
    return [write_run(folder / f"seed-{seed}", seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def finished(runs: list[RunFolder], tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    Aggregation({"": runs}, folder, "digits").finish()
    return folder


def events(folder: Path) -> list:
    return [event for file in sessions(folder) for event in EventFileLoader(str(file)).Load()]


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value, as TensorBoard shows them: a start forgets what was there."""
    found: dict[str, dict[int, float]] = {}
    for event in events(folder):
        if event.HasField("session_log"):
            found = {}
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "scalars":
                found.setdefault(value.tag, {})[event.step] = value.tensor.float_val[0]
    return found


def expected(seeds: tuple[int, ...]) -> np.ndarray:
    return np.array([[value for _, value in metrics(seed)["val/loss"]] for seed in seeds])


def test_tensorboard_is_given_the_numbers_of_numpy(finished: Path):
    found = scalars(finished / "tensorboard/aggregate")
    values = expected((1, 2, 3))
    mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
    wanted = {
        "val/loss": mean, "spread/val/loss/mean": mean, "spread/val/loss/mean_minus_sd": mean - sd,
        "spread/val/loss/mean_plus_sd": mean + sd, "spread/val/loss/min": values.min(axis=0),
        "spread/val/loss/max": values.max(axis=0), "spread/val/loss/n": np.full(EPOCHS, 3.0),
    }  # fmt: skip
    for tag, numbers in wanted.items():
        assert list(found[tag]) == [17 * e for e in range(EPOCHS)]
        assert list(found[tag].values()) == numbers.astype(np.float32).tolist(), tag
    assert found["spread/test/accuracy/mean"] == {51: pytest.approx(0.92)}


def test_every_curve_of_a_whole_split_has_a_chart_of_three_tags(finished: Path):
    (value,) = [
        v for e in events(finished / "tensorboard/aggregate") for v in e.summary.value if v.tag.startswith("custom")
    ]
    layout = Layout.FromString(value.tensor.string_val[0])
    assert [(category.title, category.closed) for category in layout.category] == [
        ("val, the last half of the steps: mean ± sd", False),
        ("val: mean ± sd", False),
        ("val/f1: mean ± sd", True),
        ("val: mean, min to max", True),
        ("val/f1: mean, min to max", True),
    ]
    charts = {chart.title: chart.margin.series[0] for category in layout.category for chart in category.chart}
    series = charts["val/accuracy (mean ± sd)"]
    assert (series.value, series.lower, series.upper) == tuple(
        f"spread/val/accuracy/{name}" for name in ("mean", "mean_minus_sd", "mean_plus_sd")
    )
    assert len(charts) == 8  # and none of test/accuracy, which is a point


def test_the_last_half_of_the_steps_has_a_band_of_its_own(finished: Path):
    found = scalars(finished / "tensorboard/aggregate")
    for name in ("mean", "mean_minus_sd", "mean_plus_sd"):
        whole, half = found[f"spread/val/loss/{name}"], found[f"spread/val/loss/last half/{name}"]
        assert half == {step: value for step, value in whole.items() if step >= 17 * (EPOCHS - 1) / 2}
        assert len(half) == EPOCHS // 2


def test_figures_are_files_and_images(finished: Path):
    pictures = {p.stem: p.read_bytes() for p in (finished / "figures").glob("*.png")}
    assert sorted(pictures) == ["test_accuracy_scores", "val_accuracy", "val_loss"]
    images = {v.tag: v for e in events(finished / "tensorboard/aggregate") for v in e.summary.value
              if v.metadata.plugin_data.plugin_name == "images"}  # fmt: skip
    assert images["scores/test/accuracy"].tensor.string_val[2] == pictures["test_accuracy_scores"]
    assert images["bands/val/loss"].tensor.string_val[2] == pictures["val_loss"]


def hparams(folder: Path) -> dict[str, HParamsPluginData]:
    values = [v for e in events(folder) for v in e.summary.value if v.tag.startswith("_hparams_")]
    return {v.tag: HParamsPluginData.FromString(v.metadata.plugin_data.content) for v in values}


def test_the_hparams_tab_has_a_row_with_mean_and_sd(finished: Path):
    folder = finished / "tensorboard/summary"
    found = hparams(folder)
    knobs = found["_hparams_/session_start_info"].session_start_info.hparams
    assert knobs["configuration"].string_value == "all"
    assert knobs["lr"].number_value == 0.1
    assert knobs["milestones"].string_value == "(3, 5)"
    columns = [info.name.tag for info in found["_hparams_/experiment"].experiment.metric_infos]
    assert columns == ["test/accuracy", "test/accuracy/sd", "val/accuracy", "val/accuracy/sd", "runs"]
    row = {tag: list(points.values())[-1] for tag, points in scalars(folder).items()}
    scores = {"test/accuracy": 0.92, "test/accuracy/sd": 0.01, "val/accuracy": 0.8, "val/accuracy/sd": 0.0}
    assert row == pytest.approx({**scores, "runs": 3.0}, abs=1e-7)


def test_how_often_it_looked_changes_no_picture_and_no_number(finished: Path, tmp_path: Path):
    live = [RunFolder(tmp_path / "members" / f"seed-{seed}") for seed in (1, 2, 3)]
    aggregation = Aggregation({"": live}, tmp_path, "digits")
    assert not aggregation.refresh()
    for seed in (3, 1, 2):  # members end in another order than they are listed
        for epochs in (2, EPOCHS):
            write_run(live[seed - 1].path, seed, epochs, finished=epochs == EPOCHS)
            assert aggregation.refresh()
            assert not aggregation.refresh()
    shown = scalars(tmp_path / "tensorboard/aggregate")  # few steps, so that nothing was thinned
    aggregation.finish()
    wanted = scalars(finished / "tensorboard/aggregate")
    assert scalars(tmp_path / "tensorboard/aggregate") == wanted
    assert shown == {tag: points for tag, points in wanted.items() if "/last half/" not in tag}
    for file in (finished / "figures").glob("*.png"):
        assert (tmp_path / "figures" / file.name).read_bytes() == file.read_bytes()


def test_a_refresh_keeps_one_session_and_empty_files_for_a_tensorboard_that_is_open(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "KEPT_EMPTY", 2)
    run = RunFolder(tmp_path / "run")
    aggregation = Aggregation({"": [run]}, tmp_path, "digits")
    for epochs in range(1, 6):
        write_run(run.path, 1, epochs)
        aggregation.refresh()
    files = sessions(tmp_path / "tensorboard/aggregate")
    assert [int(file.suffix[1:]) for file in files] == [2, 3, 4]
    assert [file.stat().st_size > 0 for file in files] == [False, False, True]
    shown = EventFileLoader(str(files[-1])).Load()
    assert any(event.HasField("session_log") for event in shown), "what was read of earlier sessions is to be forgotten"


def test_several_configurations_have_a_band_each(runs: list[RunFolder], tmp_path: Path):
    aggregation = Aggregation({"lr=0.1": runs[:2], "lr=0.2/a": runs[2:]}, tmp_path, "digits")
    aggregation.refresh()
    values = expected((1, 2))
    found = scalars(tmp_path / "tensorboard/aggregate/lr=0.1")
    assert list(found["val/loss"].values()) == values.mean(axis=0).astype(np.float32).tolist()
    found = scalars(tmp_path / "tensorboard/aggregate/lr=0.2_a")
    assert found["spread/val/loss/n"] == {17 * e: 1.0 for e in range(EPOCHS)}
    assert scalars(tmp_path / "tensorboard/aggregate") == {}


def test_runs_that_join_later_are_followed(runs: list[RunFolder], tmp_path: Path):
    aggregation = Aggregation({"": runs[:1]}, tmp_path, "digits")
    aggregation.refresh()
    aggregation.follow({"": runs})
    assert aggregation.refresh()
    assert set(scalars(tmp_path / "tensorboard/aggregate")["spread/val/loss/n"].values()) == {3.0}


def test_a_refresh_imports_neither_torch_nor_matplotlib(runs: list[RunFolder], tmp_path: Path):
    code = f"""
import sys
from pathlib import Path
from diva.experiment.study.aggregate import Aggregation
from diva.records.run_folder import RunFolder
print(Aggregation({{"": [RunFolder(Path({str(runs[0].path)!r}))]}}, Path({str(tmp_path)!r}), "t").refresh())
print(*sorted({{"torch", "matplotlib", "sklearn", "tensorflow"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]


def test_names_of_folders_are_safe_and_differ():
    assert folder_names(["a/b", "a_b", "A B", "", "../..", "lr=0.1,x"]) == [
        "a_b",
        "a_b_2",
        "A_B_3",
        "_",
        "__2",
        "lr=0.1,x",
    ]


# --- Runs that were launched separately --------------------------------------------------------------------------------


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def console(said: io.StringIO) -> Console:
    return Console(io.StringIO(), said)


def test_runs_are_grouped_by_what_they_have_in_common_but_their_seeds(tmp_path: Path):
    paths = [
        write_run(tmp_path / name, seed, lr=lr).path for name, seed, lr in (("c", 1, 0.1), ("a", 2, 0.2), ("b", 2, 0.1))
    ]
    (tmp_path / "x").mkdir()
    groups = gather([*paths, tmp_path / "x" / ".." / "c"])
    assert {name: [run.path.name for run in runs] for name, runs in groups.items()} == {
        "lr=0.1": ["c", "b"],
        "lr=0.2": ["a"],
    }
    assert list(gather(paths[:1])) == ["runs"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"freeze": ["0.*"]}, "freeze=0.*"),
        ({"subset": "10"}, "subset=10"),
        ({"check": True}, "check=yes"),
        ({"overfit": True}, "overfit=yes"),
        ({"on_nan": "continue"}, "on_nan=continue"),
        ({"load_skip": ["fc.*"]}, "load_skip=fc.*"),
        ({"shards": 4}, "shards=4"),
        ({"stream": ["init=7"]}, "stream=init"),
        ({"backend": "torch"}, "backend=torch threads=1"),
    ],
)
def test_an_option_that_may_change_bits_makes_a_configuration(tmp_path: Path, options: dict[str, Any], name: str):
    plain, other = (write_run(tmp_path / run, seed) for run, seed in (("a", 1), ("b", 2)))
    record(other, options={"backend": "exact", "threads": 1, **options})
    groups = gather([plain.path, other.path])
    assert len(groups) == 2 and list(groups)[1] == name


def test_what_changes_no_bits_makes_no_configuration(tmp_path: Path, console: Console, said: io.StringIO):
    one, two, three = (write_run(tmp_path / run, 1) for run in "abc")
    record(
        one,
        options={"backend": "exact", "threads": 1, "workers": 2, "trace": "step", "stream": ["init=7"], "load": "x"},
    )
    record(two, options={"backend": "exact", "threads": 4, "output": "there", "stream": ["init=8"], "load": "y/x"})
    for run in (one, two):
        record(run, loaded={"digest": "sha256:123"})
    assert list(gather([one.path, two.path])) == ["runs"]
    aggregate([one.path, two.path], None, tmp_path / "runs", console)
    assert said.getvalue() == ""  # the streams are independent draws, though the seed is one
    record(three, options={"backend": "exact", "stream": ["init=9"], "load": "x"}, loaded={"digest": "sha256:456"})
    assert list(gather([one.path, three.path])) == ["load=sha256:123", "load=sha256:456"]


def test_an_aggregate_says_what_it_holds(runs: list[RunFolder], tmp_path: Path, console: Console, said: io.StringIO):
    folder, record = aggregate([run.path for run in runs], tmp_path / "all", tmp_path, console)
    assert json.loads((folder / "aggregate.json").read_text()) == record
    only = record["configurations"]["runs"]
    assert [Path(path).name for path in only["members"]] == ["seed-1", "seed-2", "seed-3"]
    assert all((folder / path / "metrics.jsonl").exists() for path in only["members"])
    assert only["statistics"]["test/accuracy"]["mean"] == pytest.approx(0.92)
    assert said.getvalue() == ""
    again, _ = aggregate([run.path for run in runs], tmp_path / "all", tmp_path, console)
    assert again == folder


def test_what_makes_runs_no_independent_draws_is_said(tmp_path: Path, console: Console, said: io.StringIO):
    paths = [write_run(tmp_path / name, 1, finished=name == "a").path for name in "abc"]
    manifest = json.loads((paths[1] / "manifest.json").read_text())
    (paths[1] / "manifest.json").write_text(json.dumps({**manifest, "source": {"digest": "sha256:2"}}))
    (paths[2] / "metrics.jsonl").write_text("")
    aggregate(paths, None, tmp_path / "runs", console)
    for part in ("code of these 3 runs differs", "same seeds", "2 of 3 runs have not finished", "has no numbers yet"):
        assert part in said.getvalue()


def test_a_folder_with_other_things_is_not_written_to(runs: list[RunFolder], tmp_path: Path, console: Console):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="holds other things"):
        aggregate([runs[0].path], tmp_path, tmp_path, console)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_runs_without_any_number_are_refused(tmp_path: Path, console: Console):
    run = write_run(tmp_path / "a", 1)
    run.metrics_file.unlink()
    with pytest.raises(UsageError, match="no run has a number"):
        aggregate([run.path], None, tmp_path / "runs", console)
    with pytest.raises(UsageError, match="no such folder"):
        gather([tmp_path / "nowhere"])
    assert not (tmp_path / "runs").exists()


# --- Folders of runs, and the table ------------------------------------------------------------------------------------


def write_study(path: Path, statuses: tuple[str, ...]) -> Path:
    path.mkdir(parents=True)
    (path / "study.json").write_text("{}")
    rows = [{"name": f"m{i}", "configuration": "", "values": {}} for i in range(len(statuses))]
    (path / "members.json").write_text(json.dumps(rows))
    for i, status in enumerate(statuses):
        write_run(path / "members" / f"m{i}", i + 1, finished=status == "finished")
        if status == "failed":
            (path / "ended").mkdir(exist_ok=True)
            (path / "ended" / f"m{i}.json").write_text(json.dumps({"status": status, "error": "odd"}))
    return path


def test_of_a_folder_the_finished_runs_and_studies_in_it_are_taken(tmp_path: Path, console: Console, said: io.StringIO):
    for name, finished in (("b", True), ("a", True), ("c", False)):
        write_run(tmp_path / "digits" / name, 1, finished=finished)
    write_study(tmp_path / "digits" / "study", ("finished", "failed", "waiting", "finished"))
    write_study(tmp_path / "digits" / "young", ("waiting",))
    (tmp_path / "digits" / "notes").mkdir()
    taken = named([tmp_path / "digits"], console)
    assert [path.name for path in taken] == ["a", "b", "study"]
    assert "digits: 2 runs and 1 study in it; without 1 run and 1 study not finished" in said.getvalue()
    assert "study: 2 of 4 members have finished and count; 1 failed, 1 waiting" in said.getvalue()


def test_runs_that_are_named_are_taken_whether_they_have_finished_or_not(
    runs: list[RunFolder], tmp_path: Path, console: Console
):
    paths = [write_run(tmp_path / "c", 1, finished=False).path, *(run.path for run in runs), tmp_path / "nowhere"]
    assert named(paths, console) == paths


def test_a_folder_without_a_run_or_without_a_finished_one_is_told_so(tmp_path: Path, console: Console):
    write_run(tmp_path / "runs" / "digits" / "a", 1, finished=False)
    with pytest.raises(UsageError, match=r"has no run itself; name a folder that has: .*/runs/digits$"):
        named([tmp_path / "runs"], console)
    with pytest.raises(UsageError, match="of 1 run in it none has finished"):
        named([tmp_path / "runs" / "digits"], console)


def test_the_table_has_mean_and_sd_the_interval_and_of_how_many_of_how_many_runs():
    values = summarise([0.9, 0.92]).to_json()
    alone = summarise([0.5]).to_json()
    configurations = {"lr=1": {"members": ["a", "b", "c"], "statistics": {"test/accuracy": values}},
                      "lr=2": {"members": ["d"], "statistics": {"test/accuracy": alone}}}  # fmt: skip
    assert summary_rows(configurations) == [
        ["lr=1", "test/accuracy", "2 of 3", "0.9100 ± 0.0141", "0.7829 to 1.0371", "0.9000", "0.9200"],
        ["lr=2", "test/accuracy", "1", "0.5000", "-", "0.5000", "0.5000"],
    ]
