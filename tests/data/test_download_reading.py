"""A download that could not be used is refused before it is put in place: nothing in it, another layout, other classes, other counts."""

import numpy
import pytest

from diva.data.catalogue import Card, card
from diva.data.download import conversion, download
from diva.data.formats import READERS, reader_of
from diva.errors import DataError
from tests.data import official
from tests.data.site import PATIENCE, Told


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(conversion, "sync", lambda folder: None)


IMAGES = {
    f"{split}/{label}/{i}.png": b"%d" % i for split in ("train", "val", "test") for label in "ab" for i in range(3)
}
SPLITS = {"splits": {"train": "train", "val": "val", "test": "test"}}


def made(tmp_path, members=None, **said):
    """A data set `cells` from a zip at hand."""
    path = official.zipped(tmp_path / "cells.zip", IMAGES if members is None else members)
    about = {"format": "class folders", "options": SPLITS, "files": [{"name": "cells.zip"}], **said}
    found = Card.model_validate({"name": "cells", "title": "Cells", **about})
    return download(found, tmp_path / "data" / "cells", Told(), given=[str(path)], patience=PATIENCE)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"format": "cifar", "options": {}}, "option 'batches' is {} in the card; expected the files of images"),
        ({"format": "historical wi", "options": {}}, "no sample came of its files, neither in train nor in val"),
        ({"layout": "points"}, r"cannot be read as points: train/points.csv: cannot be read.*Are `layout:`"),
        ({"layout": "pairs"}, r"cannot be read as pairs: train: holds no image in data/"),
        ({"classes": ["x"]}, r"train has the classes a, b, which its card does not name; its `classes:` are x$"),
        ({"expectations": {"samples": 40}}, r"there are 18 samples, expected 40 \(its card\)"),
        ({"expectations": {"samples": {"train": {"min": 7}}}}, r"train has 6 samples, expected at least 7"),
        ({"expectations": {"samples_per_class": {"test": 4}}}, r"test has 3 samples of a, expected 4"),
        ({"expectations": {"classes": 3, "layout": "pairs"}}, r"2 expectations are not met: there are 2 classes"),
        ({"expectations": {"clases": 3}}, r"unknown expectation 'clases'; did you mean classes\?"),
        (
            {"options": {**SPLITS, "prefx": "a"}},
            r"unknown option 'prefx' of the format 'class folders'; did you mean prefix\?",
        ),
        ({"options": {"test": "a"}}, r"option 'test' is 'a' in the card"),
    ],
)
def test_what_is_no_data_set_as_its_card_says_is_refused_and_leaves_no_folder(tmp_path, said, told):
    with pytest.raises(DataError, match=told) as raised:
        made(tmp_path, **said)
    assert str(raised.value).startswith("cells: ") and ".partial" not in str(raised.value)
    assert not [path.name for path in (tmp_path / "data").iterdir() if not path.name.startswith(".")]


def test_what_its_card_expects_is_put_in_place(tmp_path):
    expected = {"samples": {"train": 6, "val": 6, "test": 6}, "samples_per_class": 3, "classes": ["a", "b"]}
    assert made(tmp_path, classes=["a", "b"], expectations={**expected, "layout": "class folders"}).fresh


def test_a_split_may_be_missing_and_test_may_have_other_classes(tmp_path):
    members = {"train/a/0.png": b"", "train/b/0.png": b"", "test/c/0.png": b"", "test/d/0.png": b""}
    wanted = {"classes": 4, "samples": {"train": 2, "test": 2}}
    assert made(tmp_path, members, options={"splits": {"train": "train", "test": "test"}}, expectations=wanted).fresh
    assert not (tmp_path / "data" / "cells" / "val").exists()


def test_every_card_names_options_that_its_reader_knows(tmp_path):
    for name in ("caltech101", "cifar100", "emnist_letters", "icdar2017_clamm_style", "miml", "stl10", "svhn"):
        reader_of(card(name))
    for kind in READERS:
        with pytest.raises(DataError, match=r"unknown option 'foo' of the format"):
            reader_of(card("mnist").model_copy(update={"format": kind, "options": {"foo": 1}}))


def test_a_batch_that_is_there_twice_is_refused(tmp_path):
    record = numpy.zeros(3073, numpy.uint8).tobytes()
    files = {"cells.tar.gz": official.tar_gz(tmp_path / "a.tar.gz", {"a/test.bin": record, "b/test.bin": record})}
    found = card("cifar10").model_copy(update={"options": {"batches": {"test": 0}}})
    with pytest.raises(DataError, match=r"a.tar.gz: holds test twice, the second as b/test.bin"):
        list(reader_of(found)({found.files[0].name: files["cells.tar.gz"]}, found))
