"""What TensorBoard is told to show: every metric has its charts, in their order, and the HParams tab the columns that matter."""

from __future__ import annotations

from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.api_pb2 import DataType, Experiment
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from diva.report.board_layout import margin_charts, score_columns


def layout_of(summary) -> Layout:
    return Layout.FromString(summary.value[0].tensor.string_val[0])


def experiment_of(summary) -> Experiment:
    return HParamsPluginData.FromString(summary.value[0].metadata.plugin_data.content).experiment


def test_validation_comes_first_and_what_is_of_single_classes_is_closed():
    layout = layout_of(
        margin_charts(["batch/loss", "optimizer/lr", "val/loss", "val/f1/cat", "train/loss"], ["val/loss"])
    )
    opened = [category.title for category in layout.category if not category.closed]
    assert opened == [
        "val, the last half of the steps: mean ± sd", "val: mean ± sd", "train: mean ± sd", "batch: mean ± sd",
    ]  # fmt: skip
    closed = {category.title for category in layout.category if category.closed}
    assert {"val/f1: mean ± sd", "optimizer: mean ± sd", "val: mean, min to max"} <= closed


def test_each_page_of_charts_is_turned_as_tensorboard_turns_it_back():
    names = [f"val/{i}" for i in range(14)]
    charts = [chart.margin.series[0].value for chart in layout_of(margin_charts(names)).category[0].chart]
    assert charts == [f"spread/val/{i}/mean" for i in (*range(11, -1, -1), 13, 12)]


def test_the_last_half_has_tags_of_its_own():
    (chart,) = layout_of(margin_charts(["val/loss"], ["val/loss"])).category[0].chart
    series = chart.margin.series[0]
    assert (series.value, series.lower, series.upper) == tuple(
        f"spread/val/loss/last half/{name}" for name in ("mean", "mean_minus_sd", "mean_plus_sd")
    )


def test_columns_are_the_knobs_that_differ_and_the_metrics_in_their_order():
    rows: list[dict[str, bool | int | float | str | None]] = [
        {"configuration": "a", "lr": 0.1, "batch_size": 32, "augment": True, "crop": None},
        {"configuration": "b", "lr": 1, "batch_size": 32, "augment": False, "crop": "random"},
    ]
    experiment = experiment_of(score_columns(rows, ["test/loss", "test/loss/sd", "runs"]))
    knobs = {info.name: info.type for info in experiment.hparam_infos}
    assert knobs == {
        "configuration": DataType.DATA_TYPE_STRING, "lr": DataType.DATA_TYPE_FLOAT64,
        "augment": DataType.DATA_TYPE_BOOL, "crop": DataType.DATA_TYPE_STRING,
    }  # fmt: skip
    assert list(experiment.hparam_infos[0].domain_discrete) == ["a", "b"]
    assert [info.name.tag for info in experiment.metric_infos] == ["test/loss", "test/loss/sd", "runs"]


def test_a_single_configuration_has_a_column_too():
    experiment = experiment_of(score_columns([{"configuration": "all", "lr": 0.1}], ["runs"]))
    assert [info.name for info in experiment.hparam_infos] == ["configuration"]
