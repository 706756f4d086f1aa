"""Analysis: what the report on a data set of each layout says, that it is never that of other data, and that the data stay as they are."""

import json
import shutil
from pathlib import Path

import numpy
import pytest
from click.testing import CliRunner
from PIL import Image

from diva.cli import cli
from diva.data import analysis
from diva.data.analysis import analyse, places
from diva.data.analysis.inventory import take_inventory
from diva.data.layouts.listing import IMAGES, images_under, walk_files
from diva.errors import DataError, DivaError
from diva.records import files, footprint

SPLITS = ("train", "val", "test")


def noise(seed: int, *shape: int) -> numpy.ndarray:
    return numpy.random.default_rng(seed).integers(0, 256, shape, numpy.uint8)


def save(path: Path, pixels) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numpy.asarray(pixels, numpy.uint8)).save(path)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two classes in three splits: train has 3 cats and 1 dog, the others one each; all images differ."""
    names = ["train/cat/1", "train/cat/2", "train/cat/3", "train/dog/1"]
    names += [f"{split}/{kind}/1" for split in ("val", "test") for kind in ("cat", "dog")]
    for seed, name in enumerate(names):
        save(tmp_path / "data" / f"{name}.png", noise(seed, 20, 24, 3))
    return tmp_path / "data"


def run(*arguments: object):
    return CliRunner().invoke(cli, ["analyze", *map(str, arguments)])


# Counts and weights


def test_counts_weights_and_moments_of_class_folders(folder):
    report = analyse(folder, jobs=1)
    assert (report["name"], report["layout"], report["n_samples"]) == ("data", "class folders", 8)
    assert list(report["splits"]) == ["train", "val", "test"]
    assert report["classes"] == ["cat", "dog"]
    assert report["class_counts"] == {"train": [3, 1], "val": [1, 1], "test": [1, 1]}
    assert report["class_weights"] == [4 / 6, 2.0]
    assert sum(w * n for w, n in zip(report["class_weights"], [3, 1], strict=True)) == 4  # 1 on average over samples
    assert report["size"] == [20, 24] and report["sizes"] == [[20, 24, 8]]
    assert (report["formats"], report["modes"], report["mode"]) == ({"PNG": 8}, {"RGB": 8}, "RGB")
    train = numpy.stack([numpy.asarray(Image.open(path)) for path in sorted((folder / "train").rglob("*.png"))]) / 255
    numpy.testing.assert_allclose(report["mean"], train.mean((0, 1, 2)), rtol=1e-12)
    numpy.testing.assert_allclose(report["std"], train.std((0, 1, 2)), rtol=1e-12)
    assert report["splits"]["val"]["pixels"] == 2 * 20 * 24
    assert report["warnings"] == []


def test_mean_and_std_are_of_train_alone(folder):
    before = analyse(folder, jobs=1)
    save(folder / "test" / "cat" / "1.png", numpy.zeros((20, 24, 3)))
    after = analyse(folder, jobs=1)
    assert (after["mean"], after["std"]) == (before["mean"], before["std"])
    assert after["splits"]["test"]["mean"] != before["splits"]["test"]["mean"]


def test_data_not_split_are_one_piece(folder):
    report = analyse(folder / "train", jobs=1)
    assert report["splits"].keys() == {"all"} and report["reference"] == "all"
    assert report["class_counts"] == {"all": [3, 1]} and len(report["mean"]) == 3


def test_a_class_without_samples_has_no_weight_and_shifts_no_other(folder):
    """The ancestor left it out of the vector, so that all later weights belonged to other classes."""
    write(folder / "dataset.yaml", "classes: [ant, cat, dog]\n")
    report = analyse(folder, jobs=1)
    assert report["classes"] == ["ant", "cat", "dog"]
    assert report["class_counts"]["train"] == [0, 3, 1]
    assert report["class_weights"] == [None, 4 / 6, 2.0]
    assert any("1 of 3 classes never occur in train: ant" in warning for warning in report["warnings"])


def test_an_empty_class_folder_is_refused_by_name(folder):
    (folder / "train" / "bee").mkdir()
    with pytest.raises(DataError, match=r"train/bee: holds no image"):
        analyse(folder, jobs=1)


def test_an_empty_split_is_refused_by_name(folder):
    shutil.rmtree(folder / "val")
    (folder / "val").mkdir()
    with pytest.raises(DataError, match="val"):
        analyse(folder, jobs=1)


def test_a_label_that_never_occurs_divides_nothing_by_zero(tmp_path):
    for split in SPLITS:
        for number in range(4):
            save(tmp_path / split / "images" / f"{number}.png", noise(number + len(split), 8, 8))
        write(
            tmp_path / split / "labels.csv", "image,sky,sea,never\n0.png,1,1,0\n1.png,1,0,0\n2.png,1,0,0\n3.png,0,0,0\n"
        )
    report = analyse(tmp_path, jobs=1)
    assert report["class_counts"]["train"] == [3, 1, 0]
    assert report["class_weights"] == [1 / 3, 3.0, None]
    assert report["labels_per_image"] == [3, 6, 3]
    assert any("1 of 3 classes never occur in train: never" in warning for warning in report["warnings"])
    assert "Infinity" not in json.dumps(report) and "NaN" not in json.dumps(report)


# Other layouts


def pairs_in(folder: Path, codes: int = 3) -> Path:
    for split in SPLITS:
        for number in range(2):
            seed = 10 * len(split) + number
            save(folder / split / "data" / f"{number}.png", noise(seed, 6, 5, 3))
            save(folder / split / "gt" / f"{number}.png", numpy.arange(30).reshape(6, 5) % codes)
    return folder


def test_masks_tell_the_codes_and_their_weights(tmp_path):
    report = analyse(pairs_in(tmp_path / "pages", 4), jobs=1)
    assert report["codes"] == ["0", "1", "2", "3"]
    assert report["code_pixels"]["train"] == [16, 16, 14, 14]
    assert report["code_masks"]["val"] == [2, 2, 2, 2]
    weights = report["code_weights"]
    assert sum(w * n for w, n in zip(weights, [16, 16, 14, 14], strict=True)) == pytest.approx(60, rel=1e-15)
    assert report["class_counts"] == {} and len(report["mean"]) == 3


def test_a_code_that_train_lacks_has_no_weight(tmp_path):
    folder = pairs_in(tmp_path / "pages")
    save(folder / "test" / "gt" / "0.png", numpy.full((6, 5), 9))
    report = analyse(folder, jobs=1)
    assert report["codes"] == ["0", "1", "2", "9"] and report["code_weights"][3] is None


def test_codes_have_the_names_that_the_description_gives(tmp_path):
    folder = pairs_in(tmp_path / "pages")
    write(folder / "dataset.yaml", "classes: [background, text]\n")
    assert analyse(folder, jobs=1)["code_names"] == ["background", "text", None]
    for split in SPLITS:
        for number in range(2):
            save(folder / split / "gt" / f"{number}.png", (numpy.arange(90) % 2 * 255).reshape(6, 5, 3))
    save(folder / "test" / "gt" / "0.png", numpy.full((6, 5, 3), (255, 0, 0)))
    save(folder / "test" / "gt" / "1.png", numpy.full((6, 5, 3), (255, 171, 0)))
    for classes in ("classes: [background, text]\n", ""):
        write(folder / "dataset.yaml", classes + 'colours: {text: "#ff0000", background: "FFAB00"}\n')
        report = analyse(folder, jobs=1)
        named = dict(zip(report["codes"], report["code_names"], strict=True))
        assert (named["#ff0000"], named["#ffab00"], len(named)) == ("text", "background", 4)


def test_a_mask_of_another_size_than_its_image_is_listed(tmp_path):
    folder = pairs_in(tmp_path / "pages")
    save(folder / "val" / "gt" / "1.png", numpy.zeros((3, 5)))
    (folder / "train" / "gt" / "0.png").write_bytes(b"no image")
    assert analyse(folder, jobs=1)["unreadable"] == [
        {"path": "train/gt/0.png", "reason": "cannot identify image file"},
        {"path": "val/gt/1.png", "reason": "is 5 x 3, its image 5 x 6"},
    ]


def test_texts_are_measured_in_characters_and_words(tmp_path):
    table = 'text,label\none two  three,en\n,en\n"Eins, zwei",de\n'
    for split in SPLITS:
        write(tmp_path / split / "texts.csv", table)
    report = analyse(tmp_path, jobs=1)
    facts = report["splits"]["train"]
    assert (facts["vocabulary"], facts["empty"]) == (5, 1)
    assert facts["characters"] == {"min": 0, "median": 10, "max": 14}
    assert facts["words"] == {"min": 0, "median": 2, "max": 3}
    assert report["class_counts"]["val"] == [1, 2] and report["classes"] == ["de", "en"]
    assert report["duplicates"]["leaks"] == 3 and report["duplicates"]["leaked_samples"] == 6


def test_texts_that_differ_in_case_and_blanks_look_alike(tmp_path):
    write(tmp_path / "texts.csv", "text,label\nThe  end,a\nthe end,b\nthe end,a\nother,a\n")
    found = analyse(tmp_path, jobs=1)["duplicates"]
    assert [group["samples"] for group in found["exact"]] == [["texts.csv:3", "texts.csv:4"]]
    assert found["exact"][0]["labels_differ"] is True
    assert [group["samples"] for group in found["similar"]] == [["texts.csv:2", "texts.csv:3", "texts.csv:4"]]


def test_points_are_measured_per_feature(tmp_path):
    write(tmp_path / "points.csv", "x,y,label\n1,5,a\n2,5,a\n6,5,b\n1.0,5,b\n")
    report = analyse(tmp_path, jobs=1)
    one, two = report["splits"]["all"]["features"]
    assert one == {"name": "x", "mean": 2.5, "std": 4.25**0.5, "min": 1.0, "max": 6.0}
    assert two == {"name": "y", "mean": 5.0, "std": 0.0, "min": 5.0, "max": 5.0}
    assert report["class_counts"] == {"all": [2, 2]}
    assert [group["samples"] for group in report["duplicates"]["exact"]] == [["points.csv:2", "points.csv:5"]]


def test_clips_are_counted_and_all_their_frames_measured(tmp_path):
    for number in range(3):
        for frame in range(2 + number):
            save(tmp_path / "run" / f"clip{number}" / f"{frame}.png", numpy.full((4, 4, 3), 51 * frame))
    save(tmp_path / "walk" / "broken" / "0.png", noise(1, 4, 4, 3)).write_bytes(b"no image")
    save(tmp_path / "walk" / "other" / "0.png", numpy.full((4, 4, 3), 255))
    report = analyse(tmp_path, "clips", jobs=1)
    assert report["frames"] == {"min": 1, "median": 2, "max": 4}
    assert report["class_counts"] == {"all": [3, 2]}
    values = [0, 51, 0, 51, 102, 0, 51, 102, 153, 255]
    assert report["mean"] == [sum(values) / 2550] * 3
    assert [item["path"] for item in report["unreadable"]] == ["walk/broken"]
    assert "0.png" in report["unreadable"][0]["reason"] and str(tmp_path) not in report["unreadable"][0]["reason"]


def test_unlabelled_images_have_no_classes(tmp_path):
    save(tmp_path / "a.png", noise(1, 5, 5))
    save(tmp_path / "deep" / "er" / "b.png", noise(2, 7, 5))
    report = analyse(tmp_path, "images", jobs=1)
    assert (report["n_samples"], report["classes"], report["class_weights"]) == (2, [], [])
    assert report["size"] is None and report["sizes"] == [[5, 5, 1], [7, 5, 1]]
    assert report["height"] == {"min": 5, "median": 5, "max": 7}
    assert report["histograms"]["height"]["counts"] == [1, 0, 1]


def test_images_are_those_of_the_layouts_in_their_order(tmp_path):
    for name in (
        "b.png",
        "a/2.png",
        "a/10.PNG",
        "a-b/1.png",
        "a.png",
        "é/x.jpeg",
        ".hidden/1.png",
        "a/.no.png",
        "a/n.txt",
    ):
        write(tmp_path / "d" / name, "x")
    (tmp_path / "d" / "linked").symlink_to(tmp_path / "d" / "a")
    expected = [path.relative_to(tmp_path / "d").as_posix() for path in images_under(tmp_path / "d")]
    assert list(walk_files(str(tmp_path / "d"), "", [], IMAGES)) == expected and len(expected) == 8
    inventory = take_inventory(tmp_path / "d", "images")
    assert [inventory.name(i) for i in range(len(inventory))] == expected


def test_a_link_that_leads_back_ends(tmp_path):
    save(tmp_path / "a" / "1.png", noise(1, 4, 4))
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    assert list(walk_files(str(tmp_path), "", [], IMAGES)) == ["a/1.png"]


# Duplicates and leaks


def test_leaks_and_duplicates_are_told_apart(folder):
    shutil.copy(folder / "train/cat/1.png", folder / "test/dog/copy.png")
    Image.open(folder / "train/cat/2.png").save(folder / "train/cat/again.png", compress_level=0)
    report = analyse(folder, jobs=1)
    found = report["duplicates"]
    assert found["exact"] == [
        {"samples": ["train/cat/1.png", "test/dog/copy.png"], "same": "files", "leak": True, "labels_differ": True},
        {
            "samples": ["train/cat/2.png", "train/cat/again.png"],
            "same": "content",
            "leak": False,
            "labels_differ": False,
        },
    ]
    assert (found["leaks"], found["leaked_samples"]) == (1, 1)
    assert any("1 groups of the same content lie in several splits" in warning for warning in report["warnings"])
    assert any("1 groups of the same content have different labels" in warning for warning in report["warnings"])


def test_images_that_look_alike_are_candidates(tmp_path):
    small = Image.fromarray(noise(4, 6, 6, 3)).resize((90, 90), Image.Resampling.BICUBIC)
    save(tmp_path / "train/a/1.png", small)
    (tmp_path / "val/a").mkdir(parents=True)
    small.save(tmp_path / "val/a/1.jpg", quality=80)
    save(tmp_path / "val/a/other.png", Image.fromarray(noise(5, 6, 6, 3)).resize((90, 90)))
    (pair,) = analyse(tmp_path, jobs=1)["duplicates"]["similar"]
    assert pair["samples"] == ["train/a/1.png", "val/a/1.jpg"] and pair["leak"] is True and pair["bits"] <= 7
    assert analyse(tmp_path, jobs=1, similar=False)["duplicates"]["similar"] is None


def test_unreadable_images_are_all_listed_and_no_error(folder):
    for name in ("train/cat/2.png", "val/dog/1.png", "test/cat/1.png"):
        (folder / name).write_bytes(b"no image")
    (folder / "train/dog/gone.png").symlink_to("nowhere")
    done = run(folder, "--json", "--jobs", 1)
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert [item["path"] for item in report["unreadable"]] == [
        "train/cat/2.png", "train/dog/gone.png", "val/dog/1.png", "test/cat/1.png",
    ]  # fmt: skip
    assert report["splits"]["train"]["unreadable"] == 2
    assert "4 files cannot be read: train/cat/2.png" in done.stderr
    assert report["footprint"] is None and "not kept" in done.stderr  # the broken link has no footprint, and says so


# The same everywhere, and never stale


def test_the_report_is_the_same_for_any_number_of_jobs_and_in_any_place(folder, tmp_path):
    shutil.copy(folder / "train/cat/1.png", folder / "val/cat/copy.png")
    told = set()
    for number, jobs in enumerate((1, 2, 3)):
        place = tmp_path / f"copy {number}" / "data"
        shutil.copytree(folder, place)
        told.add(json.dumps(analyse(place, jobs=jobs), sort_keys=True))
        told.add(json.dumps(analyse(place, jobs=jobs), sort_keys=True))  # the kept one
    assert len(told) == 1
    assert str(tmp_path) not in told.pop()


@pytest.fixture
def computed(monkeypatch) -> list[str]:
    """The layouts of the reports that were computed rather than read."""
    seen: list[str] = []
    compute = analysis._compute

    def counted(folder, layout, *rest):
        seen.append(layout)
        return compute(folder, layout, *rest)

    monkeypatch.setattr(analysis, "_compute", counted)
    return seen


def test_a_report_is_kept_until_the_data_change(folder, computed):
    first = analyse(folder, jobs=1)
    assert analyse(folder, jobs=2) == first and len(computed) == 1
    save(folder / "train" / "cat" / "1.png", numpy.full((20, 24, 3), 7))
    second = analyse(folder, jobs=1)
    assert len(computed) == 2 and second["mean"] != first["mean"]
    assert second["footprint"] != first["footprint"]
    assert any("1 changed (train/cat/1.png)" in warning for warning in second["warnings"])


def test_layouts_and_decoders_share_no_report(folder, computed, monkeypatch):
    analyse(folder, jobs=1)
    assert analyse(folder, "images", jobs=1)["classes"] == []
    assert analyse(folder, jobs=1)["classes"] == ["cat", "dog"]
    assert computed == ["class folders", "images", "class folders"]
    monkeypatch.setattr(analysis, "decoder", lambda: "another decoder")
    assert analyse(folder, jobs=1)["decoder"] == "another decoder" and len(computed) == 4


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 1}'])
def test_a_damaged_report_is_made_anew(folder, computed, content):
    first = analyse(folder, jobs=1)
    places(folder)[0].write_text(content)
    assert analyse(folder, jobs=1) == first and len(computed) == 2


def test_a_read_only_place_is_no_obstacle_and_keeps_the_report_elsewhere(folder, computed, monkeypatch, tmp_path):
    """Tests may run as root, whom no permission stops: refusals are made by hand."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    beside = places(folder)[0]
    monkeypatch.setattr(footprint, "_writable", lambda place: False)

    def refuse(path, document):
        if path == beside:
            raise PermissionError(13, "Permission denied")
        files.write_json(path, document)

    monkeypatch.setattr(analysis, "write_json", refuse)
    before = listing(folder.parent)
    first = analyse(folder, jobs=1)
    assert analyse(folder, jobs=1) == first and len(computed) == 1
    assert [path for path in listing(folder.parent) if not path.startswith("cache")] == before


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_nothing_is_ever_written_into_the_data(folder, tmp_path):
    before = {name: (folder / name).stat().st_mtime_ns for name in listing(folder)}
    assert run(folder, "--to", tmp_path / "out", "--jobs", 1).exit_code == 0
    assert {name: (folder / name).stat().st_mtime_ns for name in listing(folder)} == before
    done = run(folder, "--to", folder / "figures")
    assert isinstance(done.exception, DataError) and "choose a folder outside" in str(done.exception)


def test_the_reason_why_something_fails_is_told(tmp_path):
    """The ancestor hid it behind a bare `except`."""
    for folder, reason in ((tmp_path / "none", "no such folder"), (write(tmp_path / "file", ""), "is not a folder")):
        assert reason in str(run(folder).exception)
    (tmp_path / "empty").mkdir()
    error = run(tmp_path / "empty").exception
    assert isinstance(error, DivaError) and error.exit_code == 4 and "no layout is recognised" in str(error)
    assert "did you mean clips?" in str(run(tmp_path / "empty", "--layout", "clip").exception)


# The command


def test_without_to_no_figure_is_written(folder, tmp_path):
    done = run(folder, "--jobs", 1)
    assert done.exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "data.analysis.json", "data.footprint.json"]


def test_to_writes_the_figures_and_the_report(folder, tmp_path):
    shutil.copy(folder / "train/cat/1.png", folder / "val/cat/copy.png")
    assert run(folder, "--to", tmp_path / "out", "--jobs", 1).exit_code == 0
    names = ["analysis.json", "classes.png", "duplicates.png", "means.png", "samples.png", "values.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert json.loads((tmp_path / "out" / "analysis.json").read_text()) == analyse(folder)
    pictures = [(tmp_path / "out" / name).read_bytes() for name in names]
    assert run(folder, "--to", tmp_path / "again", "--jobs", 2).exit_code == 0
    assert [(tmp_path / "again" / name).read_bytes() for name in names] == pictures


def test_the_summary_fits_80_columns_and_says_what_matters(folder):
    shutil.copy(
        folder / "train/cat/1.png", folder / "val/cat/a_name_that_is_so_long_that_it_does_not_fit_in_one_line.png"
    )
    done = run(folder, "--jobs", 1)
    assert max(map(len, done.stdout.splitlines())) <= 80
    for words in (
        "8",
        "class folders",
        "cat",
        "dog",
        "0.6667",
        "mean (train)",
        "20 x 24",
        "1 groups in several splits",
    ):
        assert words in done.stdout
    assert "warning:" in done.stderr and "warning:" not in done.stdout


def test_json_is_one_object_in_sorted_order_with_mean_and_std(folder):
    done = run(folder, "--json", "--jobs", 1)
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    assert line == json.dumps(report, sort_keys=True)
    assert len(report["mean"]) == len(report["std"]) == 3 and all(0 <= value <= 1 for value in report["mean"])
