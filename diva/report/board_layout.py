"""The Custom Scalars tab of TensorBoard: a margin chart per metric, and the tags that it draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import metadata
from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MarginChartContent
from tensorboard.util.tensor_util import make_tensor_proto

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

GROUP: Final = "spread"
# Categories that are open at first, in this order; the others follow as they come, closed.
OPEN: Final = ("val", "test", "train", "batch")


def band_tag(metric: str, statistic: str) -> str:
    """The tag of a statistic of a metric, of those in `diva.report.bands.STATISTICS`.

    They have a group of their own, and none of them is a tag of a single run: a margin chart complains of every run that has one of
    its three tags and lacks the others.
    """
    return f"{GROUP}/{metric}/{statistic}"


def margin_charts(metrics: Iterable[str]) -> Any:
    """The layout, as a summary to write at step 0: per split a category with a chart of mean and standard deviation for each metric, and
    a closed one with the mean between the lowest and the highest run."""
    by_split: dict[str, list[str]] = {}
    for metric in metrics:
        by_split.setdefault(metric.rpartition("/")[0], []).append(metric)
    splits = sorted(by_split, key=lambda split: OPEN.index(split) if split in OPEN else len(OPEN))
    categories = []
    for title, lower, upper in (("mean ± sd", "mean_minus_sd", "mean_plus_sd"), ("mean, min to max", "min", "max")):
        for split in splits:
            charts = [_chart(metric, title, lower, upper) for metric in by_split[split]]
            closed = split not in OPEN or lower == "min"
            categories.append(Category(title=f"{split}: {title}", chart=charts, closed=closed))
    content = Layout(category=categories).SerializeToString()
    tensor = make_tensor_proto(content, dtype=np.object_)
    value = Summary.Value(tag=metadata.CONFIG_SUMMARY_TAG, metadata=metadata.create_summary_metadata(), tensor=tensor)
    return Summary(value=[value])


def _chart(metric: str, title: str, lower: str, upper: str) -> Chart:
    tags = {name: band_tag(metric, of) for name, of in (("value", "mean"), ("lower", lower), ("upper", upper))}
    series = MarginChartContent.Series(**tags)
    return Chart(title=f"{metric} ({title})", margin=MarginChartContent(series=[series]))
