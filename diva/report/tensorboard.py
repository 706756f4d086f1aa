"""TensorBoard: a run's numbers, pictures and texts as one event file per session, readable while it grows."""

from __future__ import annotations

import math
import struct
import time
from functools import cache
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import CRC_TABLE, masked_crc32c
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray
    from torch import Tensor

FLUSH_EVERY_S: Final = 5.0
EVENTS_PER_CHUNK: Final = 512
HISTOGRAM_BINS: Final = 48
PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


@final
class TensorBoardWriter:
    """Writes one session of a run into `folder`, as `events.out.tfevents.<session>`; a context manager.

    Give every tag the same step axis (the number of optimizer steps taken) and never let a tag's step go back: then
    TensorBoard drops the points of that tag beyond it, and `purge_step` cuts all tags at one step.

    purge_step: tells TensorBoard to forget what earlier sessions wrote at or after this step, so that a resumed run
    shows one clean curve. Values reach the disk within `FLUSH_EVERY_S` as long as something is written; call `flush`
    before a long silence. There is no thread and no queue: an error of the disk is raised where it happens.

    The file is named by the number of the session, so that its order does not depend on clocks, and without the host's
    name, so that a run can be published.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        session = max([int(file.suffix[1:]) + 1 for file in sessions(folder)], default=0)
        self._file = (folder / f"events.out.tfevents.{session:010d}").open("xb")
        self._records = RecordWriter(self._file)
        self._pending: list[bytes] = []
        self._flushed_at = time.time()
        self._last_step = purge_step or 0
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if purge_step is not None or session == 0:  # TensorBoard heeds a start only if it has seen one before
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=purge_step or 0, session_log=start))
        self.flush()

    def __enter__(self) -> TensorBoardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write several numbers of one step as one event; NaN and infinities are kept."""
        now = time.time()
        event = Event(wall_time=now, step=step)
        add = event.summary.value.add
        for tag, value in values.items():
            add(tag=tag, simple_value=value)
        self._pending.append(event.SerializeToString())
        self._last_step = max(self._last_step, step)
        if len(self._pending) >= EVENTS_PER_CHUNK:
            self._drain()
        if not 0.0 <= now - self._flushed_at < FLUSH_EVERY_S:
            self.flush()

    def figure(self, tag: str, png: bytes, step: int) -> None:
        """Write a picture, byte by byte as it is."""
        if png[:8] != PNG_SIGNATURE or png[12:16] != b"IHDR":
            raise ValueError(f"figure {tag}: expected the bytes of a PNG file, got {png[:16]!r}")
        width, height = struct.unpack(">II", png[16:24])
        image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=png)
        self._summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def animation(self, tag: str, gif: bytes, step: int) -> None:
        """Write an animated GIF, byte by byte as it is; TensorBoard's images play it."""
        if gif[:4] != b"GIF8":
            raise ValueError(f"animation {tag}: expected the bytes of a GIF file, got {gif[:16]!r}")
        width, height = struct.unpack("<HH", gif[6:10])
        image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=gif)
        self._summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def text(self, tag: str, markdown: str, step: int) -> None:
        """Write a text, shown as Markdown."""
        self._summary(text_pb(tag, markdown), step)

    def histogram(self, tag: str, tensor: Tensor, step: int) -> None:
        """Write how the elements of a tensor of any shape are distributed, over 48 equal bins from lowest to highest.

        Elements that are not finite are left out, and `<tag>/left_out` (a text) says how many; of an empty or complex
        tensor there is only that text.
        """
        if tensor.is_complex():
            self.text(f"{tag}/left_out", f"no histogram: the {tensor.numel()} elements are complex", step)
            return
        elements = _array(tensor)
        finite = elements[np.isfinite(elements)]
        n_left_out = elements.size - finite.size
        if n_left_out or not elements.size:
            n_nan = int(np.isnan(elements).sum())
            left_out = f"{n_left_out} of {elements.size} elements left out: {n_nan} NaN, {n_left_out - n_nan} infinite"
            self.text(f"{tag}/left_out", left_out if elements.size else "no histogram: the tensor is empty", step)
        if finite.size:
            self._summary(_histogram(tag, finite), step)

    def hyperparameters(
        self, knobs: Mapping[str, bool | int | float | str | None], metrics: Mapping[str, float]
    ) -> None:
        """Write the run's row of the HPARAMS tab: its knobs, and the metrics that sum it up.

        With metrics the run is shown as finished; they are written as scalars at the last step seen. A knob that is
        None is left empty. Every run stays a row of its own, also when another has the same knobs.
        """
        start = SessionStartInfo(start_time_secs=time.time())
        for name, knob in knobs.items():
            if isinstance(knob, bool):
                start.hparams[name].bool_value = knob
            elif isinstance(knob, str):
                start.hparams[name].string_value = knob
            elif knob is not None and math.isfinite(knob):
                start.hparams[name].number_value = knob
            elif knob is not None:  # JSON, which the tab is fed with, has no infinity
                start.hparams[name].string_value = str(knob)
        self._session(hparams_metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))
        if metrics:
            self.scalars(metrics, self._last_step)
            end = SessionEndInfo(status=Status.Value("STATUS_SUCCESS"), end_time_secs=time.time())
            self._session(hparams_metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))

    def summary(self, summary: Summary, step: int) -> None:
        """Write a summary that a plugin of TensorBoard reads, such as a layout of the Custom Scalars tab."""
        self._summary(summary, step)

    def flush(self) -> None:
        """Hand everything written so far to the operating system, where a live TensorBoard finds it."""
        self._drain()
        self._file.flush()
        self._flushed_at = time.time()

    def close(self) -> None:
        """Flush and close; closing twice does nothing."""
        if not self._file.closed:
            try:
                self.flush()
            finally:
                self._file.close()

    def _session(self, tag: str, content: Any) -> None:
        plugin = hparams_metadata.create_summary_metadata(content)
        value = Summary.Value(tag=tag, metadata=plugin, tensor=hparams_metadata.NULL_TENSOR)
        self._summary(Summary(value=[value]), 0)

    def _summary(self, summary: Any, step: int) -> None:
        self._last_step = max(self._last_step, step)
        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: Any) -> None:
        self._drain()
        self._records.write(event.SerializeToString())
        if not 0.0 <= time.time() - self._flushed_at < FLUSH_EVERY_S:
            self.flush()

    def _drain(self) -> None:
        if self._pending:
            chunk, self._pending = frames(self._pending), []
            self._file.write(chunk)


def sessions(folder: Path) -> list[Path]:
    """The event files of the sessions that wrote into `folder`, the oldest first."""
    return sorted(folder.glob("events.out.tfevents." + "[0-9]" * 10))


def frames(records: Sequence[bytes]) -> bytes:
    """Many records at once in the format of event files: byte for byte what tensorboard's RecordWriter writes.

    Each record is length (u64), checksum of the length (u32), data, checksum of the data (u32). RecordWriter computes
    the checksums byte by byte in Python, 10 us for the event of a step; here all records go abreast, 1 us each.
    """
    pieces = [
        piece
        for record, checksum in zip(records, _masked_crc32c(records).tolist(), strict=True)
        for piece in (_frame_header(len(record)), record, checksum.to_bytes(4, "little"))
    ]
    return b"".join(pieces)


@cache
def _frame_header(length: int) -> bytes:
    header = length.to_bytes(8, "little")
    return header + int(masked_crc32c(header)).to_bytes(4, "little")


def _masked_crc32c(records: Sequence[bytes]) -> NDArray[np.uint32]:
    """The checksum of each record (4 bytes or longer), as tensorboard's masked_crc32c; returns uint32 (N,).

    A CRC that starts at zero stays zero over leading zeros, so records of different lengths are padded on the left;
    inverting the first four bytes then stands for starting at 0xFFFFFFFF.
    """
    table = _crc_table()
    width = max(map(len, records))
    rows = np.frombuffer(b"".join([record.rjust(width, b"\0") for record in records]), np.uint8).reshape(-1, width)
    columns = np.array(rows.T, dtype=np.uint32, order="C")  # (width, N)
    first = width - np.array([len(record) for record in records])
    for offset in range(4):
        columns[first + offset, np.arange(len(records))] ^= 0xFF
    crc = np.zeros(len(records), np.uint32)
    for column in columns:
        crc = table[(crc ^ column) & 0xFF] ^ (crc >> 8)
    crc ^= np.uint32(0xFFFFFFFF)
    return (((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)).astype(np.uint32)


@cache
def _crc_table() -> NDArray[np.uint32]:
    return np.array(CRC_TABLE, dtype=np.uint32)


def _array(tensor: Tensor) -> NDArray[Any]:
    """The elements as a flat NumPy array; types that NumPy does not know (bfloat16, float8) become float32."""
    elements = tensor.detach().cpu().flatten()
    try:
        return elements.numpy()
    except TypeError:
        return elements.float().numpy()


def _histogram(tag: str, finite: NDArray[Any]) -> Any:
    """The summary of a histogram of finite elements (N,), N > 0, counted in float64.

    Not tensorboard's histogram_pb, which needs 30 bytes per element, nor numpy.histogram, which refuses ranges that are
    very narrow or overflow.
    """
    low, high = float(finite.min()), float(finite.max())
    scale = 1.0 if math.isfinite(high - low) else 0.25
    span = high * scale - low * scale
    counts = np.zeros(HISTOGRAM_BINS, np.int64)
    for start in range(0, finite.size, 1 << 20):
        block = finite[start : start + (1 << 20)].astype(np.float64)
        fraction = (block * scale - low * scale) / (span or 1.0)
        bins = np.minimum((fraction * HISTOGRAM_BINS).astype(np.int64), HISTOGRAM_BINS - 1)
        counts += np.bincount(bins, minlength=HISTOGRAM_BINS)
    ends = np.arange(HISTOGRAM_BINS + 1) / HISTOGRAM_BINS
    edges = low * (1.0 - ends) + high * ends
    buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)  # (bins, 3): left, right, count
    plugin = histogram_metadata.create_summary_metadata(display_name=None, description=None)
    tensor = make_tensor_proto(buckets, dtype=np.float64)
    return Summary(value=[Summary.Value(tag=tag, metadata=plugin, tensor=tensor)])
