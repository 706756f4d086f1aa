"""What TensorBoard shows of several runs, and how: margin charts in the Custom Scalars tab, columns in the HParams tab."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import metadata
from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MarginChartContent
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams.api_pb2 import DataType, Experiment, HParamInfo, MetricInfo, MetricName
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_tensor_proto

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Knob = bool | int | float | str | None

GROUP: Final = "spread"
# Categories that are open at first, in this order; the others follow as they come, closed.
OPEN: Final = ("val", "test", "train", "batch")
CHARTS_PER_PAGE: Final = 12
LAST_HALF: Final = "last half"
CONFIGURATION: Final = "configuration"


def band_tag(metric: str, statistic: str) -> str:
    """The tag of a statistic of a metric, of those in `diva.report.bands.STATISTICS`.

    They have a group of their own, and none of them is a tag of a single run: a margin chart complains of every run that has one of
    its three tags and lacks the others.
    """
    return f"{GROUP}/{metric}/{statistic}"


def late(metric: str) -> str:
    """The name under which the last half of the steps of a metric has a band of its own."""
    return f"{metric}/{LAST_HALF}"


def margin_charts(metrics: Iterable[str], zoomed: Iterable[str] = ()) -> Any:
    """The layout, as a summary to write at step 0: per split a category with a chart of mean and standard deviation for each metric, and
    a closed one with the mean between the lowest and the highest run.

    zoomed: the metrics whose last half of the steps is written under `late(metric)`; their charts come first, since a first step with
    an untrained model makes the bands of all others too thin to see.
    """
    by_split = _by_split(metrics)
    splits = sorted(by_split, key=lambda split: OPEN.index(split) if split in OPEN else len(OPEN))
    categories = []
    for split, names in _by_split(zoomed).items():
        charts = [_chart(late(metric), "mean ± sd", "mean_minus_sd", "mean_plus_sd") for metric in names]
        categories.append(Category(title=f"{split}, the {LAST_HALF} of the steps: mean ± sd", chart=_turned(charts)))
    for title, lower, upper in (("mean ± sd", "mean_minus_sd", "mean_plus_sd"), ("mean, min to max", "min", "max")):
        for split in splits:
            charts = _turned([_chart(metric, title, lower, upper) for metric in by_split[split]])
            closed = split not in OPEN or lower == "min"
            categories.append(Category(title=f"{split}: {title}", chart=charts, closed=closed))
    content = Layout(category=categories).SerializeToString()
    tensor = make_tensor_proto(content, dtype=np.object_)
    value = Summary.Value(tag=metadata.CONFIG_SUMMARY_TAG, metadata=metadata.create_summary_metadata(), tensor=tensor)
    return Summary(value=[value])


def _by_split(metrics: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for metric in metrics:
        found.setdefault(metric.rpartition("/")[0], []).append(metric)
    return found


def _turned(charts: Sequence[Chart]) -> list[Chart]:
    """Each page of charts from its last to its first: TensorBoard (2.21) shows the charts of a category in that order."""
    pages = [charts[start : start + CHARTS_PER_PAGE] for start in range(0, len(charts), CHARTS_PER_PAGE)]
    return [chart for page in pages for chart in reversed(page)]


def _chart(metric: str, title: str, lower: str, upper: str) -> Chart:
    tags = {name: band_tag(metric, of) for name, of in (("value", "mean"), ("lower", lower), ("upper", upper))}
    series = MarginChartContent.Series(**tags)
    return Chart(title=f"{metric} ({title})", margin=MarginChartContent(series=[series]))


def score_columns(rows: Sequence[Mapping[str, Knob]], metrics: Iterable[str]) -> Any:
    """The columns of the HParams tab, as a summary: the knobs in which the rows differ, and of the scalars these metrics alone, in
    their order. Without it the tab has a column for every knob and for every scalar of every run.

    The knob `configuration` is always one: the tab is empty where there is no column of a knob.
    """
    infos = []
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        if name == CONFIGURATION or any(value != values[0] for value in values[1:]):
            infos.append(_knob_info(name, [value for value in values if value is not None]))
    columns = [MetricInfo(name=MetricName(tag=metric)) for metric in metrics]
    content = HParamsPluginData(experiment=Experiment(hparam_infos=infos, metric_infos=columns))
    plugin = hparams_metadata.create_summary_metadata(content)
    return Summary(
        value=[Summary.Value(tag=hparams_metadata.EXPERIMENT_TAG, metadata=plugin, tensor=hparams_metadata.NULL_TENSOR)]
    )


def _knob_info(name: str, values: Sequence[Knob]) -> HParamInfo:
    info = HParamInfo(name=name, differs=True)
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        info.type = DataType.DATA_TYPE_BOOL
    elif kinds <= {int, float}:
        info.type = DataType.DATA_TYPE_FLOAT64
    else:
        info.type = DataType.DATA_TYPE_STRING
        info.domain_discrete.extend(sorted({str(value) for value in values}))
    return info
