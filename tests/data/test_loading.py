"""The same batches for any number of workers, wherever one starts, whatever the global generators hold."""

import random
from typing import NamedTuple, cast

import numpy
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from diva.data.loading import Batches, collate_of, to_device
from diva.errors import DataError
from diva.seeding import Seeds

SEEDS = Seeds(42)
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores


class Noisy(Dataset):
    """Samples augmented from every global generator."""

    def __init__(self, n=11):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return {
            "index": index,
            "noise": (random.random(), float(numpy.random.rand()), torch.rand(2)),
        }


class Own(Noisy):
    """A data set that makes its batches itself."""

    def collate(self, samples):
        return [sample["index"] for sample in samples]


class Unreadable(Noisy):
    def __getitem__(self, index):
        raise DataError(f"image {index} cannot be read")


def samples(values):
    """Any list will do as a data set."""
    return cast(Dataset, values)


class Point(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


def plain(nest):
    """A nest of tensors as lists of exact numbers."""
    if isinstance(nest, torch.Tensor):
        return nest.tolist()
    if isinstance(nest, dict):
        return {key: plain(value) for key, value in nest.items()}
    if isinstance(nest, (list, tuple)):
        return [plain(value) for value in nest]
    return nest


def epochs(batches, *which):
    return [[plain(batch) for batch in batches.epoch(epoch)] for epoch in which]


def poison():
    random.seed(13), numpy.random.seed(13), torch.manual_seed(13)


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_the_same_for_any_number_of_workers(workers):
    alone = epochs(Batches(Noisy(), SEEDS, 3, shuffle=True), 1, 2, 3)
    assert epochs(Batches(Noisy(), SEEDS, 3, shuffle=True, workers=workers), 1, 2, 3) == alone


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_do_not_depend_on_where_one_starts(workers):
    through = epochs(Batches(Noisy(), SEEDS, 3, shuffle=True, workers=workers), 1, 2, 3)
    started_late = epochs(Batches(Noisy(), SEEDS, 3, shuffle=True, workers=workers), 3, 1)
    assert started_late == [through[2], through[0]]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_left_early_moves_no_other(workers):
    whole = epochs(Batches(Noisy(), SEEDS, 2, shuffle=True), 1, 2)
    batches = Batches(Noisy(), SEEDS, 2, shuffle=True, workers=workers)
    next(iter(batches.epoch(1)))
    assert epochs(batches, 2, 1) == [whole[1], whole[0]]


def test_poisoned_generators_change_no_batch():
    clean = epochs(Batches(Noisy(), SEEDS, 3, shuffle=True), 1)[0]
    poisoned = []
    poison()
    for batch in Batches(Noisy(), SEEDS, 3, shuffle=True).epoch(1):
        poisoned.append(plain(batch))
        poison()
    assert poisoned == clean


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_depends_on_seed_epoch_and_index_alone(workers):
    def noise(**how):
        found: dict = {}
        for batch in Batches(Noisy(), how.pop("seeds", SEEDS), how.pop("size", 3), workers=workers, **how).epoch(5):
            found |= dict(zip(batch["index"].tolist(), zip(*map(plain, batch["noise"]), strict=True), strict=True))
        return {index: plain(values) for index, values in found.items()}

    plainly = noise()
    assert noise(size=11) == noise(size=4, shuffle=True) == plainly
    assert len({str(values) for values in plainly.values()}) == 11
    assert all(noise(seeds=Seeds(43))[index] != values for index, values in plainly.items())


def test_epochs_augment_differently():
    one, two = epochs(Batches(Noisy(), SEEDS, 11), 1, 2)
    assert one[0]["index"] == two[0]["index"] and one[0]["noise"] != two[0]["noise"]


def test_order_is_a_permutation_of_its_own_for_each_epoch():
    batches = Batches(Noisy(50), SEEDS, 7, shuffle=True)
    orders = [batches.order(epoch).tolist() for epoch in range(1, 6)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 5
    assert orders[2] == SEEDS.order(50, "shuffle", 3).tolist()


def test_batches_follow_the_order():
    batches = Batches(Noisy(), SEEDS, 4, shuffle=True)
    read = [index for batch in batches.epoch(2) for index in batch["index"].tolist()]
    assert read == batches.order(2).tolist() != list(range(11))


def test_without_shuffle_the_order_is_that_of_the_data():
    batches = Batches(Noisy(), SEEDS, 4)
    assert batches.order(0).tolist() == batches.order(9).tolist() == list(range(11))


@pytest.mark.parametrize(
    ("n", "size", "drop", "limit", "expected"),
    [
        (11, 4, False, None, [4, 4, 3]),
        (11, 4, True, None, [4, 4]),
        (12, 4, True, None, [4, 4, 4]),
        (3, 4, True, None, [3]),  # the only batch is never dropped: an epoch without a step teaches nothing
        (11, 4, False, 2, [4, 4]),
        (11, 4, False, 9, [4, 4, 3]),
        (1, 1, True, None, [1]),
        (0, 4, False, None, []),
    ],
)
def test_sizes_of_batches(n, size, drop, limit, expected):
    for data in (Noisy(n), TensorDataset(torch.arange(n))):
        batches = Batches(data, SEEDS, size, shuffle=True, drop_last=drop, limit=limit)
        assert batches.sizes() == expected and len(batches) == len(expected)
        assert len(batches.order(1)) == sum(expected)
        read = [batch["index"] if isinstance(batch, dict) else batch[0] for batch in batches.epoch(1)]
        assert [len(batch) for batch in read] == expected
        assert [int(i) for batch in read for i in batch] == batches.order(1).tolist()


class Slow(Dataset):
    """The samples of a TensorDataset, read one at a time."""

    def __init__(self, fast):
        self.fast = fast

    def __len__(self):
        return len(self.fast)

    def __getitem__(self, index):
        return self.fast[index]


@pytest.mark.parametrize("workers", [0, 1])
def test_tensors_in_memory_give_the_batches_of_the_samples_one_by_one(workers):
    fast = TensorDataset(torch.randn(13, 2, 3), torch.arange(13), torch.rand(13, dtype=torch.float64))
    one = Batches(fast, SEEDS, 4, shuffle=True, workers=workers)
    two = Batches(Slow(fast), SEEDS, 4, shuffle=True, workers=workers)
    for epoch in (2, 1):
        for left, right in zip(one.epoch(epoch), two.epoch(epoch), strict=True):
            assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_reading_tensors_in_memory_draws_nothing():
    batches = Batches(TensorDataset(torch.arange(9)), SEEDS, 2, shuffle=True)
    poison()
    before = random.random(), float(numpy.random.rand()), torch.rand(1).item()
    poison()
    list(batches.epoch(1))
    assert (random.random(), float(numpy.random.rand()), torch.rand(1).item()) == before


def test_a_tensor_data_set_with_its_own_samples_is_asked_for_them():
    class Doubled(TensorDataset):
        def __getitem__(self, index):
            return tuple(2 * tensor for tensor in super().__getitem__(index))

    (batch,) = Batches(Doubled(torch.arange(3)), SEEDS, 3).epoch(1)
    assert batch[0].tolist() == [0, 2, 4]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_set_may_make_its_batches_itself(workers):
    assert epochs(Batches(Own(5), SEEDS, 2, workers=workers), 1) == [[[0, 1], [2, 3], [4]]]
    assert collate_of(Own())([{"index": 3}]) == [3]


class Whole(Noisy):
    """The same samples, read a batch at a time."""

    def read_batch(self, indices, seed):
        rows = []
        for k, index in reversed(list(enumerate(indices))):  # in any order: each sample is seeded for itself
            seed(k)
            rows.append(super().__getitem__(index))
        return default_collate(rows[::-1])

    def __getitem__(self, index):
        raise AssertionError("samples are not asked for one by one")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_that_reads_whole_batches_gives_the_same_ones(workers):
    alone = epochs(Batches(Noisy(), SEEDS, 3, shuffle=True), 1, 2)
    assert epochs(Batches(Whole(), SEEDS, 3, shuffle=True, workers=workers), 1, 2) == alone


def test_a_subset_of_whole_batches_is_seeded_by_the_place_in_the_subset():
    chosen = [7, 3, 3, 10, 3]
    one, two = (epochs(Batches(Subset(data, chosen), SEEDS, 2), 4) for data in (Noisy(), Whole()))
    assert one == two
    noise = [tuple(pair) for batch in one[0] for pair in zip(*batch["noise"][:2], strict=True)]
    assert len(set(noise)) == 5


class UnreadableWhole(Whole):
    def read_batch(self, indices, seed):
        raise DataError(f"image {indices[0]} cannot be read")


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_may_be_tuples_dicts_or_numbers(workers):
    pairs = [(torch.ones(2) * i, i) for i in range(3)]
    (batch,) = Batches(samples(pairs), SEEDS, 3, workers=workers).epoch(1)
    assert plain(batch) == [[[0, 0], [1, 1], [2, 2]], [0, 1, 2]]
    (batch,) = Batches(samples([{"a": 1.0}, {"a": 2.0}]), SEEDS, 3, workers=workers).epoch(1)
    assert plain(batch) == {"a": [1, 2]}
    (batch,) = Batches(samples([4, 5]), SEEDS, 3, workers=workers).epoch(1)
    assert plain(batch) == [4, 5]


@pytest.mark.parametrize("kind", [Unreadable, UnreadableWhole])
@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_a_user_can_mend_reads_the_same_from_a_worker(workers, kind):
    with pytest.raises(DataError) as raised:
        list(Batches(kind(), SEEDS, 2, workers=workers).epoch(1))
    assert str(raised.value) == "image 0 cannot be read"


def test_to_device_keeps_the_nest():
    moved = to_device({"a": [torch.ones(1), "text"], "b": (torch.zeros(2), None)}, torch.device("meta"))
    assert moved["a"][0].is_meta and moved["a"][1] == "text" and isinstance(moved["a"], list)
    assert moved["b"][0].is_meta and moved["b"][1] is None and isinstance(moved["b"], tuple)


def test_to_device_keeps_named_tuples():
    moved = to_device(Point(torch.ones(1), torch.zeros(1)), torch.device("meta"))
    assert isinstance(moved, Point) and moved.y.is_meta


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_on_a_gpu_hold_the_same_numbers(device, workers):
    there = Batches(Noisy(), SEEDS, 3, shuffle=True, workers=workers, device=torch.device(device))
    batches = list(there.epoch(1))
    assert all(batch["noise"][2].is_cuda for batch in batches)
    assert [plain(batch) for batch in batches] == epochs(Batches(Noisy(), SEEDS, 3, shuffle=True), 1)[0]
