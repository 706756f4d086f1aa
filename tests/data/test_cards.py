"""Every card can be trusted: real class names that a folder can carry, a reader that exists, checksums that are whole, gaps told."""

from collections import Counter

import pytest

from diva.data.catalogue import card, names
from diva.data.download.conversion import check_names
from diva.data.formats import READERS

DOWNLOADED = [name for name in names() if not card(name).bundled]
WANTED = (
    "caltech101 cifar10 cifar100 divahisdb_cb55 divahisdb_csg18 divahisdb_csg863 emnist_balanced emnist_digits emnist_letters "
    "fashion_mnist glas historical_wi icdar2017_clamm_dating icdar2017_clamm_style kmnist miml mnist oxford_iiit_pet stl10 svhn"
)


def test_the_sets_that_the_ancestor_had_and_the_usual_ones_are_there():
    assert sorted(DOWNLOADED) == WANTED.split()
    assert {name.removeprefix("shapes_") for name in names() if name.startswith("shapes_")} >= {
        "circle", "diagonal", "donut", "flag", "spiral", "spiral_multi", "stripes", "xor",
    }  # fmt: skip


@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_card_names_a_reader_files_and_a_licence(name):
    found = card(name)
    assert found.format in READERS and found.files
    assert found.licence and found.citation and found.homepage.startswith("http")
    assert all(file.urls or "unrar" in found.notes for file in found.files)


@pytest.mark.parametrize("name", DOWNLOADED)
def test_what_is_not_known_of_a_file_is_said(name):
    found = card(name)
    for file in found.files:
        if not file.checksums or file.size is None:
            assert "recorded at first use" in found.notes or "Neither size nor checksum is published" in found.notes


@pytest.mark.parametrize("name", names())
def test_class_names_are_real_and_every_file_system_takes_them(name):
    found = card(name)
    check_names(found)
    if found.layout == "class folders" and found.classes and name not in ("icdar2017_clamm_style",):
        digits = {"digits", "mnist", "svhn", "emnist_digits"}
        assert name in digits or not all(label.isdecimal() for label in found.classes)


@pytest.mark.parametrize(
    ("name", "n", "some"),
    [
        ("cifar10", 10, "airplane"), ("cifar100", 100, "aquarium_fish"), ("fashion_mnist", 10, "Ankle boot"), ("kmnist", 10, "tsu"),
        ("emnist_balanced", 47, "lower_t"), ("emnist_letters", 26, "Q"), ("stl10", 10, "monkey"), ("svhn", 10, "0"),
    ],
)  # fmt: skip
def test_classes_have_their_names_and_their_number(name, n, some):
    assert len(card(name).classes or []) == n and some in (card(name).classes or [])


def test_no_two_files_share_a_checksum_unless_they_are_the_same_file():
    by_digest: dict[str, set[str]] = {}
    for name in DOWNLOADED:
        for file in card(name).files:
            for digest in file.checksums.values():
                by_digest.setdefault(digest, set()).add(file.name)
    assert max(map(len, by_digest.values())) == 1


def test_mirrors_of_a_file_are_told_apart():
    for name in DOWNLOADED:
        for file in card(name).files:
            assert max(Counter(file.urls).values(), default=1) == 1
