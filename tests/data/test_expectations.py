"""Expectations: each unmet one has its message, all are told at once, and what is not understood is refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from click.testing import CliRunner
from PIL import Image

from diva.cli import cli
from diva.data import analysis, expectations
from diva.data.expectations import check, read, require, stated, validate, violations
from diva.errors import DataError

SPLITS = ("train", "val", "test")


def save(path: Path, pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numpy.asarray(pixels, numpy.uint8)).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Grey images of 4 x 6: in each split two cats (values 0 and 51 * split) and one dog (255)."""
    for number, split in enumerate(SPLITS):
        for name, value in (("cat/1", number), ("cat/2", 51 * (number + 1)), ("dog/1", 255 - number)):
            save(tmp_path / "data" / split / f"{name}.png", numpy.full((4, 6), value))
    return tmp_path / "data"


@pytest.fixture
def report(folder):
    return analysis.analyse(folder, jobs=1)


@pytest.mark.parametrize(("expected", "message"), [
    ({"layout": "pairs"}, "the layout is class folders, expected pairs"),
    ({"samples": 10}, "there are 9 samples, expected 10"),
    ({"samples": {"min": 10, "max": 20}}, "there are 9 samples, expected at least 10 and at most 20"),
    ({"samples": {"train": 3, "val": {"max": 2}}}, "val has 3 samples, expected at most 2"),
    ({"samples": {"all": 3}}, "there is no all, expected 3 samples in it"),
    ({"samples_per_class": {"min": 2}}, "train has 1 samples of dog, expected at least 2"),
    ({"samples_per_class": {"val": 1}}, "val has 2 samples of cat, expected 1"),
    ({"samples_per_class": {"test": {"cat": 2, "dog": {"min": 2}}}}, "test has 1 samples of dog, expected at least 2"),
    ({"samples_per_class": {"test": {"bee": 2}}}, "test has no class bee, expected 2 samples of it"),
    ({"classes": 3}, "there are 2 classes, expected 3"),
    ({"classes": {"max": 1}}, "there are 2 classes, expected at most 1"),
    ({"classes": ["dog", "cat"]}, "the classes are cat, dog, expected dog, cat"),
    ({"size": [4, 5]}, "images have a width of 6, expected 5"),
    ({"size": [{"min": 5}, 6]}, "images have a height of 4, expected at least 5"),
    ({"mode": "RGB"}, "images are read as L, expected RGB"),
    ({"modes": ["RGB", "1"]}, "files have the modes L, allowed are RGB, 1"),
    ({"mean": [0.5]}, "the mean of train is 0.400000, expected 0.5 within 0.001"),
    ({"mean": [0.41], "tolerance": 0.009}, "the mean of train is 0.400000, expected 0.41 within 0.009"),
    ({"mean": [0.4, 0.4, 0.4]}, "mean has 1 channels, expected 3"),
    ({"std": [0.2]}, "the std of train is 0.432049, expected 0.2 within 0.001"),
    ({"features": ["x"]}, "the features are none, expected x"),
], ids=str)  # fmt: skip
def test_each_unmet_expectation_has_its_message(report, expected, message):
    validate(expected, "card.yaml")
    assert message in list(violations(report, expected))


@pytest.mark.parametrize("expected", [
    {"layout": "class folders"},
    {"samples": 9},
    {"samples": {"min": 9, "max": 9}},
    {"samples": {"train": 3, "val": {"min": 1, "max": 3}}},
    {"samples_per_class": {"min": 1, "max": 2}},
    {"samples_per_class": {"train": {"min": 1}, "test": {"cat": 2}}},
    {"classes": 2},
    {"classes": ["cat", "dog"]},
    {"size": [4, {"min": 6, "max": 7}]},
    {"mode": "L", "modes": ["L"]},
    {"mean": [0.4005]},
    {"mean": [0.41], "std": [0.43], "tolerance": 0.011},
    {"leaks": 0, "duplicates": 0, "unreadable": {"max": 0}},
], ids=str)  # fmt: skip
def test_what_is_so_is_met(report, expected):
    validate(expected, "card.yaml")
    assert list(violations(report, expected)) == []


def test_leaks_duplicates_and_unreadable_files_are_limits(folder):
    save(folder / "val" / "cat" / "copy.png", numpy.full((4, 6), 51))
    save(folder / "test" / "cat" / "copy.png", numpy.full((4, 6), 253))
    (folder / "test" / "cat" / "bad.png").write_bytes(b"no image")
    report = analysis.analyse(folder, jobs=1)
    told = list(violations(report, {"leaks": 0, "duplicates": {"max": 0}, "unreadable": 0}))
    assert told == [
        "1 groups of the same content lie in several splits, as train/cat/2.png = val/cat/copy.png, expected 0",
        "1 groups of the same content lie in one split, as test/cat/copy.png = test/dog/1.png, expected at most 0",
        "1 files cannot be read, as test/cat/bad.png, expected 0",
    ]


def test_codes_of_masks_and_features_of_points(tmp_path):
    for split in SPLITS:
        save(tmp_path / "pages" / split / "data" / "1.png", numpy.zeros((3, 3, 3)))
        save(tmp_path / "pages" / split / "gt" / "1.png", numpy.arange(9).reshape(3, 3) % 3)
    pages = analysis.analyse(tmp_path / "pages", jobs=1)
    assert list(violations(pages, {"codes": [0, 1, 2]})) == []
    assert list(violations(pages, {"codes": [0, 2]})) == ["masks hold the codes 1, allowed are 0, 2"]
    (tmp_path / "points").mkdir()
    (tmp_path / "points" / "points.csv").write_text("x,y,label\n1,2,a\n")
    points = analysis.analyse(tmp_path / "points", jobs=1)
    assert list(violations(points, {"features": ["x", "y"]})) == []
    assert next(iter(violations(points, {"size": [1, 1]}))) == "there is no image, hence no height, expected 1"


def test_codes_are_not_met_where_there_are_no_masks(report):
    assert list(violations(report, {"codes": [1, 2]})) == ["codes are expected (1, 2), but class folders have none"]


def test_all_unmet_ones_are_told_at_once_with_where_they_stand(report):
    said: expectations.Stated = [("data.yaml", {"samples": 3, "mode": "L"}), ("dataset.yaml", {"classes": 5})]
    with pytest.raises(DataError) as raised:
        require(report, said)
    assert str(raised.value) == (
        "data: 2 expectations are not met: there are 9 samples, expected 3 (data.yaml); there are 2 classes, expected 5 "
        "(dataset.yaml). Mend the data, or say what they really are"
    )


@pytest.mark.parametrize(("expected", "message"), [
    ({"sampels": 3}, "unknown expectation 'sampels'; did you mean samples?"),
    ({"samples": "many"}, "samples must be a number, or a mapping with min, max or both, it is 'many'"),
    ({"samples": {"train": {"least": 3}}}, "samples.train must be a number, or a mapping"),
    ({"samples": {"train": {}}}, "samples.train must be a number, or a mapping"),
    ({"samples": {"train": 3, "tset": 3}}, "'tset' is no split; did you mean test?"),
    ({"samples_per_class": {"train": {"cat": "x"}}}, "samples_per_class.train.cat must be a number"),
    ({"size": 4}, "size must be a list"),
    ({"size": [4]}, "size must be [height, width]"),
    ({"mean": ["a"]}, "mean must be a list of numbers"),
    ({"tolerance": -1}, "tolerance must be a number from 0 on"),
    ({"leaks": True}, "leaks must be a number"),
], ids=str)  # fmt: skip
def test_what_is_not_understood_is_refused(expected, message):
    with pytest.raises(DataError) as raised:
        validate(expected, "card.yaml")
    assert message in str(raised.value) and "card.yaml" in str(raised.value)


def test_card_and_description_are_both_heard(folder):
    assert stated(folder) == []
    (folder / "dataset.yaml").write_text("expectations: {samples: 9}\n")
    assert stated(folder, ("digits.yaml", {"classes": 2})) == [
        ("digits.yaml", {"classes": 2}),
        ("dataset.yaml", {"samples": 9}),
    ]
    assert stated(folder, ("digits.yaml", None)) == [("dataset.yaml", {"samples": 9})]
    (folder / "dataset.yaml").write_text("expectations: {smaples: 9}\n")
    with pytest.raises(DataError, match="did you mean samples"):
        stated(folder)


def test_a_file_may_hold_expectations_alone_or_under_their_name(tmp_path):
    path = tmp_path / "mine.yaml"
    for text in ("samples: 3\n", "expectations:\n  samples: 3\nabout: x\n"):
        path.write_text(text)
        assert read(path) == [("mine.yaml", {"samples": 3})]
    for text, message in (("- 1\n", "must be a mapping"), ("a: [", "is not YAML")):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read(path)
    with pytest.raises(DataError, match=r"gone\.yaml: cannot be read"):
        read(tmp_path / "gone.yaml")


def test_counts_are_checked_without_opening_an_image(folder, monkeypatch):
    monkeypatch.setattr(analysis, "analyse", lambda *rest, **more: pytest.fail("images were opened"))
    check(folder, [("card.yaml", {"samples": 9, "classes": 2, "samples_per_class": {"min": 1}})])
    with pytest.raises(DataError, match="there are 9 samples, expected 8"):
        check(folder, [("card.yaml", {"samples": 8})])


def test_pixels_are_measured_once_and_kept(folder, monkeypatch):
    said = [("card.yaml", {"mean": [0.4]})]
    check(folder, said, kind="threads")
    monkeypatch.setattr(analysis, "_compute", lambda *rest: pytest.fail("computed again"))
    check(folder, said, kind="threads")


def test_without_expectations_nothing_is_imported(folder):
    program = (
        "import sys\nfrom pathlib import Path\nfrom diva.data.expectations import check, stated\n"
        f"check(Path({str(folder)!r}), stated(Path({str(folder)!r})))\n"
        "print(*sorted({'numpy', 'PIL', 'yaml'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# In the commands


def test_analyze_expect_exits_4_with_the_report_still_printed(folder, tmp_path):
    (tmp_path / "mine.yaml").write_text("samples: {train: 4}\nmean: [0.4]\n")
    done = CliRunner().invoke(cli, ["analyze", str(folder), "--json", "--expect", str(tmp_path / "mine.yaml")])
    assert isinstance(done.exception, DataError) and done.exception.exit_code == 4
    assert "this expectation is not met: train has 3 samples, expected 4 (mine.yaml)" in str(done.exception)
    assert json.loads(done.stdout)["n_samples"] == 9


def test_a_run_checks_what_the_data_say_of_themselves(folder, tmp_path):
    (folder / "dataset.yaml").write_text("expectations: {samples: {val: 7}, mode: RGB}\n")
    command = [sys.executable, "-m", "diva", "run", "--task", "image_classification", "--data", str(folder), "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 4, done.stderr
    assert (
        "val has 3 samples, expected 7 (dataset.yaml); images are read as L, expected RGB (dataset.yaml)" in done.stderr
    )
    assert not list(tmp_path.glob("runs/*/*"))


def test_the_documented_example_is_understood():
    import yaml

    text = expectations.__doc__ or ""
    example = yaml.safe_load("\n".join(line[4:] for line in text.splitlines() if line.startswith("    ")))[
        "expectations"
    ]
    validate(example, "docs")
    assert set(example) == {*expectations.COUNTED, *expectations.MEASURED}


def test_the_expectations_of_every_card_are_understood():
    from diva.data import catalogue

    for name in catalogue.names():
        validate(catalogue.card(name).expectations or {}, f"{name}.yaml")


def test_a_run_checks_what_a_card_says(folder, monkeypatch):
    from diva.data import catalogue
    from diva.experiment.run import _check_expectations

    digits = catalogue.card("digits").model_copy(update={"expectations": {"samples": 1797}})
    monkeypatch.setattr(catalogue, "card", lambda name: digits)
    with pytest.raises(DataError, match=r"there are 9 samples, expected 1,797 \(digits\.yaml\)"):
        _check_expectations("digits", folder)
    _check_expectations(str(folder), folder)
