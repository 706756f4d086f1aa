"""The digits are the real ones, dealt to the splits by a rule that depends on no generator, in the same bytes everywhere."""

import hashlib
import random

import numpy
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from diva.data.bundled import WRITERS, write_digits
from diva.data.catalogue import card, names
from diva.data.layouts.class_folders import read_image_folders
from diva.records.footprint import take


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundled") / "digits"
    write_digits(folder)
    return folder


def test_every_image_is_there_once_with_its_label_and_pixels(digits):
    images, labels = load_digits(return_X_y=True)
    seen = {}
    for part in read_image_folders(digits).values():
        for path, label in zip(part.paths, part.labels, strict=True):
            assert int(path.stem) not in seen
            seen[int(path.stem)] = (label, numpy.asarray(Image.open(path)))
    assert sorted(seen) == list(range(1797))
    for i in range(0, 1797, 13):
        label, pixels = seen[i]
        assert label == labels[i]
        assert numpy.array_equal(pixels, numpy.minimum(images[i].reshape(8, 8) * 16, 255))


def test_each_class_is_dealt_sixty_twenty_twenty(digits):
    read = read_image_folders(digits)
    assert [len(read[name].paths) for name in ("train", "val", "test")] == [1078, 360, 359]
    for label in range(10):
        counts = [read[name].counts()[label] for name in ("train", "val", "test")]
        assert counts[0] == round(0.6 * sum(counts)) and abs(counts[1] - counts[2]) <= 1


def test_the_split_follows_the_hash_of_the_index(digits):
    read = read_image_folders(digits)
    zeros = [
        [int(p.stem) for p, label in zip(read[n].paths, read[n].labels, strict=True) if label == 0]
        for n in ("train", "val", "test")
    ]
    ranked = sorted((i for part in zeros for i in part), key=lambda i: hashlib.sha256(f"digits {i}".encode()).digest())
    assert [set(part) for part in zeros] == [set(ranked[:107]), set(ranked[107:142]), set(ranked[142:])]


def test_the_bytes_are_those_published_and_depend_on_no_generator(digits, tmp_path):
    random.seed(1), numpy.random.seed(1)
    write_digits(tmp_path / "again")
    assert take(tmp_path / "again").digest == take(digits).digest == card("digits").footprint


def test_the_licence_comes_with_the_images(digits):
    assert "CC BY 4.0" in (digits / "LICENCE.txt").read_text(encoding="utf-8")


def test_every_bundled_data_set_has_a_card_and_the_reverse():
    assert {card(name).bundled for name in names() if card(name).bundled} == set(WRITERS)
