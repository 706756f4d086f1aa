"""Official formats: every sample arrives with its pixels, its class's real name and its split; damage is named, nothing is run."""

import gzip
import pickle
import struct
import tracemalloc
import zlib
from pathlib import PurePosixPath
from typing import Any

import numpy
import pytest

from diva.data import formats
from diva.data.catalogue import card
from diva.data.download import conversion
from diva.data.formats import Block, Placed, Text, deal, matlab
from diva.errors import DataError
from tests.data import official


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(conversion, "sync", lambda folder: None)  # it would wait for what other tests write, too


def read(files, found) -> Any:
    """What a reader yields; of which kind each item is depends on the format."""
    return formats.reader_of(found)(files, found)


def classes_of(name) -> list[str]:
    return card(name).classes or []


def with_options(name, **options):
    found = card(name)
    return found.model_copy(update={"options": {**found.options, **options}})


def small_cifar():
    starts = {f"data_batch_{k}": 4 * (k - 1) for k in range(1, 6)}
    return with_options("cifar10", batches={**starts, "test_batch": 0})


def blocks(files, found):
    """Images and labels by split, in official order."""
    by_split: dict[str, list[Block]] = {}
    for block in sorted(read(files, found), key=lambda block: block.first):
        assert isinstance(block, Block)
        by_split.setdefault(block.split, []).append(block)
    return {
        split: tuple(numpy.concatenate([getattr(b, what) for b in parts]) for what in ("images", "labels"))
        for split, parts in by_split.items()
    }


def same(found, truth):
    assert set(found) == set(truth)
    for split, (images, labels) in truth.items():
        assert numpy.array_equal(found[split][0], images) and numpy.array_equal(found[split][1], labels)


# --- IDX ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_idx_files_are_read_as_they_are(tmp_path, name):
    files, truth = official.mnist_like(tmp_path)
    same(blocks(files, card(name)), truth)


def test_idx_files_may_be_unpacked_already(tmp_path):
    files, truth = official.mnist_like(tmp_path)
    for path in files.values():
        path.write_bytes(gzip.decompress(path.read_bytes()))
    same(blocks(files, card("mnist")), truth)


def test_images_come_in_blocks_that_do_not_depend_on_the_number_of_images(tmp_path, monkeypatch):
    monkeypatch.setattr("diva.data.formats.idx.BLOCK", 5)
    files, truth = official.mnist_like(tmp_path)
    assert [(b.split, b.first, len(b.images)) for b in read(files, card("mnist"))] == [
        ("train", 0, 5), ("train", 5, 5), ("train", 10, 2), ("test", 0, 5), ("test", 5, 1),
    ]  # fmt: skip
    same(blocks(files, card("mnist")), truth)


@pytest.mark.parametrize("part", ["letters", "balanced", "digits"])
def test_emnist_is_set_upright_and_its_letters_count_from_zero(tmp_path, part):
    path, truth = official.emnist_zip(tmp_path / "gzip.zip", part, first_label=int(part == "letters"))
    same(blocks({"gzip.zip": path}, card(f"emnist_{part}")), truth)


def test_emnist_names_its_letters():
    assert classes_of("emnist_letters")[0] == "A" and len(classes_of("emnist_letters")) == 26
    assert classes_of("emnist_balanced")[36:38] == ["lower_a", "lower_b"] and len(classes_of("emnist_balanced")) == 47


def spoil(path, change):
    path.write_bytes(official.gz(change(gzip.decompress(path.read_bytes()))))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train-images-idx3-ubyte.gz", lambda c: c[:-1], r"train-images.*ends at byte 9423 where 1 more must come"),
        ("train-images-idx3-ubyte.gz", lambda c: c + b"x", r"train-images.*goes on behind byte 9424"),
        ("train-labels-idx1-ubyte.gz", lambda c: c[:10], r"train-labels.*ends at byte 10 where 10 more must come"),
        ("train-labels-idx1-ubyte.gz", lambda c: c[:5], r"train-labels.*ends at byte 5 where 3 more"),
        ("train-images-idx3-ubyte.gz", lambda c: b"\1" + c[1:], r"begins with .* which is no IDX file"),
        ("train-images-idx3-ubyte.gz", lambda c: c[:2] + b"\x0d" + c[3:], r"holds float32 .*expected uint8"),
        ("train-labels-idx1-ubyte.gz", lambda c: official.idx(numpy.zeros(11, int)), r"12 images and .* 11 labels"),
        (
            "train-labels-idx1-ubyte.gz",
            lambda c: official.idx(numpy.zeros((12, 2, 2), int)),
            r"train needs one file of images",
        ),
        (
            "train-images-idx3-ubyte.gz",
            lambda c: c[:8] + struct.pack(">2I", 1 << 30, 28) + c[16:],
            r"1073741824 x 28 at byte 8",
        ),
    ],
)
def test_a_damaged_idx_file_is_named_with_its_place(tmp_path, name, change, message):
    files, _ = official.mnist_like(tmp_path)
    spoil(files[name], change)
    with pytest.raises(DataError, match=message):
        blocks(files, card("mnist"))


@pytest.mark.parametrize("packed", [True, False])
def test_no_header_asks_for_more_memory_than_its_file_may_hold(tmp_path, packed):
    files, _ = official.mnist_like(tmp_path)
    many = (1 << 32) - 1
    for kind, header in (
        ("labels-idx1", struct.pack(">II", 0x801, many)),
        ("images-idx3", struct.pack(">IIII", 0x803, many, 9, 9)),
    ):
        content = header + bytes(100)
        files[f"train-{kind}-ubyte.gz"].write_bytes(official.gz(content) if packed else content)
    tracemalloc.start()
    try:
        with pytest.raises(
            DataError, match=r"labels.*: 4,294,967,295 bytes must come behind byte 8, more than a file of its size"
        ):
            blocks(files, card("mnist"))
        assert tracemalloc.get_traced_memory()[1] < 1 << 28
    finally:
        tracemalloc.stop()


def test_large_images_come_in_small_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("diva.data.formats.idx._AT_ONCE", 28 * 28 * 3)
    files, truth = official.mnist_like(tmp_path)
    assert [len(b.images) for b in read(files, card("mnist"))] == [3, 3, 3, 3, 3, 3]
    same(blocks(files, card("mnist")), truth)


def test_a_gzip_that_was_cut_off_is_named(tmp_path):
    files, _ = official.mnist_like(tmp_path)
    path = files["train-images-idx3-ubyte.gz"]
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz: damaged behind byte"):
        blocks(files, card("mnist"))


def test_a_missing_file_is_named(tmp_path):
    files, _ = official.mnist_like(tmp_path)
    del files["t10k-labels-idx1-ubyte.gz"]
    with pytest.raises(DataError, match=r"mnist: the file t10k-labels-idx1-ubyte.gz is missing.*--from"):
        blocks(files, card("mnist"))


# --- CIFAR -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [{}, {"protocol": 2}, {"protocol": 4}, {"binary": True}])
def test_cifar_is_read_from_pickles_of_python_2_and_3_and_from_records(tmp_path, form):
    path, truth = official.cifar10(tmp_path / "a.tar.gz", **form)
    same(blocks({"cifar-10-python.tar.gz": path}, small_cifar()), truth)


def test_cifar_keeps_the_names_of_its_classes(tmp_path):
    path, truth = official.cifar10(tmp_path / "a.tar.gz")
    folder = official.written(
        tmp_path, {"cifar-10-python.tar.gz": path}, small_cifar().model_copy(update={"val": None})
    )
    for i, label in enumerate(truth["train"][1]):
        assert numpy.array_equal(
            official.pixels_of(folder / "train" / classes_of("cifar10")[label] / f"{i:05}.png"), truth["train"][0][i]
        )


def test_cifar_100_has_its_fine_classes(tmp_path):
    found = card("cifar100")
    path, truth = official.cifar100(tmp_path / "a.tar.gz", names=found.classes)
    same(blocks({"cifar-100-python.tar.gz": path}, found), truth)


def test_other_class_names_than_the_card_says_are_refused(tmp_path):
    path, _ = official.cifar10(tmp_path / "a.tar.gz", names=["plane"] * 10)
    with pytest.raises(DataError, match=r"batches.meta: names the classes plane, .*the card cifar10 says airplane"):
        blocks({"cifar-10-python.tar.gz": path}, small_cifar())


class Attack:
    """A pickle that runs a function when it is read."""

    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


def with_batch(tmp_path, content):
    members = {f"cifar-10-batches-py/data_batch_{k}": content for k in range(1, 6)}
    return {"cifar-10-python.tar.gz": official.tar_gz(tmp_path / "a.tar.gz", members)}


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (exec, "builtins.exec"),
        (getattr, "builtins.getattr"),
        (numpy.load, "numpy.load"),
        (pickle.loads, "_?pickle.loads"),
    ],
)
def test_a_pickle_that_asks_for_code_is_refused_by_name_and_not_run(tmp_path, function, name):
    mark = tmp_path / "ran"
    content = pickle.dumps({"data": Attack((function, (f"open({str(mark)!r}, 'w')",)))}, protocol=2)
    with pytest.raises(DataError, match=rf"data_batch_1: this pickle is refused: it asks for (__builtin__|{name})"):
        blocks(with_batch(tmp_path, content), small_cifar())
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"cnumpy.core.multiarray\n_reconstruct.evil\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x14core.multiarray.dtype\x93.",
        b"ccopyreg\n_reconstructor\n.",
        b"P17\n.",
        b"\x80\x02\x82\x01.",
    ],
)
def test_every_other_global_is_refused(content):
    from diva.data.formats.pickles import load

    with pytest.raises(DataError, match=r"this pickle is (refused|damaged)"):
        load(content, "batch")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"data": numpy.zeros((4, 3072)), "labels": [0] * 4}, "of type 'f8'"),
        (
            {"data": numpy.zeros((4, 3071), numpy.uint8), "labels": [0] * 4},
            r"'data' is \(4, 3071\); expected an array \(N, 3072\)",
        ),
        ({"data": numpy.zeros((4, 3072), numpy.uint8), "labels": [0] * 3}, "has 4 images and 3 labels"),
        ({"data": numpy.zeros((4, 3072), numpy.uint8), "labels": [0, 1, 2, "3"]}, "its labels are no list of integers"),
        ({"data": numpy.zeros((3, 3072), numpy.uint8), "labels": [0] * 3}, "data_batch_1 has 3 images; expected 4"),
        ({"labels": [0] * 4}, "'data' is nothing"),
        ([1, 2], "holds a list; expected a dictionary"),
    ],
)
def test_a_batch_of_another_shape_is_named(tmp_path, found, message):
    files = with_batch(tmp_path, pickle.dumps(found, protocol=2))
    card_without_test = with_options("cifar10", batches={f"data_batch_{k}": 4 * (k - 1) for k in range(1, 6)})
    with pytest.raises(DataError, match=message):
        blocks(files, card_without_test)


@pytest.mark.parametrize("n", [0, 10, -1])
def test_a_damaged_pickle_is_named(tmp_path, n):
    content = official.Python2Pickle.dumps({b"labels": [0] * 4, b"data": numpy.zeros((4, 3072), numpy.uint8)})
    with pytest.raises(DataError, match=r"data_batch_1: this pickle is (damaged|refused)"):
        blocks(with_batch(tmp_path, content[:n]), small_cifar())


def test_records_that_were_cut_off_are_named_with_their_place(tmp_path):
    members = {"cifar-10-batches-bin/data_batch_1.bin": bytes(3073 * 4 + 7)}
    path = official.tar_gz(tmp_path / "a.tar.gz", members)
    with pytest.raises(DataError, match=r"data_batch_1.bin: 7 bytes at byte 12292 are no whole record of 3073"):
        blocks({"cifar-10-python.tar.gz": path}, small_cifar())


def test_a_missing_batch_is_named(tmp_path):
    path = official.tar_gz(tmp_path / "a.tar.gz", {"cifar-10-batches-bin/data_batch_1.bin": bytes(3073 * 4)})
    with pytest.raises(DataError, match=r"a.tar.gz: has no file data_batch_2, .*test_batch"):
        blocks({"cifar-10-python.tar.gz": path}, small_cifar())


def test_a_label_that_no_class_has_is_named(tmp_path):
    path = official.tar_gz(tmp_path / "a.tar.gz", {"data_batch_1.bin": (bytes(3073) + b"\x0a" + bytes(3072))})
    found = with_options("cifar10", batches={"data_batch_1": 0})
    with pytest.raises(DataError, match=r"cifar10: sample 1 of train has label 10; allowed: 0 to 9"):
        official.written(tmp_path, {"cifar-10-python.tar.gz": path}, found)


# --- SVHN and STL-10 ---------------------------------------------------------------------------------------------------


def test_label_10_of_svhn_is_the_digit_0(tmp_path):
    truth, files = {}, {}
    for seed, split in enumerate(("train", "test")):
        name = f"{split}_32x32.mat"
        files[name], *truth[split] = official.svhn_mat(tmp_path / name, seed=seed)
    same(blocks(files, card("svhn")), truth)
    assert 0 in truth["train"][1] and 10 not in blocks(files, card("svhn"))["train"][1]


@pytest.mark.parametrize("label", [0, 11])
def test_other_labels_of_svhn_are_refused(tmp_path, label):
    path, *_ = official.svhn_mat(tmp_path / "train_32x32.mat", n=2, labels=numpy.array([[1], [label]]))
    with pytest.raises(DataError, match=rf"train_32x32.mat: sample 1 has label {label}; allowed: 1 to 10"):
        blocks({"train_32x32.mat": path, "test_32x32.mat": path}, card("svhn"))


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"X": numpy.array([{"a": 1}], dtype=object), "y": [1]}, "X is of type cell; expected uint8. It is not read"),
        ({"X": numpy.zeros((2, 2, 3, 1)), "y": [1]}, "X is of type double; expected uint8"),
        ({"X": numpy.zeros((2, 2, 3, 1), numpy.uint8), "y": {"a": 1}}, "y is of type struct; expected numbers"),
        ({"X": numpy.zeros((2, 2, 3, 2), numpy.uint8), "y": [1]}, r"X is \(2, 2, 3, 2\), y \(1, 1\)"),
        ({"y": [1]}, "has no variable X; it has y"),
    ],
)
def test_a_mat_file_with_other_things_in_it_is_refused(tmp_path, variables, message):
    from scipy.io import savemat

    savemat(tmp_path / "train_32x32.mat", variables)
    with pytest.raises(DataError, match=f"train_32x32.mat: {message}"):
        blocks(dict.fromkeys(("train_32x32.mat", "test_32x32.mat"), tmp_path / "train_32x32.mat"), card("svhn"))


def test_a_mat_file_that_unpacks_to_too_much_is_refused_before_it_is_read(tmp_path, monkeypatch):
    from scipy import io

    path = tmp_path / "train_32x32.mat"
    io.savemat(path, {"X": numpy.zeros((32, 32, 3, 50_000), numpy.uint8), "y": [1]}, do_compression=True)
    assert path.stat().st_size < 1 << 18
    monkeypatch.setattr(io, "loadmat", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(DataError, match=r"train_32x32.mat: unpacks to more than [0-9,]+ bytes, too many"):
        matlab.load(path, {"X": "uint8"})


@pytest.mark.parametrize("compressed", [True, False])
def test_a_mat_file_says_no_more_values_than_it_has_bytes(tmp_path, monkeypatch, compressed):
    from scipy import io

    path = tmp_path / "train_32x32.mat"
    io.savemat(path, {"names": numpy.array(["a", "b"], object)})
    content = path.read_bytes()
    sizes = struct.pack("<II", 1, 2)
    assert content.count(sizes) == 1
    content = content.replace(sizes, struct.pack("<II", 1 << 15, 1 << 15))
    if compressed:
        packed = zlib.compress(content[128:])
        content = content[:128] + struct.pack("<II", 15, len(packed)) + packed
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"names is to have 1,073,741,824 values in [0-9,]+ bytes. It is not read"):
        matlab.load(path, {"names": "cell"})


def test_a_packed_mat_file_within_the_limits_is_read(tmp_path):
    from scipy import io

    numbers = official.random_images(3, 4, 5, 3)
    io.savemat(tmp_path / "a.mat", {"X": numbers, "y": [1]}, do_compression=True)
    assert numpy.array_equal(matlab.load(tmp_path / "a.mat", {"X": "uint8"})["X"], numbers)


def test_a_damaged_mat_file_is_named(tmp_path):
    path, *_ = official.svhn_mat(tmp_path / "train_32x32.mat")
    path.write_bytes(path.read_bytes()[:5000] + bytes(100_000))
    with pytest.raises(
        DataError, match=r"train_32x32.mat: (cannot be read as a .mat file of version 5|has no variable y)"
    ):
        blocks(dict.fromkeys(("train_32x32.mat", "test_32x32.mat"), path), card("svhn"))


def test_stl_10_is_set_upright_and_counts_from_zero(tmp_path):
    path, truth = official.stl10(tmp_path / "a.tar.gz")
    files = {"stl10_binary.tar.gz": path}
    same(blocks(files, card("stl10")), {"train": truth["train"], "test": truth["test"]})


def test_images_of_stl_10_without_labels_are_written_when_asked_for(tmp_path):
    path, truth = official.stl10(tmp_path / "a.tar.gz")
    folder = official.written(tmp_path, {"stl10_binary.tar.gz": path}, with_options("stl10", unlabelled=True))
    assert [p for p in official.paths(folder) if p.startswith("unlabelled")] == [
        f"unlabelled/0000{i}.png" for i in range(3)
    ]
    assert numpy.array_equal(official.pixels_of(folder / "unlabelled" / "00002.png"), truth["unlabeled"][0][2])


def test_stl_10_with_too_few_pixels_is_named(tmp_path):
    members = {"stl10_binary/train_X.bin": bytes(27648), "stl10_binary/train_y.bin": b"\1\2"}
    with pytest.raises(DataError, match=r"train_X.bin: has 27648 bytes; expected 55296, 27648 for each of 2 labels"):
        blocks({"stl10_binary.tar.gz": official.tar_gz(tmp_path / "a.tar.gz", members)}, card("stl10"))


# --- All ---------------------------------------------------------------------------------------------------------------


def test_an_unknown_format_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(DataError, match=r"mnist: no reader for the format 'ids'; did you mean idx\?"):
        read({}, card("mnist").model_copy(update={"format": "ids"}))


def test_an_option_of_another_type_is_refused(tmp_path):
    files, _ = official.mnist_like(tmp_path)
    with pytest.raises(DataError, match=r"mnist: option 'transposed' is 'yes' in the card; expected bool"):
        blocks(files, with_options("mnist", transposed="yes"))


def test_every_sample_is_dealt_once_by_the_hash_of_its_name():
    dealt = deal("cells", range(100), 0.2, 0.1)
    assert [list(dealt.values()).count(s) for s in ("train", "val", "test")] == [72, 18, 10]
    assert deal("cells", reversed(range(100)), 0.2, 0.1) == dealt
    assert deal("other", range(100), 0.2, 0.1) != dealt
    assert deal("cells", range(100), 0.0) == dict.fromkeys(range(100), "train")


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize(("val", "test"), [(0.6, 0.0), (0.0, 0.6), (0.9, 0.9), (0.5, 0.5)])
def test_no_class_is_taken_out_of_train(n, val, test):
    assert "train" in deal("cells", range(n), val, test).values()


def test_what_is_to_be_all_test_is(tmp_path):
    assert set(deal("cells", range(3), 0.2, 1.0).values()) == {"test"}


def test_items_say_where_they_go(tmp_path):
    source, _ = official.miml(tmp_path / "unpacked")
    items = list(read({"miml-image-data": source}, card("miml")))
    assert {type(item) for item in items} == {Placed, Text}
    assert all(isinstance(item.target, PurePosixPath) for item in items)
