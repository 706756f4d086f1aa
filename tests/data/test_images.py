"""Images in class folders: what counts, what is refused, and statistics that are exact in any order."""

import hashlib
import json
import math
import random
from fractions import Fraction
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diva.data import images
from diva.data.images import decoder, image_statistics, open_image
from diva.data.layouts.class_folders import ImageFolder, read_image_folders
from diva.errors import DataError
from diva.records.footprint import take

SPLITS = ("train", "val", "test")


def save(path, pixels, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numpy.asarray(pixels, numpy.uint8)).save(path, **how)
    return path


def grey(value=0, height=2, width=3):
    return numpy.full((height, width), value, numpy.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two classes in three splits, one grey image of 2 x 3 each."""
    for split in SPLITS:
        for value, name in enumerate(("cat", "dog")):
            save(tmp_path / "data" / split / name / "1.png", grey(100 * value))
    return tmp_path / "data"


def decoded(path, mode):
    return numpy.asarray(open_image(path, mode))


def statistics(folder, cache, digest="sha256:1"):
    return image_statistics(read_image_folders(folder), folder, digest, cache)


def refused(folder, *words):
    with pytest.raises(DataError) as raised:
        read_image_folders(folder)
    for word in words:
        assert word in str(raised.value)


# Layout


def test_classes_are_those_of_train_in_the_order_of_their_names(folder):
    for split in SPLITS:
        save(folder / split / "Bee" / "1.png", grey())
        save(folder / split / "10" / "1.png", grey())
        save(folder / split / "9" / "1.png", grey())
    read = read_image_folders(folder)
    assert list(read) == ["train", "val", "test"]
    assert {read[split].classes for split in SPLITS} == {("10", "9", "Bee", "cat", "dog")}
    assert read["train"].labels == (0, 1, 2, 3, 4)
    assert [path.parent.name for path in read["val"].paths] == ["10", "9", "Bee", "cat", "dog"]


def test_images_are_in_the_order_of_their_paths_however_the_disk_lists_them(folder, monkeypatch):
    names = ["a/2.png", "a/10.PNG", "B.jpeg", "é.png", "b.png", "b/c.png"]
    for name in names:
        save(folder / "train" / "cat" / name, grey())
    listed = [p.relative_to(folder / "train" / "cat").as_posix() for p in read_image_folders(folder)["train"].paths[:7]]
    assert listed == ["1.png", "B.jpeg", "a/10.PNG", "a/2.png", "b.png", "b/c.png", "é.png"]
    rglob = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: reversed(list(rglob(self, pattern))))
    again = [p.relative_to(folder / "train" / "cat").as_posix() for p in read_image_folders(folder)["train"].paths[:7]]
    assert again == listed


def test_counts_are_per_class(folder):
    save(folder / "train" / "dog" / "2.png", grey())
    assert read_image_folders(folder)["train"].counts() == [1, 2]
    assert ImageFolder((), (), ("a", "b")).counts() == [0, 0]


def test_a_class_may_be_missing_in_val_and_keeps_its_number(folder):
    (folder / "val" / "cat" / "1.png").unlink()
    (folder / "val" / "cat").rmdir()
    val = read_image_folders(folder)["val"]
    assert (val.labels, val.classes, val.counts()) == ((1,), ("cat", "dog"), [0, 1])


def test_other_files_and_hidden_ones_are_ignored(folder):
    before = read_image_folders(folder)
    for name in (".hidden.png", "Thumbs.db", "notes.txt", "1.png~", ".DS_Store"):
        (folder / "train" / "cat" / name).write_bytes(b"no image")
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    (folder / "train" / "LICENCE.png").write_bytes(b"in no class")
    assert read_image_folders(folder) == before


def test_no_image_is_read_that_the_footprint_does_not_cover(folder):
    save(folder / "train" / "cat" / ".ipynb_checkpoints" / "1.png", grey())
    save(folder / "train" / "cat" / "more" / "2.png", grey())
    covered = {entry.path for entry in take(folder).files}
    read = {p.relative_to(folder).as_posix() for part in read_image_folders(folder).values() for p in part.paths}
    assert read <= covered
    assert "train/cat/more/2.png" in read


def test_images_behind_linked_folders_count_as_they_do_in_the_footprint(folder, tmp_path):
    save(tmp_path / "elsewhere" / "7.png", grey())
    (folder / "train" / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    covered = {entry.path for entry in take(folder).files}
    read = {p.relative_to(folder).as_posix() for part in read_image_folders(folder).values() for p in part.paths}
    assert read == covered


@pytest.mark.parametrize("split", SPLITS)
def test_a_missing_split_is_refused_by_name(folder, split):
    for file in (folder / split).rglob("*.png"):
        file.unlink()
    for name in ("cat", "dog"):
        (folder / split / name).rmdir()
    (folder / split).rmdir()
    refused(folder, str(folder), split, "train/, val/ and test/")


@pytest.mark.parametrize("split", SPLITS)
def test_an_empty_class_is_refused_by_name(folder, split):
    (folder / split / "dog" / "1.png").unlink()
    refused(folder, str(folder / split / "dog"), "no image")


def test_a_class_that_train_lacks_is_refused_by_name(folder):
    save(folder / "test" / "bird" / "1.png", grey())
    refused(folder, str(folder / "test" / "bird"), "cat, dog")


def test_an_empty_split_is_refused(folder):
    for name in ("cat", "dog"):
        (folder / "val" / name / "1.png").unlink()
        (folder / "val" / name).rmdir()
    refused(folder, str(folder / "val"), "no image")


def test_a_train_folder_without_classes_is_refused(tmp_path):
    for split in SPLITS:
        (tmp_path / split).mkdir()
    refused(tmp_path, str(tmp_path / "train"), "no class folders")


# Decoding


def test_eight_bit_grey_is_read_as_it_is(tmp_path):
    pixels = numpy.arange(6, dtype=numpy.uint8).reshape(2, 3)
    assert numpy.array_equal(decoded(save(tmp_path / "a.png", pixels), "L"), pixels)
    assert numpy.array_equal(decoded(tmp_path / "a.png", "RGB"), numpy.stack([pixels] * 3, 2))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_keeps_its_upper_byte(tmp_path, suffix):
    wide = numpy.array([[0, 255, 256], [0x1234, 0xFF00, 0xFFFF]], numpy.uint16)
    Image.fromarray(wide).save(tmp_path / f"a.{suffix}")
    assert numpy.array_equal(decoded(tmp_path / f"a.{suffix}", "L"), wide >> 8)
    assert numpy.array_equal(decoded(tmp_path / f"a.{suffix}", "RGB")[..., 1], wide >> 8)


def test_a_palette_is_looked_up(tmp_path):
    image = Image.fromarray(numpy.array([[0, 1, 2]], numpy.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "a.png")
    assert decoded(tmp_path / "a.png", "RGB").tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]


def test_transparency_is_dropped(tmp_path):
    pixels = numpy.array([[[10, 20, 30, 0], [40, 50, 60, 255]]], numpy.uint8)
    save(tmp_path / "a.png", pixels)
    assert numpy.array_equal(decoded(tmp_path / "a.png", "RGB"), pixels[..., :3])
    Image.fromarray(pixels[..., :2], "LA").save(tmp_path / "b.png")
    assert numpy.array_equal(decoded(tmp_path / "b.png", "L"), pixels[..., 0])


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert decoded(tmp_path / "a.tif", "RGB")[0, 0].tolist() == [255, 0, 0]


def test_one_bit_images_are_black_and_white(tmp_path):
    Image.fromarray(numpy.array([[True, False]])).save(tmp_path / "a.png")
    assert decoded(tmp_path / "a.png", "L").tolist() == [[255, 0]]


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_an_unreadable_image_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image"):
        open_image(tmp_path / "a.png", "L")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_a_truncated_image_is_refused_by_name(tmp_path, suffix):
    noise = numpy.random.default_rng(0).integers(0, 256, (40, 40, 3), numpy.uint8)
    path = save(tmp_path / f"a.{suffix}", noise)
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(DataError, match=rf"a\.{suffix}: cannot be read as an image"):
        open_image(path, "RGB")


def test_a_missing_image_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png"):
        open_image(tmp_path / "gone.png", "L")


# Statistics


def test_an_unreadable_image_in_a_data_set_is_named(folder, tmp_path):
    bad = folder / "test" / "dog" / "1.png"
    bad.write_bytes(bad.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"test/dog/1\.png"):
        statistics(folder, tmp_path / "cache.json")
    assert not (tmp_path / "cache.json").exists()


def test_mode_is_grey_only_when_every_image_is(folder, tmp_path):
    assert statistics(folder, tmp_path / "1.json")["mode"] == "L"
    save(folder / "test" / "dog" / "2.png", numpy.zeros((2, 3, 3)))
    found = statistics(folder, tmp_path / "2.json")
    assert found["mode"] == "RGB" and len(found["mean"]) == len(found["std"]) == 3


def test_size_is_height_and_width_when_all_agree(folder, tmp_path):
    assert statistics(folder, tmp_path / "1.json")["size"] == [2, 3]
    save(folder / "val" / "dog" / "2.png", grey(0, 3, 2))
    assert statistics(folder, tmp_path / "2.json")["size"] is None


def test_mean_and_std_are_of_train_alone(folder, tmp_path):
    before = statistics(folder, tmp_path / "1.json")
    save(folder / "val" / "dog" / "1.png", grey(255))
    after = statistics(folder, tmp_path / "2.json")
    assert (after["mean"], after["std"]) == (before["mean"], before["std"])
    assert after["mean"] == [50 / 255] and after["std"] == [50 / 255]
    assert after["pixels"] != before["pixels"]


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_statistics_are_numpys_on_images_of_mixed_sizes(tmp_path_factory, sizes, seed):
    folder = tmp_path_factory.mktemp("mixed")
    generator = numpy.random.default_rng(seed)
    pixels = [generator.integers(0, 256, (h, w, 3), numpy.uint8) for h, w in sizes]
    for i, image in enumerate(pixels):
        save(folder / "train" / "a" / f"{i}.png", image)
    for split in ("val", "test"):
        save(folder / split / "a" / "0.png", pixels[0])
    found = statistics(folder, folder / "cache.json")
    flat = numpy.concatenate([image.reshape(-1, 3) for image in pixels]).astype(numpy.float64) / 255
    numpy.testing.assert_allclose(found["mean"], flat.mean(0), rtol=1e-12)
    numpy.testing.assert_allclose(found["std"], flat.std(0), rtol=1e-9, atol=1e-12)  # NumPy's rounds, diva's does not
    n = len(flat)
    for channel in range(3):
        values = [int(v) for image in pixels for v in image[..., channel].ravel()]
        mean, squares = Fraction(sum(values), 255 * n), Fraction(sum(v * v for v in values), 255 * 255 * n)
        assert found["mean"][channel] == float(mean)
        assert found["std"][channel] == math.sqrt(squares - mean * mean)


def test_statistics_do_not_depend_on_the_order_of_the_images(tmp_path):
    generator = numpy.random.default_rng(1)
    for split in SPLITS:
        for i in range(20):
            save(tmp_path / split / "a" / f"{i}.png", generator.integers(0, 256, (5, 4, 3)))
    read = read_image_folders(tmp_path)
    shuffled = {name: random.Random(2).sample(part.paths, len(part.paths)) for name, part in read.items()}
    other = {name: ImageFolder(tuple(paths), read[name].labels, ("a",)) for name, paths in shuffled.items()}
    one = image_statistics(read, tmp_path, "sha256:1", tmp_path / "1.json")
    two = image_statistics(other, tmp_path, "sha256:1", tmp_path / "2.json")
    assert one == two


def test_the_pixel_digest_is_the_documented_one_and_moves_with_the_data(folder, tmp_path):
    found = statistics(folder, tmp_path / "1.json")
    lines = []
    for path in sorted(folder.rglob("*.png")):
        pixels = numpy.asarray(Image.open(path))
        digest = hashlib.sha256(json.dumps(pixels.shape).encode() + pixels.tobytes()).hexdigest()
        lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    assert found["pixels"] == "sha256:" + hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    folder.rename(tmp_path / "moved")
    assert statistics(tmp_path / "moved", tmp_path / "2.json") == found


def test_a_pixel_elsewhere_in_the_image_changes_the_pixel_digest(folder, tmp_path):
    before = statistics(folder, tmp_path / "1.json")
    save(folder / "test" / "cat" / "1.png", grey().reshape(3, 2))
    assert statistics(folder, tmp_path / "2.json")["pixels"] != before["pixels"]


def test_statistics_are_kept_for_the_footprint_and_the_decoder(folder, tmp_path, monkeypatch):
    cache = tmp_path / "deep" / "cache.json"
    first = statistics(folder, cache)
    computed = []
    compute = images._compute_statistics

    def counted(*args):
        computed.append(1)
        return compute(*args)

    monkeypatch.setattr(images, "_compute_statistics", counted)
    assert statistics(folder, cache) == first and not computed
    assert statistics(folder, cache, "sha256:2") == first and len(computed) == 1
    assert statistics(folder, cache, "sha256:2") == first and len(computed) == 1
    monkeypatch.setattr(images, "decoder", lambda: "another decoder")
    assert statistics(folder, cache, "sha256:2")["decoder"] == "another decoder" and len(computed) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '"text"', '{"key": 3}'])
def test_a_damaged_cache_is_made_anew(folder, tmp_path, content):
    cache = tmp_path / "cache.json"
    cache.write_text(content)
    found = statistics(folder, cache)
    assert found["mode"] == "L"
    stored = json.loads(cache.read_text())
    assert stored["statistics"] == found
    for damage in (None, {}, {**found, "mean": 3}, {key: found[key] for key in found if key != "pixels"}):
        cache.write_text(json.dumps({"key": stored["key"], **({} if damage is None else {"statistics": damage})}))
        assert statistics(folder, cache) == found


def test_a_cache_that_cannot_be_written_is_no_error(folder, tmp_path):
    (tmp_path / "file").write_text("")
    assert statistics(folder, tmp_path / "file" / "cache.json")["mode"] == "L"


def test_statistics_are_plain_json(folder, tmp_path):
    found = statistics(folder, tmp_path / "cache.json")
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_decoder_names_pillow_and_its_libraries():
    assert decoder().startswith("Pillow ") and "jpg" in decoder() and "zlib" in decoder()
