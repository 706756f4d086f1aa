"""Duplicates: all equal ones, all near ones, none that is far, without comparing each with each."""

import itertools

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from diva.data.analysis import duplicates
from diva.data.analysis.duplicates import confirmed, exact_groups, similar_pairs
from diva.data.analysis.statistics import Turn, difference_hashes


def bits(*places: int) -> int:
    return sum(1 << place for place in places)


def hashes(values) -> numpy.ndarray:
    return numpy.array(values, numpy.uint64)


def everyone(n: int) -> numpy.ndarray:
    return numpy.ones(n, numpy.bool_)


def digests(letters: str) -> numpy.ndarray:
    return numpy.array([[ord(letter)] * 32 for letter in letters], numpy.uint8).reshape(-1, 32)


def by_comparing_each_with_each(rows, columns) -> set[tuple[int, int, int]]:
    found = set()
    for one, two in itertools.combinations(range(len(rows)), 2):
        far = (int(rows[one]) ^ int(rows[two])).bit_count() + (int(columns[one]) ^ int(columns[two])).bit_count()
        if far <= duplicates.MOST_DIFFERENT:
            found.add((far, one, two))
    return found


# Exact


def test_equal_digests_make_a_group_in_the_order_of_the_samples():
    assert exact_groups(digests("abcabxb"), everyone(7)) == [[0, 3], [1, 4, 6]]
    assert exact_groups(digests("abc"), everyone(3)) == []
    assert exact_groups(digests(""), everyone(0)) == []


def test_what_is_not_to_be_used_is_in_no_group():
    assert exact_groups(digests("aaab"), numpy.array([True, False, True, True])) == [[0, 2]]


def test_all_32_bytes_decide():
    found = digests("aaaa")
    found[1, 31] += 1
    found[3, 9] += 1
    assert exact_groups(found, everyone(4)) == [[0, 2]]


# Alike


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(0, 9))
def test_sorting_finds_the_same_as_comparing_each_with_each(seed, n, n_flipped):
    generator = numpy.random.default_rng(seed)
    rows, columns = (generator.integers(0, 2**64, n, numpy.uint64) for _ in range(2))
    for _ in range(n // 2):
        one, two = generator.choice(n, 2, replace=False)
        rows[two], columns[two] = rows[one], columns[one]
        for place in generator.choice(128, n_flipped, replace=False).tolist():
            target, bit = (rows, place) if place < 64 else (columns, place - 64)
            target[two] ^= numpy.uint64(1 << bit)
    found = similar_pairs(rows, columns, everyone(n))
    expected = by_comparing_each_with_each(rows, columns)
    assert set(found) <= expected
    same = {(one, two) for far, one, two in expected if far == 0}
    stands = {index: min([one for one, two in same if two == index], default=index) for index in range(n)}
    # of images with the same hashes the first stands for all
    assert {pair for pair in found if pair[0]} == {
        (far, *sorted((stands[one], stands[two]))) for far, one, two in expected if far
    }
    assert {pair[2] for pair in found if not pair[0]} == {two for _, two in same}


def test_pairs_come_with_the_most_alike_first():
    base = (1 << 64) - 1
    rows = hashes([base, base ^ bits(1, 2), base ^ bits(3)])
    assert similar_pairs(rows, hashes([base] * 3), everyone(3)) == [(1, 0, 2), (2, 0, 1), (3, 1, 2)]


def test_seven_bits_are_near_and_eight_are_not():
    base = hashes([(1 << 64) - 1] * 2)
    for n, expected in ((7, 1), (8, 0)):
        other = base.copy()
        other[1] ^= numpy.uint64(bits(*range(n)))
        assert len(similar_pairs(base, other, everyone(2))) == expected


def test_plain_images_are_like_any_other_plain_one_and_left_out():
    plain = hashes([0, bits(1), bits(1, 2)])
    assert similar_pairs(plain, plain, everyone(3)) == []


def test_only_what_is_to_be_used_is_paired():
    same = hashes([(1 << 64) - 1] * 3)
    assert similar_pairs(same, same, numpy.array([True, False, True])) == [(0, 0, 2)]
    assert similar_pairs(same[:0], same[:0], everyone(0)) == []


def test_very_many_alike_end_soon_and_are_cut_at_the_nearest(monkeypatch):
    monkeypatch.setattr(duplicates, "MOST_CANDIDATES", 50)
    generator = numpy.random.default_rng(0)
    flips = generator.integers(0, 64, (3, 2000)).astype(numpy.uint64)
    one = numpy.uint64(1)
    rows = hashes([(1 << 64) - 1] * 2000) ^ (one << flips[0]) ^ (one << flips[1])
    found = similar_pairs(rows, hashes([(1 << 64) - 1] * 2000) ^ (one << flips[2]), everyone(2000))
    assert len(found) == 50 and found == sorted(found)
    assert found[-1][0] <= 2  # pairs that differ in two bits or none are more than 50


# What the hashes see


def photographs() -> list[Image.Image]:
    """Six parts of two photographs, none like another."""
    return [
        Image.fromarray(image).crop((x, y, x + 300, y + 210))
        for image in load_sample_images().images
        for x, y in ((0, 0), (300, 0), (150, 200))
    ]


def grids_of(images) -> numpy.ndarray:
    turn = Turn(len(images), similar=True)
    for place, image in enumerate(images):
        turn._look(place, image)
    return turn.end()[0]["grid"]


def compressed(image: Image.Image, tmp_path) -> Image.Image:
    image.save(tmp_path / "a.jpg", quality=40)
    return Image.open(tmp_path / "a.jpg").convert("RGB")


@pytest.mark.parametrize("change", [
    compressed,
    lambda image, _: image.resize((150, 105), Image.Resampling.LANCZOS),
    lambda image, _: image.convert("L"),
    lambda image, _: ImageEnhance.Contrast(image).enhance(0.9),
    lambda image, _: image.crop((2, 2, 298, 208)),
], ids=["compressed", "half the size", "grey", "less contrast", "a margin cut off"])  # fmt: skip
def test_a_changed_copy_is_found_and_nothing_else(tmp_path, change):
    images = photographs()
    images += [change(image, tmp_path) for image in images]

    grids = grids_of(images)
    pairs = confirmed(similar_pairs(*difference_hashes(grids), everyone(12)), grids)
    assert sorted(pair[1:] for pair in pairs) == [(number, number + 6) for number in range(6)]


def test_equal_hashes_of_other_pixels_are_not_confirmed():
    ramp = numpy.arange(81, dtype=numpy.int64).reshape(1, -1) * 3
    steps = numpy.where(ramp < 230, 0, 255)
    grids = numpy.concatenate([ramp, ramp // 2 + 9, steps, 255 - ramp]).astype(numpy.uint8)
    assert confirmed([(0, 0, 1), (0, 0, 2), (0, 0, 3)], grids) == [(0, 0, 1)]
    assert confirmed([], grids) == []
