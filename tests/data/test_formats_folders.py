"""Official archives of folders and of pairs: every file lands in its split with its name, and no one who was learnt from is tested."""

import zipfile
from dataclasses import replace

import numpy
import pytest

from diva.data import archives as formats_archives
from diva.data.catalogue import card
from diva.data.download import conversion
from diva.data.formats import reader_of
from diva.errors import DataError
from tests.data import official
from tests.data.official import paths, written


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(conversion, "sync", lambda folder: None)  # it would wait for what other tests write, too


def test_class_folders_inside_an_archive_inside_an_archive(tmp_path):
    path, images = official.caltech101(tmp_path / "a.zip", n=25)
    found = card("caltech101")
    folder = written(tmp_path, {"caltech-101.zip": path}, found)
    counts = {
        s: [len(list((folder / s / c).iterdir())) for c in ("Faces", "accordion")] for s in ("train", "val", "test")
    }
    assert counts == {"train": [16, 16], "val": [4, 4], "test": [5, 5]}
    assert not [p for p in paths(folder) if "BACKGROUND" in p]
    for target in paths(folder):
        _, label, name = target.split("/")
        assert (folder / target).read_bytes() == images[f"101_ObjectCategories/{label}/{name}"]


def test_class_folders_may_have_official_splits(tmp_path):
    names = [f"top/{s}/{c}/{i}.png" for s in ("training", "testing") for c in "ab" for i in range(5)]
    path = official.zipped(tmp_path / "a.zip", {name: name.encode() for name in [*names, "top/readme.txt"]})
    found = card("caltech101").model_copy(
        update={"options": {"prefix": "top", "splits": {"training": "train", "testing": "test"}}}
    )
    folder = written(tmp_path, {"caltech-101.zip": path}, found)
    assert [len([p for p in paths(folder) if p.startswith(s)]) for s in ("train", "val", "test")] == [8, 2, 10]


def test_an_archive_without_class_folders_is_named(tmp_path):
    path = official.zipped(tmp_path / "a.zip", {"x/readme.txt": b""})
    found = card("caltech101").model_copy(update={"options": {}})
    with pytest.raises(DataError, match=r"a.zip: holds no <class>/<image>"):
        list(reader_of(found)({"caltech-101.zip": path}, found))


def test_pets_follow_the_official_lists_and_keep_their_trimaps(tmp_path):
    files = official.pets(tmp_path)
    folder = written(tmp_path, files, card("oxford_iiit_pet"))
    names = {s: sorted(p.stem for p in (folder / s / "data").iterdir()) for s in ("train", "val", "test")}
    assert names["test"] == ["Abyssinian_5", "Abyssinian_6", "beagle_5", "beagle_6"]
    assert [sum(n.startswith("beagle") for n in names[s]) for s in ("train", "val")] == [4, 1]
    for split, stems in names.items():
        assert sorted(p.stem for p in (folder / split / "gt").iterdir()) == stems
    assert set(numpy.unique(official.pixels_of(folder / "test" / "gt" / "beagle_5.png"))) == {1, 2, 3}


@pytest.mark.parametrize(("name", "manuscript"), [("divahisdb_cb55", "CB55"), ("divahisdb_csg18", "CS18")])
def test_the_card_chooses_the_manuscript(tmp_path, name, manuscript):
    path = official.hisdb(tmp_path / "all.zip")
    folder = written(tmp_path, {"all.zip": path}, card(name))
    assert len(paths(folder)) == 12 and all(manuscript in p for p in paths(folder))
    for split in ("train", "val", "test"):
        data, gt = (sorted(p.stem for p in (folder / split / kind).iterdir()) for kind in ("data", "gt"))
        assert data == gt and len(data) == 2


def test_a_missing_manuscript_is_named(tmp_path):
    path = official.hisdb(tmp_path / "all.zip")
    with pytest.raises(DataError, match=r"all.zip: holds no img-CS863.zip"):
        written(tmp_path, {"all.zip": path}, card("divahisdb_csg863"))


@pytest.mark.parametrize(("task", "column"), [("dating", 3), ("style", 2)])
def test_clamm_is_sorted_by_the_column_of_its_task(tmp_path, task, column):
    found = card(f"icdar2017_clamm_{task}")
    folder = written(tmp_path, official.clamm(tmp_path, n=12), found)
    for split, n in (("train", 12), ("test", 12)):
        parts = (split, "val") if split == "train" else (split,)
        pages = {p.name: p.parent.name for s in parts for p in (folder / s).rglob("*.tif")}
        assert pages == {f"page_{i}.tif": (found.classes or [])[i % column] for i in range(n)}
    assert not list(folder.rglob("IRHT*"))


def test_a_page_of_clamm_that_is_not_in_the_table_is_named(tmp_path):
    files = official.clamm(tmp_path)
    with zipfile.ZipFile(files["ICDAR2017_CLaMM_Training.zip"], "a") as archive:
        archive.writestr("ICDAR2017_CLaMM_Training/new.tif", b"")
    with pytest.raises(DataError, match=r"Training.zip: new.tif is not in the table"):
        list(reader_of(card("icdar2017_clamm_style"))(files, card("icdar2017_clamm_style")))


def test_no_writer_is_in_two_splits(tmp_path):
    folder = written(tmp_path, official.historical_wi(tmp_path), card("historical_wi"))
    writers = {s: {p.name for p in (folder / s).iterdir()} for s in ("train", "val", "test")}
    assert [len(writers[s]) for s in ("train", "val", "test")] == [4, 1, 3]
    assert not (
        writers["train"] & writers["val"] or writers["train"] & writers["test"] or writers["val"] & writers["test"]
    )
    assert all(len(list(p.iterdir())) == 3 for s in writers for p in (folder / s).iterdir())


def test_a_writer_in_train_and_test_is_refused(tmp_path):
    files = official.historical_wi(tmp_path)
    both = dict.fromkeys(files, files["icdar17-historicalwi-training-color.zip"])
    with pytest.raises(DataError, match=r"writer 0 is in train and in test; splits must share none"):
        list(reader_of(card("historical_wi"))(both, card("historical_wi")))


def test_miml_writes_its_labels_as_a_table(tmp_path):
    source, targets = official.miml(tmp_path / "unpacked")
    folder = written(tmp_path, {"miml-image-data": source}, card("miml"))
    seen = {}
    for split, n in (("train", 6), ("val", 2), ("test", 2)):
        header, *rows = (folder / split / "labels.csv").read_text().splitlines()
        assert header == "image,desert,mountains,sea,sunset,trees" and len(rows) == n
        for row in rows:
            name, *cells = row.split(",")
            assert (folder / split / "images" / name).read_bytes() == (source / "original" / name).read_bytes()
            seen[int(name.split(".")[0])] = [int(cell) for cell in cells]
    assert numpy.array_equal([seen[i] for i in range(1, 11)], (targets.T > 0).astype(int))


def test_glas_becomes_pairs_of_pictures_and_masks_with_no_patient_in_two_splits(tmp_path):
    path = official.glas(tmp_path / "glas.zip")
    name = card("glas").files[0].name
    folder = written(tmp_path, {name: path}, card("glas"))
    assert [len(list((folder / s / "data").iterdir())) for s in ("train", "val", "test")] == [6, 2, 4]
    patients = {s: {(int(p.stem[6:]) - 1) // 2 for p in (folder / s / "gt").glob("train*")} for s in ("train", "val")}
    assert not patients["train"] & patients["val"]
    with zipfile.ZipFile(path) as archive:
        for mask in folder.rglob("gt/*.png"):
            top = "Warwick QU Dataset (Released 2016_07_08)"
            numbers = numpy.asarray(official.decoded(archive.read(f"{top}/{mask.stem}_anno.bmp")))
            assert numpy.array_equal(official.pixels_of(mask), numbers > 0)
            picture = mask.parents[1] / "data" / f"{mask.stem}.bmp"
            assert picture.read_bytes() == archive.read(f"{top}/{mask.stem}.bmp")


def of_folders(**options):
    return card("caltech101").model_copy(update={"options": options})


def test_two_members_that_would_become_one_file_are_named(tmp_path):
    names = [f"{split}/a/{i}.png" for split in ("train", "val", "test") for i in range(4)]
    path = official.zipped(tmp_path / "a.zip", {name: name.encode() for name in names})
    found = of_folders(splits={"train": "train", "val": "train", "test": "test"})
    with pytest.raises(DataError, match=r"a.zip: train/a/0.png and val/a/0.png would both become a/0.png"):
        list(reader_of(found)({"caltech-101.zip": path}, found))


@pytest.mark.parametrize("name", ["icdar2017_clamm_style", "oxford_iiit_pet", "glas", "miml"])
def test_an_archive_that_names_a_picture_twice_is_refused(tmp_path, monkeypatch, name):
    files = {
        "icdar2017_clamm_style": lambda: official.clamm(tmp_path, n=12),
        "oxford_iiit_pet": lambda: official.pets(tmp_path),
        "glas": lambda: {card("glas").files[0].name: official.glas(tmp_path / "glas.zip")},
        "miml": lambda: {"miml-image-data": official.miml(tmp_path / "unpacked")[0]},
    }[name]()
    real = formats_archives.members

    def with_a_copy(path, *limits):
        members = real(path, *limits)
        pictures = [m for m in members if m.name.endswith((".jpg", ".tif", ".bmp"))]
        return (*members, *(replace(m, name=f"copy/{m.name}") for m in pictures[:1]))

    monkeypatch.setattr(formats_archives, "members", with_a_copy)
    with pytest.raises(DataError, match=r" and copy/\S.* would both become "):
        list(reader_of(card(name))(files, card(name)))


@pytest.mark.parametrize("splits", [{"train": 3}, {"train": "training"}, {"train": ["train"]}, {3: "train"}])
def test_a_split_that_is_none_is_refused(tmp_path, splits):
    path = official.zipped(tmp_path / "a.zip", {"train/a/0.png": b""})
    with pytest.raises(DataError, match=r"option 'splits' says .* expected .* one of train, val, test"):
        list(reader_of(of_folders(splits=splits))({"caltech-101.zip": path}, of_folders(splits=splits)))
