"""Drawings besides figures: what TensorBoard's own readers and other programs find of them."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from google.protobuf import text_format  # type: ignore[import-untyped]
from PIL import Image, ImageSequence
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from diva.report.pictures import gif_of, png_of
from diva.report.projector import CONFIG, write_embedding
from diva.report.tables import csv_of, markdown_table


def test_a_picture_keeps_its_pixels():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png_of(pixels)))), pixels)


def test_an_animation_has_its_frames_and_never_ends():
    frames = [np.full((6, 5, 3), value, np.uint8) for value in (0, 128, 255)]
    gif = gif_of(frames, 0.25)
    with Image.open(io.BytesIO(gif)) as image:
        assert (image.size, image.info["loop"], image.info["duration"]) == ((5, 6), 0, 250)
        shades = [np.asarray(frame.convert("L"))[0, 0] for frame in ImageSequence.Iterator(image)]
    assert shades == [0, 128, 255]
    assert gif == gif_of(frames, 0.25)


def test_an_animation_without_frames_is_refused():
    with pytest.raises(ValueError, match="needs a frame"):
        gif_of([], 0.1)


def test_the_projector_finds_points_labels_and_thumbnails(tmp_path):
    vectors = np.array([[0.5, 1.0], [2.0, 3.0], [4.0, 5.0]], np.float32)
    thumbnails = [np.full((2, 3), value, np.uint8) for value in (10, 20, 30)]
    write_embedding(tmp_path, "test/latent", vectors, ["a", "b\tc\nd", ""], thumbnails)
    write_embedding(tmp_path, "val/latent", vectors, ["a", "b", "c"], None)
    config = text_format.Parse((tmp_path / CONFIG).read_text(), ProjectorConfig())
    assert [found.tensor_name for found in config.embeddings] == ["test_latent", "val_latent"]
    first, second = config.embeddings
    rows = [line.split("\t") for line in (tmp_path / first.tensor_path).read_text().splitlines()]
    assert np.array_equal(np.array(rows, np.float32), vectors)
    assert (tmp_path / first.metadata_path).read_text().splitlines() == ["a", "b c d", "-"]
    assert list(first.sprite.single_image_dim) == [3, 2] and not second.HasField("sprite")
    with Image.open(tmp_path / first.sprite.image_path) as sprite:
        assert sprite.size == (6, 4) and sprite.getpixel((3, 0)) == (20, 20, 20)


def test_labels_that_do_not_match_the_points_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2 vectors, but 1 labels"):
        write_embedding(tmp_path, "x", np.zeros((2, 2)), ["a"], None)


def test_tables_keep_every_cell():
    headers, rows = ["file", "p|q"], [["a,b.png", 0.1], ['say "no"', 1e-9]]
    assert list(csv.reader(io.StringIO(csv_of(headers, rows)))) == [
        headers,
        ["a,b.png", "0.1"],
        ['say "no"', "1e-09"],
    ]
    assert markdown_table(headers, rows).splitlines()[0] == "| file | p&#124;q |"
