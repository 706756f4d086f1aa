"""The cards of the catalogue, from files in the official formats on a server to folders with the right images in the right classes."""

import hashlib

import numpy
import pytest
import yaml

from diva.data.catalogue import Card, SourceFile, card, names
from diva.data.download import download
from tests.data import official
from tests.data.site import PATIENCE, Told


def fetched(name: str, server, tmp_path, files, **options):
    """A data set of the catalogue, made of these tiny files, which a server has in place of the official ones."""
    found = card(name)
    sources = []
    for source in found.files:
        content = files[source.name].read_bytes()
        url = server.serve(f"{name}/{source.name}", content)
        known = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        sources.append(SourceFile.model_validate({"name": source.name, "urls": [url], "split": source.split, **known}))
    changed = {"files": sources, "footprint": None, "options": {**found.options, **options}}
    made = download(found.model_copy(update=changed), tmp_path / "data" / name, Told(), patience=PATIENCE)
    said = yaml.safe_load((made.folder / "dataset.yaml").read_text(encoding="utf-8"))
    assert said["name"] == name and said["licence"] == found.licence and said["layout"] == found.layout
    return made.folder


def same(folder, classes, truth):
    """Every sample is there with its pixels, its class's name and its index; train may have given some to val."""
    for split, (images, labels) in truth.items():
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            places = [
                folder / part / classes[label] / f"{i:05}.png"
                for part in ((split, "val") if split == "train" else (split,))
            ]
            (there,) = [path for path in places if path.is_file()]
            assert numpy.array_equal(official.pixels_of(there), image)
    assert len(list(folder.glob("*/*/*.png"))) == sum(len(images) for images, _ in truth.values())


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_idx(server, tmp_path, name):
    files, truth = official.mnist_like(tmp_path / "files")
    same(fetched(name, server, tmp_path, files), card(name).classes, truth)


def test_idx_in_gzip_in_zip(server, tmp_path):
    path, truth = official.emnist_zip(tmp_path / "gzip.zip")
    (source,) = card("emnist_letters").files
    same(fetched("emnist_letters", server, tmp_path, {source.name: path}), card("emnist_letters").classes, truth)


@pytest.mark.parametrize("protocol", [None, 2, 4])
def test_pickles_in_tar_gz(server, tmp_path, protocol):
    path, truth = official.cifar10(tmp_path / "cifar.tar.gz", protocol=protocol)
    (source,) = card("cifar10").files
    batches = {**{f"data_batch_{k}": 4 * (k - 1) for k in range(1, 6)}, "test_batch": 0}
    folder = fetched("cifar10", server, tmp_path, {source.name: path}, batches=batches)
    same(folder, card("cifar10").classes, truth)


def test_mat(server, tmp_path):
    files, truth = {}, {}
    for seed, source in enumerate(card("svhn").files):
        files[source.name], *truth[source.split] = official.svhn_mat(tmp_path / source.name, seed=seed)
    truth = {split: truth[split] for split in ("train", "test")}
    same(fetched("svhn", server, tmp_path, files), card("svhn").classes, truth)


def test_binary_in_tar_gz(server, tmp_path):
    path, truth = official.stl10(tmp_path / "stl.tar.gz")
    (source,) = card("stl10").files
    folder = fetched("stl10", server, tmp_path, {source.name: path})
    same(folder, card("stl10").classes, {split: truth[split] for split in ("train", "test")})


def test_class_folders_in_tar_gz_in_zip(server, tmp_path):
    path, images = official.caltech101(tmp_path / "caltech.zip")
    (source,) = card("caltech101").files
    folder = fetched("caltech101", server, tmp_path, {source.name: path})
    found = {path.read_bytes() for path in folder.glob("*/*/*.jpg")}
    assert found == {content for name, content in images.items() if "BACKGROUND" not in name}
    assert {path.name for path in folder.glob("*/*")} == {"Faces", "accordion"}
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        ".gitignore", "caltech101", "caltech101.download.json", "caltech101.footprint.json",
    ]  # fmt: skip


def test_pairs_in_two_tar_gz(server, tmp_path):
    folder = fetched("oxford_iiit_pet", server, tmp_path, official.pets(tmp_path))
    for split, n in (("train", 8), ("val", 2), ("test", 4)):
        stems = {kind: sorted(path.stem for path in (folder / split / kind).iterdir()) for kind in ("data", "gt")}
        assert stems["data"] == stems["gt"] and len(stems["gt"]) == n


def test_every_card_can_be_asked_for():
    cards = [card(name) for name in names()]
    assert len(cards) >= 15 and all(isinstance(one, Card) for one in cards)
    assert all(one.bundled or one.files for one in cards)
