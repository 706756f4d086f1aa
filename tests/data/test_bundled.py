"""Bundled sets: real or made by rules, dealt to the splits by a rule that depends on no generator, in the same bytes everywhere."""

import csv
import hashlib
import io
import math
import random
from typing import Any

import numpy
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from diva.data import layouts
from diva.data.bundled import SHAPES, TABLES, WRITERS, digits_on_photos, write_digits
from diva.data.bundled.docstrings import paragraphs_of
from diva.data.bundled.moving_photos import REGIONS
from diva.data.bundled.number_words import LANGUAGES
from diva.data.bundled.random import Stream, circle
from diva.data.catalogue import card, names
from diva.data.layouts.class_folders import read_image_folders
from diva.data.layouts.clips import frames_of
from diva.data.tiff import encode_pages
from diva.records.footprint import take


def splits_of(folder) -> dict[str, Any]:
    """Samples by split; which fields they have depends on the layout."""
    return dict(layouts.read_splits(folder))


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


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("all")
    for name, write in WRITERS.items():
        write(root / name)
    return root


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_bundled_set_has_the_layout_classes_and_footprint_of_its_card(written, name):
    found = card(name)
    splits = splits_of(written / name)
    assert set(splits) == {"train", "val", "test"} and layouts.layout_of(written / name) == found.layout
    if found.classes is not None:
        assert splits["train"].classes == tuple(found.classes)
    if found.footprint is not None:
        assert take(written / name).digest == found.footprint


@pytest.mark.parametrize("name", [*(f"shapes_{shape}" for shape in SHAPES), *TABLES])
def test_points_are_dealt_sixty_twenty_twenty_within_each_class(written, name):
    splits = splits_of(written / name)
    for label in range(len(splits["train"].classes)):
        counts = [splits[split].labels.count(label) for split in ("train", "val", "test")]
        assert [round(10 * n / sum(counts)) for n in counts] == [6, 2, 2]


def test_shapes_have_a_thousand_points_and_the_classes_that_their_rules_say(written):
    rows = [
        row
        for split in splits_of(written / "shapes_flag").values()
        for row in zip(split.features, split.labels, strict=True)
    ]
    assert len(rows) == 1000
    for (x, y), label in rows:
        assert 0 <= x <= 1 and 0 <= y <= 1
        assert (label == 0) == (0.3 <= x < 0.45 or 0.4 <= y < 0.6) or min(
            abs(x - 0.3), abs(x - 0.45), abs(y - 0.4), abs(y - 0.6)
        ) < 1e-6


def test_angles_are_those_of_the_circle():
    for turns in (0.0, 0.125, 0.25, 1 / 3, 0.5, 0.75, 0.999, 2.625, -0.25):
        inside = int(turns % 1 * (1 << 24)) / (1 << 24)
        assert circle(turns) == pytest.approx(
            (math.cos(2 * math.pi * inside), math.sin(2 * math.pi * inside)), abs=1e-15
        )


def test_streams_are_told_apart_by_their_names_and_depend_on_nothing_else():
    numpy.random.seed(1)
    assert [Stream("a").below(1000) for _ in range(2)] == [Stream("a").below(1000)] * 2
    assert [Stream(name).below(1 << 31) for name in "ab"] == [674214581, 1173127057]


def test_numbers_are_said_as_the_languages_say_them():
    assert [say(71) for say in LANGUAGES.values()] == [
        "seventy-one",
        "soixante et onze",
        "einundsiebzig",
        "settantuno",
        "setenta y uno",
    ]
    assert [say(380) for say in LANGUAGES.values()] == [
        "three hundred and eighty", "trois cent quatre-vingts", "dreihundertachtzig", "trecentoottanta", "trescientos ochenta",
    ]  # fmt: skip
    assert all(len({say(n) for n in range(1000)}) == 1000 for say in LANGUAGES.values())


def test_no_number_is_in_two_splits(written):
    english: dict[str, set[int]] = {split: set() for split in ("train", "val", "test")}
    said = {say(n): n for say in LANGUAGES.values() for n in range(1000)}
    for split, part in splits_of(written / "number_words").items():
        english[split] = {said[text] for text in part.texts}
    assert (
        not english["train"] & english["test"]
        and not english["train"] & english["val"]
        and not english["val"] & english["test"]
    )


def test_several_digits_are_those_of_digits_and_in_the_same_split(written, digits):
    single = {
        split: {Image.open(path).tobytes() for path in part.paths} for split, part in read_image_folders(digits).items()
    }
    for split, part in splits_of(written / "several_digits").items():
        quarters = []
        for path, labels in list(zip(part.paths, part.labels, strict=True))[:60]:
            pixels = numpy.asarray(Image.open(path))
            windows = numpy.lib.stride_tricks.sliding_window_view(pixels, (8, 8)).reshape(-1, 64)
            found = {window.tobytes() for window in windows} & single[split]
            assert len(found) >= len(labels) >= 1
            quarters.append(sum(pixels[r : r + 14, c : c + 14].any() for r in (0, 14) for c in (0, 14)))
        assert set(quarters) == {1, 2, 3, 4}
    counts = numpy.bincount([label for labels in part.labels for label in labels])
    assert counts[0] > 1.5 * counts[9] > 0


def test_masks_of_pages_name_every_class_and_are_what_was_drawn(written):
    counts = numpy.zeros(5, int)
    for split in splits_of(written / "pages").values():
        for image, mask in zip(split.images, split.masks, strict=True):
            pixels, classes = numpy.asarray(Image.open(image)), numpy.asarray(Image.open(mask))
            assert pixels.shape == (256, 192, 3) and classes.shape == (256, 192)
            counts += numpy.bincount(classes.reshape(-1), minlength=5)
            ink = classes > 0
            assert pixels[ink][:, 1].max() < 200 and pixels[ink][:, 1].mean() < pixels[~ink][:, 1].mean() - 60
    assert (counts > 2000).all() and len(counts) == 5


def test_digits_on_photos_are_what_was_drawn_and_no_digit_is_in_two_splits(written):
    members = digits_on_photos._digits()[2]
    assert sorted(i for part in members.values() for i in part) == list(range(1797))
    counts = numpy.zeros(11, int)
    for split in splits_of(written / "digits_on_photos").values():
        sizes = set()
        for image, mask in zip(split.images, split.masks, strict=True):
            pixels, classes = numpy.asarray(Image.open(image)), numpy.asarray(Image.open(mask))
            assert pixels.shape == (*classes.shape, 3)
            sizes.add(classes.shape)
            counts += numpy.bincount(classes.reshape(-1), minlength=11)
            assert pixels[classes > 0].mean() > pixels[classes == 0].mean() + 40
        assert len(sizes) > 5
    assert (counts > 3000).all() and len(counts) == 11


def test_enlarged_digits_keep_their_shade_and_smooth_their_edges():
    digit = numpy.zeros((8, 8), int)
    digit[3:5, 3:5] = 16
    large = digits_on_photos.enlarged(digit, 2)
    assert large.shape == (16, 16) and large.max() == 16 and {4, 8} <= set(large.reshape(-1).tolist())


def test_words_are_tested_in_fonts_that_were_not_seen_and_on_words_that_were_not_seen(written):
    rows = {}
    for split in ("train", "val", "test"):
        with (written / "words" / split / "transcriptions.csv").open(newline="") as table:
            rows[split] = list(csv.DictReader(table))
        assert {row["image"] for row in rows[split]} == {p.name for p in (written / "words" / split).glob("*.png")}
    fonts, words = ({split: {row[key] for row in rows[split]} for split in rows} for key in ("font", "word"))
    assert [len(words[split]) for split in rows] == [320, 60, 60] and len(set.union(*words.values())) == 440
    assert len(fonts["train"]) == 8 and fonts["val"] == fonts["train"] and not fonts["train"] & fonts["test"]
    widths = {Image.open(path).size[0] for path in (written / "words" / "test").glob("*.png")}
    assert min(widths) < 24 and max(widths) > 60


def test_every_bundled_data_set_has_a_card_and_the_reverse():
    assert {card(name).bundled for name in names() if card(name).bundled} == set(WRITERS)


def test_no_paragraph_of_the_documentation_is_there_twice(written):
    paragraphs = [text for split in splits_of(written / "docstrings").values() for text in split.texts]
    assert len(set(paragraphs)) == len(paragraphs) > 3000
    assert all(">>>" not in text and text == " ".join(text.split()) for text in paragraphs)


def test_a_paragraph_of_prose_has_eight_words_and_no_session():
    text = "Short one.\n\nThis one has as many words as are\n  asked for.\n\nThis would do but for the session >>> 1 + 1 in it here."
    assert paragraphs_of(text) == ["This one has as many words as are asked for."]


def test_a_clip_shows_the_motion_of_its_name(written):
    """The middle of a frame is found again in the next one where the camera's motion says."""
    clips = splits_of(written / "moving_photos")["test"]
    for label, (right, down) in {
        "pan right": (1, 0),
        "pan left": (-1, 0),
        "tilt down": (0, 1),
        "still": (0, 0),
    }.items():
        files = clips.frames[clips.labels.index(clips.classes.index(label))]
        first, last = (numpy.asarray(frame).astype(int) for i, frame in enumerate(frames_of(files)) if i in (0, 3))

        def distance(dy: int, dx: int, first: Any = first, last: Any = last) -> int:
            return int(abs(first[10:22, 10:22] - last[10 + dy : 22 + dy, 10 + dx : 22 + dx]).sum())

        best = min(((dy, dx) for dy in range(-9, 10) for dx in range(-9, 10)), key=lambda shift: distance(*shift))
        assert [numpy.sign(-best[1]), numpy.sign(-best[0])] == [right, down], label


def test_no_pixel_of_a_photograph_is_in_two_splits():
    taken: dict[tuple[str, int], str] = {}
    for split, regions in REGIONS.items():
        for name, left, right in regions:
            for column in range(left, right):
                assert taken.setdefault((name, column), split) == split


def test_pages_of_a_tiff_are_what_was_put_in():
    pages = [numpy.arange(5 * 3 * 3, dtype=numpy.uint8).reshape(5, 3, 3) + k for k in range(3)]  # of odd sizes
    with Image.open(io.BytesIO(encode_pages(pages))) as image:
        assert image.mode == "RGB"
        for k, page in enumerate(pages):
            image.seek(k)
            assert (numpy.asarray(image) == page).all()
        with pytest.raises(EOFError):
            image.seek(3)
