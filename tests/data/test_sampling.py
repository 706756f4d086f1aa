"""A part of a split: nested, in proportion, of the seed alone. Balanced epochs: every class as often, every sample read."""

from collections import Counter

import numpy
import pytest

from diva.data.loading import Batches
from diva.data.sampling import balanced_order, part_size, stratified_order
from diva.errors import UsageError
from diva.seeding import Seeds

SEEDS = Seeds(3)
LABELS = numpy.array([2] * 60 + [0] * 30 + [7] * 9 + [1], numpy.int64)


@pytest.mark.parametrize(
    ("asked", "n", "size"),
    [
        ("1000", 5000, 1000),
        ("5", 5, 5),
        ("0.1", 5000, 500),
        (".5", 5, 2),
        ("0.001", 10, 1),
        ("1", 9, 1),
        ("0.999", 9, 9),
    ],
)
def test_a_part_is_a_number_of_samples_or_a_share(asked, n, size):
    assert part_size(asked, n) == size


@pytest.mark.parametrize("asked", ["0", "-3", "1.0", "1.5", "0.0", "1e3", "ten", "", "10%"])
def test_what_is_neither_is_refused(asked):
    with pytest.raises(UsageError, match="allowed are a number of samples, as 1000, or a share below one"):
        part_size(asked, 100)


def test_more_than_there_is_is_refused():
    with pytest.raises(UsageError, match="--subset 101: the training split has 100 samples"):
        part_size("101", 100)


def test_the_whole_is_a_permutation_of_the_seed():
    orders = [stratified_order(LABELS, Seeds(seed)).tolist() for seed in (1, 2, 1)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(100))


def test_every_beginning_has_the_classes_in_proportion():
    order = stratified_order(LABELS, SEEDS)
    for n in range(4, 101):
        for label, size in Counter(LABELS.tolist()).items():
            got = int((LABELS[order[:n]] == label).sum())
            assert got >= 1 and abs(got - size * n / 100) <= 2, (n, label)
    assert Counter(LABELS[order[:50]].tolist()) == {2: 30, 0: 15, 7: 4, 1: 1}


def test_names_of_classes_do_not_matter_to_the_choice():
    renamed = numpy.array([{2: 5, 0: -1, 7: 9, 1: 6}[label] for label in LABELS.tolist()])
    shares = [Counter(LABELS[stratified_order(labels, SEEDS)[:20]].tolist()) for labels in (LABELS, renamed)]
    assert shares[0] == shares[1]


def test_without_classes_the_order_is_the_streams():
    assert stratified_order(numpy.zeros(9, int), SEEDS)[1:].tolist() == SEEDS.order(9, "subset")[1:].tolist()


def test_a_balanced_epoch_reads_every_class_as_often_and_every_sample():
    order = balanced_order(LABELS, SEEDS, 1)
    samples = order % 100
    assert len(set(order.tolist())) == len(order) == 4 * 60
    assert Counter(LABELS[samples].tolist()) == {2: 60, 0: 60, 7: 60, 1: 60}
    times = Counter(samples.tolist())
    assert set(times) == set(range(100))
    for label in (2, 0, 7, 1):
        counts = {times[i] for i in numpy.flatnonzero(label == LABELS).tolist()}
        assert max(counts) - min(counts) <= 1


def test_repetitions_of_a_sample_are_numbered_from_zero():
    repetitions: dict = {}
    for number in balanced_order(LABELS, SEEDS, 4).tolist():
        repetitions.setdefault(number % 100, []).append(number // 100)
    assert all(sorted(found) == list(range(len(found))) for found in repetitions.values())


def test_each_epoch_has_an_order_and_a_choice_of_its_own():
    orders = [balanced_order(LABELS, SEEDS, epoch).tolist() for epoch in (1, 2, 1)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) != sorted(orders[1])  # which samples of the class of 9 are read a seventh time


class Balanced:
    """Samples that tell their number and a random one; the rare class is read as often as the other."""

    def __init__(self):
        self.labels = [0, 0, 0, 1]

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index, float(numpy.random.rand())

    def epoch_order(self, seeds, epoch):
        return balanced_order(self.labels, seeds, epoch)


@pytest.mark.parametrize("workers", [0, 1])
def test_repetitions_are_augmented_afresh(workers):
    batches = Batches(Balanced(), SEEDS, 4, shuffle=True, workers=workers)  # type: ignore[arg-type]
    assert batches.sizes() == [4, 2]
    read = [pair for batch in batches.epoch(2) for pair in zip(*(part.tolist() for part in batch), strict=True)]
    assert [index for index, _ in read] == (batches.order(2) % 4).tolist()
    assert Counter(index for index, _ in read) == {0: 1, 1: 1, 2: 1, 3: 3}
    assert len({noise for _, noise in read}) == 6


def test_evaluation_reads_every_sample_once():
    assert Batches(Balanced(), SEEDS, 4).order(1).tolist() == [0, 1, 2, 3]  # type: ignore[arg-type]
