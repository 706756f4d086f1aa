"""The figures of a data set's analysis, as files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diva.errors import DataError, RecordError
from diva.records.files import read_json, write_atomic, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.figure import Figure

MOST_POINTS = 2000


def write_report(folder: Path, report: dict[str, Any], to: Path) -> list[Path]:
    """Write `analysis.json` and the figures that the data have into a folder; returns what was written.

    DataError for a folder that holds something else than an earlier report, and for one in the data set.
    """
    from diva.report.style import png

    if to.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{to}: lies in the data set, which stays as it is; choose a folder outside of {folder}")
    written = []
    try:
        to.mkdir(parents=True, exist_ok=True)
        if any(to.iterdir()) and not _is_report(to / "analysis.json"):
            raise DataError(f"{to}: is not empty and holds no report of diva analyze; choose a new folder with --to")
        write_json(to / "analysis.json", report)  # first, so that the folder is known as a report from now on
        for name, figure in figures(folder, report):
            written.append(to / f"{name}.png")
            write_atomic(written[-1], png(figure))
    except OSError as error:
        raise DataError(f"{to}: cannot be written ({error.strerror}); choose another place with --to") from None
    return [*written, to / "analysis.json"]


def _is_report(path: Path) -> bool:
    try:
        found = read_json(path)
    except RecordError:
        return False
    return isinstance(found, dict) and {"layout", "schema", "n_samples"} <= found.keys()


def figures(folder: Path, report: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of each figure that the kind of data has."""
    from diva.report import data_figures as draw
    from diva.report.data_summary import splits_of

    splits = splits_of(report)
    if report["class_counts"] and report["classes"]:
        yield "classes", draw.class_distribution({s: report["class_counts"][s] for s in splits}, report["classes"])
    if "codes" in report:
        names = [name or code for name, code in zip(report["code_names"], report["codes"], strict=True)]
        yield "codes", draw.class_distribution({s: report["code_pixels"][s] for s in splits}, names, "pixels")
    if report["layout"] == "texts":
        found = {split: report["histograms"][split]["characters"] for split in splits}
        yield "lengths", draw.lengths({s: (h["edges"], h["counts"]) for s, h in found.items()}, "characters")
    elif report["layout"] == "points":
        yield "points", _points(folder, report)
    else:
        yield from _of_images(folder, report)


def _of_images(folder: Path, report: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    from diva.data.analysis import pictures
    from diva.report import data_figures as draw
    from diva.report.figures import image_grid

    where = "all images" if report["reference"] == "all" else f"the {report['reference']} images"
    if not report["mean"]:
        return
    yield "values", draw.pixel_values(report["values"], where)
    if report["n_sizes"] > 1:
        yield "sizes", draw.image_sizes([tuple(size) for size in report["sizes"]], report["n_sizes"])
    yield "samples", image_grid(*pictures.samples(folder, report), title=f"Samples of {where}, spread over the classes")
    if report["size"]:
        yield "means", image_grid(*pictures.means(folder, report), title=f"Mean of {where}")
    images, captions = pictures.alike(folder, report)
    if images:
        yield "duplicates", image_grid(images, captions, title="Equal and alike, side by side: leaks first")


def _points(folder: Path, report: dict[str, Any]) -> Figure:
    import numpy

    from diva.data.analysis.inventory import take_inventory
    from diva.data.analysis.pictures import spread_over
    from diva.report.data_figures import point_scatter

    points: Any = take_inventory(folder, "points").samples[report["reference"]]
    chosen = spread_over(len(points), MOST_POINTS)
    features = numpy.array([points.features[i] for i in chosen])
    labels = [points.labels[i] for i in chosen]
    where = "" if report["reference"] == "all" else f" of {report['reference']}"
    note = (
        f"{len(chosen):,} of {len(points):,} points{where}"
        if len(chosen) < len(points)
        else f"{len(points):,} points{where}"
    )
    return point_scatter(features, labels, report["classes"], points.columns, note)
