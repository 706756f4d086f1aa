"""Statistics: exact, pixel by pixel, in any order, with any number of workers; files in little memory."""

import hashlib
import json
import math
import os
import random
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diva.data.analysis import kinds, statistics, workers
from diva.data.analysis.statistics import Files, Moments, Way, measure
from diva.data.images import image_statistics
from diva.data.layouts.class_folders import read_image_folders
from diva.errors import DataError, DivaError

ONE = Way(1)


def save(path: Path, pixels, **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numpy.asarray(pixels, numpy.uint8)).save(path, **how)
    return path


def noise(seed: int, *shape: int) -> numpy.ndarray:
    return numpy.random.default_rng(seed).integers(0, 256, shape, numpy.uint8)


def folder_of(place: Path, images) -> Files:
    for number, pixels in enumerate(images):
        save(place / f"{number:03}.png", pixels)
    return Files(place, [f"{number:03}.png" for number in range(len(images))])


def exact(images) -> tuple[list[float], list[float]]:
    """Mean and standard deviation by the definition, over whole numbers."""
    means, stds = [], []
    for channel in range(3):
        values = [int(value) for image in images for value in image[..., channel].ravel()]
        mean = Fraction(sum(values), 255 * len(values))
        means.append(float(mean))
        stds.append(math.sqrt(Fraction(sum(v * v for v in values), 255 * 255 * len(values)) - mean * mean))
    return means, stds


# Moments


def test_a_large_image_weighs_as_much_as_its_pixels_not_as_one_image(tmp_path):
    """The ancestor took the mean of the images' means: 0.5 here."""
    images = [numpy.zeros((30, 30, 3)), numpy.full((10, 10, 3), 255)]
    mean, _ = measure(folder_of(tmp_path, images), [2], ONE).moments([0], "RGB").mean_and_std()
    assert mean == [0.1, 0.1, 0.1]


@settings(deadline=None, max_examples=10)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 90)), min_size=1, max_size=7), st.integers(0, 2**32 - 1))
def test_moments_are_exact_for_images_of_mixed_sizes(tmp_path_factory, sizes, seed):
    """Up to 40 x 90 x 3 bytes; so the two ways of counting, for small and for larger images, are both met below."""
    images = [noise(seed + number, *size, 3) for number, size in enumerate(sizes)] + [noise(seed, 80, 90, 3)]
    files = folder_of(tmp_path_factory.mktemp("mixed"), images)
    assert measure(files, [len(files)], ONE).moments([0], "RGB").mean_and_std() == exact(images)


def test_any_number_of_workers_of_any_kind_finds_the_same(tmp_path):
    images = [noise(n, 9 + n, 12, 3) if n % 3 else noise(n, 9, 12 + n) for n in range(40)]
    files = folder_of(tmp_path, images)
    (tmp_path / "017.png").write_bytes(b"no image")
    one = measure(files, [25, 15], ONE)
    for way in (Way(2), Way(3), Way(40), Way(3, "threads")):
        other = measure(files, [25, 15], way)
        assert (other.rows == one.rows).all() and (other.counts == one.counts).all()
        assert other.unreadable == one.unreadable


def test_the_order_of_the_files_is_nothing(tmp_path):
    files = folder_of(tmp_path, [noise(n, 5 + n, 7, 3) for n in range(12)])
    names = [files.name(i) for i in range(len(files))]
    random.Random(1).shuffle(names)
    one, two = (measure(some, [12], ONE).moments([0], "RGB") for some in (files, Files(tmp_path, names)))
    assert one.mean_and_std() == two.mean_and_std()


def test_grey_among_colours_counts_as_three_equal_channels(tmp_path):
    images = [noise(1, 6, 6), noise(2, 6, 6, 3)]
    found = measure(folder_of(tmp_path, images), [2], ONE)
    assert found.mode == "RGB"
    as_colours = [numpy.repeat(images[0][..., None], 3, axis=2), images[1]]
    assert found.moments([0], "RGB").mean_and_std() == exact(as_colours)


def test_counts_do_not_overflow():
    counts = numpy.zeros((1, 256), numpy.uint64)
    counts[0, 254:] = 2**62
    mean, std = Moments(counts).mean_and_std()
    assert mean == [float(Fraction(509, 510))] and std == [math.sqrt(Fraction(1, 510 * 510))]


def test_no_pixels_have_no_mean(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    assert measure(Files(tmp_path, ["a.png"]), [1], ONE).moments([0], "L").mean_and_std() == ([], [])


def test_groups_are_counted_apart_and_an_empty_one_takes_nothing(tmp_path):
    files = folder_of(tmp_path, [numpy.full((2, 2), value) for value in (0, 51, 255)])
    found = measure(files, [2, 0, 1], ONE)
    assert [found.moments([group], "L").mean_and_std()[0] for group in range(3)] == [[0.1], [], [1.0]]


def test_the_template_and_analyze_agree(tmp_path):
    for split in ("train", "val", "test"):
        save(tmp_path / "d" / split / "a" / "1.png", noise(len(split), 9, 7, 3))
        save(tmp_path / "d" / split / "b" / "2.png", noise(len(split) + 9, 6, 5))
    read = read_image_folders(tmp_path / "d")
    cached = image_statistics(read, tmp_path / "d", "sha256:1", tmp_path / "cache.json")
    names = [path.relative_to(tmp_path).as_posix() for part in read.values() for path in part.paths]
    found = measure(Files(tmp_path, names), [2, 2, 2], ONE)
    assert found.mode == cached["mode"] == "RGB"
    assert found.moments([0], "RGB").mean_and_std() == (cached["mean"], cached["std"])


# Rows


def test_a_row_says_what_the_image_is(tmp_path):
    pixels = noise(3, 20, 30, 3)
    path = save(tmp_path / "a.png", pixels)
    (row,) = measure(Files(tmp_path, ["a.png"]), [1], ONE).rows
    assert (row["height"], row["width"], row["n_frames"]) == (20, 30, 1)
    assert (row["mode"], row["format"], row["n_bytes"]) == (b"RGB", b"PNG", path.stat().st_size)
    shape = json.dumps(pixels.shape).encode()
    assert bytes(row["sha256"]) == hashlib.sha256(shape + pixels.tobytes()).digest()


def test_unreadable_files_are_all_listed_with_a_reason_without_a_path(tmp_path):
    good = save(tmp_path / "0.png", noise(1, 40, 40, 3)).read_bytes()
    (tmp_path / "1.png").write_bytes(good[:-300])
    (tmp_path / "2.png").write_bytes(b"no image")
    (tmp_path / "3.png").mkdir()
    found = measure(Files(tmp_path, [f"{n}.png" for n in range(5)]), [5], Way(2))
    assert [index for index, _ in found.unreadable] == [1, 2, 3, 4]
    assert all(reason and str(tmp_path) not in reason and "0x" not in reason for _, reason in found.unreadable)
    assert found.rows["readable"].tolist() == [True, False, False, False, False]
    assert found.tally("format") == {"PNG": 1} and found.sizes() == {(40, 40): 1}


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_hashes_in_bulk_are_those_of_pillow(tmp_path, mode):
    image = Image.fromarray(noise(5, 50, 40, 3)).convert(mode)
    image.save(tmp_path / "a.png")
    (row,) = measure(Files(tmp_path, ["a.png"]), [1], ONE).rows
    small = image.resize((9, 9), Image.Resampling.BILINEAR, reducing_gap=4.0).convert("L")
    grey = numpy.asarray(small).astype(int)
    bits = "".join("1" if grey[y, x + 1] >= grey[y, x] + 2 else "0" for y in range(8) for x in range(8))
    assert int(row["rows"]) == int(bits, 2)


def test_names_are_kept_byte_for_byte(tmp_path):
    names = ["a.png", "ü/ß.png", os.fsdecode(b"\xff\xfe.png"), ""]
    files = Files(tmp_path, names)
    assert [files.name(i) for i in range(len(files))] == names
    assert files.path(1) == os.path.join(tmp_path, "ü/ß.png")  # noqa: PTH118


# Workers


def test_every_index_is_in_one_range():
    for n in (0, 1, 2, 7, 31, 64, 100):
        for jobs in (1, 2, 5):
            for kind in ("processes", "threads"):
                pieces = workers.over_ranges(lambda start, stop: list(range(start, stop)), n, 3, jobs, kind)
                assert sorted(index for piece in pieces for index in piece) == list(range(n))


@pytest.mark.parametrize("kind", ["processes", "threads"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_what_a_worker_raises_is_raised_here(kind, jobs):
    def work(start, stop):
        raise DataError(f"at {start}")

    with pytest.raises(DataError, match="at"):
        list(workers.over_ranges(work, 4, 1, jobs, kind))


def test_a_worker_that_is_killed_is_an_error_and_no_hang():
    def work(start, stop):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(DivaError, match="ended from outside"):
        list(workers.over_ranges(work, 4, 1, 2))


def test_workers_end_when_the_main_process_is_killed(tmp_path):
    """Their pipe to the main process is the only thing that could tell them."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    program = (
        "import os, signal, sys\nfrom diva.data.analysis.workers import over_ranges\n"
        "def work(start, stop):\n"
        f"    end = open({os.fspath(fifo)!r}, 'w')\n    globals().setdefault('ends', []).append(end)\n    return start\n"
        "for count, _ in enumerate(over_ranges(work, 100, 1, 2)):\n"
        "    if count == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    running = subprocess.Popen([sys.executable, "-c", program])
    with fifo.open() as lines:
        assert lines.read() == ""  # returns when no process has the other end any more
    assert running.wait(timeout=60) == -signal.SIGKILL


# Masks, points


def masks_in(place: Path, masks) -> Files:
    for number, mask in enumerate(masks):
        mask.save(place / f"{number}.png")
    return Files(place, [f"{number}.png" for number in range(len(masks))])


def test_codes_of_masks_are_counted_pixel_by_pixel_in_every_mode(tmp_path):
    grey = Image.fromarray(numpy.array([[0, 1], [1, 7]], numpy.uint8))
    palette = Image.fromarray(numpy.array([[0, 3, 3]], numpy.uint8), "P")
    palette.putpalette([9] * 768)
    colour = Image.fromarray(numpy.array([[[0, 0, 8], [128, 0, 1]]], numpy.uint8))
    deep = Image.fromarray(numpy.array([[300, 1]], numpy.uint16))
    files = masks_in(tmp_path, [grey, palette, colour, deep])
    pixels, seen, bad = kinds.count_codes(files, [(0, 0)] * 4, [2, 2], ONE, lambda n: None)
    assert pixels == [{"0": 2, "1": 2, "7": 1, "3": 2}, {"#000008": 1, "#800001": 1, "300": 1, "1": 1}]
    assert seen[0] == {"0": 2, "1": 1, "7": 1, "3": 1} and not bad
    assert sorted({*pixels[0], *pixels[1]}, key=kinds.code_order) == ["0", "1", "3", "7", "300", "#000008", "#800001"]


def test_a_mask_that_is_none_is_listed(tmp_path):
    files = masks_in(tmp_path, [Image.fromarray(noise(1, 90, 90, 3)), Image.new("L", (2, 2)), Image.new("L", (5, 4))])
    _, _, bad = kinds.count_codes(files, [(90, 90), (2, 2), (4, 4)], [3], Way(2), lambda n: None)
    assert [index for index, _ in bad] == [0, 2]
    assert "4096 colours" in bad[0][1] and bad[1][1] == "is 5 x 4, its image 4 x 4"


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_points_have_exact_moments_in_any_order(values):
    mean, std = kinds.mean_and_std(values)
    exactly = [Fraction(value) for value in values]
    centre = sum(exactly) / len(exactly)
    variance = sum((value - centre) ** 2 for value in exactly) / len(exactly)
    assert mean == float(centre)
    assert kinds.mean_and_std(values[::-1]) == (mean, std)
    slack = Fraction(1, 10**15)
    assert (Fraction(std) * (1 - slack)) ** 2 <= variance <= (Fraction(std) * (1 + slack) + Fraction(5e-324)) ** 2


def test_the_median_is_one_of_the_numbers():
    assert kinds.spread([5, 1, 9, 7]) == {"min": 1, "median": 5, "max": 9}
    assert kinds.spread([]) == {}


def test_reasons_name_no_address_and_no_path(tmp_path):
    with pytest.raises(OSError, match="gone") as raised:
        Image.open(tmp_path / "gone.png")
    assert statistics.reason_of(raised.value) == "No such file or directory"
    assert statistics.reason_of(ValueError("cannot identify image file <_io.BytesIO object at 0x7f>")) == (
        "cannot identify image file"
    )
    assert statistics.reason_of(KeyError()) == "KeyError"
