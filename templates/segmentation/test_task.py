"""The task on a few pages drawn here: it learns, tests on whole pages, and gives the same bits twice. Keep it green as you change it."""

from __future__ import annotations

import importlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

import diva

HERE = Path(__file__).parent
SMALL = {"width": 0.03, "crop_size": 32, "crops_per_page": 4, "batch_size": 8, "epochs": 1, "pages_drawn": 1}


def part(name: str) -> Any:
    """A module of the template."""
    return importlib.import_module(f".{name}", diva.load_task(HERE).__module__)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright pages of different sizes, smaller and larger than a crop, with a dark square each; masks of 0 and 1."""
    folder = tmp_path_factory.mktemp("data") / "squares"
    generator = numpy.random.Generator(numpy.random.Philox(0))
    for split in ("train", "val", "test"):
        for kind in ("data", "gt"):
            (folder / split / kind).mkdir(parents=True)
        for i, (height, width) in enumerate([(28, 44), (50, 40), (48, 48)]):
            pixels = generator.integers(170, 230, (height, width), dtype=numpy.uint8)
            mask = numpy.zeros((height, width), numpy.uint8)
            top, left = generator.integers(0, height - 16), generator.integers(0, width - 16)
            pixels[top : top + 16, left : left + 16] //= 4
            mask[top : top + 16, left : left + 16] = 1
            Image.fromarray(pixels).save(folder / split / "data" / f"{i}.png")
            Image.fromarray(mask).save(folder / split / "gt" / f"{i}.png")
    return folder


def load(folder: Path, **knobs: Any) -> diva.Data:
    task = diva.load_task(HERE).model_validate({**SMALL, **knobs})
    return task.load_data(diva.DataFolder("squares", folder, "sha256:0", folder.parent / "squares.statistics.json"))


def test_it_learns_what_a_child_can_see(pages: Path, tmp_path: Path) -> None:
    knobs = {"width": 0.06, "batch_size": 2, "crops_per_page": 8, "epochs": 7, "lr": 0.01, "threads": 1}
    values = {**SMALL, **knobs, "seed": 1, "data": pages, "output": tmp_path / "runs"}
    run = diva.run(HERE, values)
    result = run.result()
    assert result is not None
    assert result["metrics"]["test/mean_iou"] > 0.9
    with Image.open(run.figures / "test_mask_0_0.png") as mask:
        assert mask.size == (44, 28) and set(numpy.unique(numpy.asarray(mask))) <= {0, 1}


def test_the_same_seed_gives_the_same_bits(pages: Path, tmp_path: Path) -> None:
    values = {**SMALL, "seed": 1, "data": pages, "output": tmp_path / "runs", "model": "doc_ufcn", "tensorboard": False}
    one, two = (diva.run(HERE, values).result() for _ in range(2))
    assert one is not None and two is not None
    assert one["weights_digest"] == two["weights_digest"]
    assert one["test_outputs_digest"] == two["test_outputs_digest"]


def test_crops_are_new_each_time_in_training_alone(pages: Path) -> None:
    data = load(pages)
    assert any((data.train[8][0] != data.train[8][0]).any() for _ in range(5))
    assert all(torch.equal(one, two) for one, two in zip(data.val[0], data.val[0], strict=True))


def test_validation_crops_cover_each_pixel_once(pages: Path) -> None:
    data: Any = load(pages, val_crops=None)
    n_counted = sum(int((data.val[i][1] != 255).sum()) for i in range(len(data.val)))
    assert n_counted == 28 * 44 + 50 * 40 + 48 * 48


def test_an_epoch_reads_every_crop_once_bundle_after_bundle(pages: Path) -> None:
    data: Any = load(pages, bundle=2)
    order = data.train.epoch_order(diva.Seeds(1), 1).tolist()
    assert sorted(order) == list(range(12))
    assert len({index // 4 for index in order[:8]}) == 2
    assert order != data.train.epoch_order(diva.Seeds(1), 2).tolist()


class Brightness(torch.nn.Module):
    """Says 1 where a page is dark, with no margin of doubt."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(50.0), requires_grad=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([images, -images], 1) * self.weight


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_windows_cover_pages_smaller_and_larger_than_themselves(pages: Path, overlap: float) -> None:
    data: Any = load(pages)
    for page in (data.test[0], data.test[1]):
        found = part("windows").segment(Brightness(), page, 32, overlap, lambda logits, labels, edges: logits.sum() * 0)
        assert found.predicted.shape == found.truth.shape == page.pixels().shape[:2]
        dark = (page.pixels()[:, :, 0] / 255 < data.facts["mean"][0]).astype(numpy.uint8)
        assert (found.predicted == dark).all()


def test_overlapping_windows_add_up_their_probabilities(pages: Path) -> None:
    """Each window says class 1 with a confidence that depends on it: the sums decide, whatever the rows kept in memory."""

    class Doubt(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(1.0), requires_grad=False)
            self.calls: list[float] = []

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            certain = images.mean((1, 2, 3), keepdim=True).expand(-1, 1, *images.shape[2:])
            self.calls += certain[:, 0, 0, 0].tolist()
            return torch.cat([torch.zeros_like(certain), certain], 1) * self.weight

    data: Any = load(pages)
    page, model = data.test[1], Doubt()  # 50 x 40
    found = part("windows").segment(model, page, 32, 0.5, lambda logits, labels, edges: logits.sum() * 0)
    tops, lefts = (part("pages").starts(length, 32, 16) for length in (50, 40))
    sums = numpy.zeros((50, 40))
    for (top, left), certain in zip(itertools.product(tops, lefts), model.calls, strict=True):
        sums[top : top + 32, left : left + 32] += 1 / (1 + numpy.exp(-certain)) - 0.5
    assert tops == [0, 16, 18] and lefts == [0, 8]
    assert (found.predicted == (sums > 0)).all()


@pytest.mark.parametrize("model", ["unet", "segnet", "doc_ufcn", "fcdensenet57", "fcdensenet67", "fcdensenet103"])
def test_every_network_gives_each_pixel_a_score_per_class(model: str) -> None:
    network = part("models").MODELS[model](1, 3, 0.05).eval()
    assert network(torch.zeros(1, 1, 32, 64)).shape == (1, 3, 32, 64)


def test_networks_have_the_published_number_of_parameters() -> None:
    published = {
        "unet": 31.0,
        "segnet": 29.5,
        "doc_ufcn": 4.1,
        "fcdensenet57": 1.4,
        "fcdensenet67": 3.5,
        "fcdensenet103": 9.3,
    }
    with torch.device("meta"):
        for name, millions in published.items():
            network = part("models").MODELS[name](3, 11, 1.0)
            assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == millions


def test_values_return_to_where_the_maxima_were() -> None:
    images = torch.randn(2, 3, 8, 6)
    pooled, places = torch.nn.functional.max_pool2d(images, 2, return_indices=True)
    assert torch.equal(part("models").unpool(pooled, places), torch.nn.functional.max_unpool2d(pooled, places, [2, 2]))


def test_rare_classes_weigh_more_by_the_power_that_is_asked_for() -> None:
    weights = part("losses").class_weights
    assert weights([90, 10, 0], 0.0) == [1.0, 1.0, 0.0]
    assert weights([90, 10, 0], 1.0) == pytest.approx([100 / 90 / 2, 100 / 10 / 2, 0.0])
    one, other, _ = weights([90, 10, 0], 0.25)
    assert other / one == pytest.approx(9**0.25) and 0.9 * one + 0.1 * other == pytest.approx(1)


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "focal"])
def test_a_loss_sees_what_is_wrong_and_not_what_is_ignored(name: str) -> None:
    loss = part("losses").segmentation_loss
    labels = torch.tensor([[[0, 1], [1, 255]]])
    right = torch.nn.functional.one_hot(labels.clamp(max=1), 2).permute(0, 3, 1, 2) * 20.0
    wrong, elsewhere = right.clone(), right.clone()
    wrong[0, :, 0, 0] = right[0, :, 0, 1]
    elsewhere[0, :, 1, 1] = -elsewhere[0, :, 1, 1]
    assert float(loss((name,), right, labels)) < 0.01 < 0.1 < float(loss((name,), wrong, labels))
    assert float(loss((name,), elsewhere, labels)) == float(loss((name,), right, labels))
    assert float(loss((name,), right, torch.full_like(labels, 255))) == 0
    both = loss((name, "dice"), wrong, labels)
    assert float(both) == pytest.approx(float(loss((name,), wrong, labels)) + float(loss(("dice",), wrong, labels)))


def counted(truth: list[int], answers: list[int], boundary: list[bool], codes: tuple[int, ...]) -> numpy.ndarray:
    """Confusions of pixels given by their codes, (2, C, C)."""
    labels, predicted = (torch.tensor([[[codes.index(code) for code in row]]]) for row in (truth, answers))
    counts = part("scores").count_confusions(labels, predicted, torch.tensor([[boundary]]), len(codes))
    return counts[0].numpy()


def test_pixels_are_counted_by_class_boundary_and_sample_but_for_ignored_ones() -> None:
    labels, predicted = torch.tensor([[[0, 1, 255]], [[1, 1, 1]]]), torch.tensor([[[0, 0, 0]], [[1, 0, 0]]])
    boundary = torch.tensor([[[False, True, True]], [[False, False, True]]])
    counts = part("scores").count_confusions(labels.to(torch.uint8), predicted, boundary, 2)
    assert counts.tolist() == [[[[1, 0], [0, 0]], [[0, 0], [1, 0]]], [[[0, 0], [1, 1]], [[0, 0], [1, 0]]]]


def test_background_at_a_boundary_is_forgiven_and_another_class_is_not() -> None:
    counts = counted([8, 8, 8, 1], [1, 1, 4, 4], [False, True, True, True], (1, 4, 8))
    assert part("scores").forgiven(counts, 0).tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 0]]


def test_layout_evaluation_of_a_case_made_by_hand() -> None:
    counts = counted([1, 8, 8, 6], [1, 8, 1, 4], [False] * 4, (1, 4, 6, 8))
    scores = part("divahisdb").evaluate_layout(counts, (1, 4, 6, 8))
    assert scores.exact_match == 2 / 4
    assert scores.hamming == 1 - 3 / 16  # background for main text: two labels; a comment missed: one
    assert scores.iou == (1 / 2, 0, 1, 1 / 2)  # of background, comment, decoration, main text
    assert numpy.array_equal(scores.precision, (1 / 2, float("nan"), 1, 1), equal_nan=True)
    assert scores.recall == (1, 0, 1, 1 / 2)
    assert scores.f1 == (2 / 3, 0, 1, 2 / 3)
    named = scores.metrics()
    assert named["layout_mean_iou"] == 2 / 4 and named["layout_mean_precision"] == (1 / 2 + 1 + 1) / 3
    assert named["layout_weighted_iou"] == (1 / 2 * 1 + 0 * 1 + 1 * 1 + 1 / 2 * 2) / 5


def test_layout_evaluation_at_boundaries_made_by_hand() -> None:
    """Main text taken for background is right; taken for decoration three labels are wrong; half of two labels is enough."""
    codes = (1, 4, 6, 8)
    evaluate = part("divahisdb").evaluate_layout
    right = evaluate(counted([8, 6], [1, 4], [True, True], codes), codes)
    assert (right.exact_match, right.hamming, right.iou) == (1, 1, (1, 1, 1, 1))
    assert right.pixels == (2, 1, 1, 1)
    wrong = evaluate(counted([8], [4], [True], codes), codes)
    assert (wrong.exact_match, wrong.hamming) == (0, 1 - 3 / 4)


def test_errors_have_the_colours_of_the_layout_analysis_evaluator() -> None:
    overlays = part("overlays")
    truth = numpy.array([[0, 0, 1, 1, 1, 1, 255]], numpy.uint8)
    answers = numpy.array([[0, 1, 1, 2, 0, 0, 1]], numpy.uint8)
    boundary = numpy.array([[False] * 5 + [True, False]])
    black, red, green, yellow, blue, grey = (
        (0, 0, 0),
        (255, 0, 0),
        (0, 127, 0),
        (255, 255, 0),
        (0, 255, 255),
        (128,) * 3,
    )
    picture = overlays.error_map(truth, answers, boundary, 0)
    assert [tuple(pixel) for pixel in picture[0].tolist()] == [black, red, green, yellow, blue, black, grey]


def test_classes_whose_names_differ_in_signs_only_have_each_their_own_score() -> None:
    ious = part("scores").class_ious
    assert ious([0.1, 0.2, 0.3], ["text (a)", "text a", "ink"]) == {
        "iou/text_a_0": 0.1,
        "iou/text_a_1": 0.2,
        "iou/ink": 0.3,
    }
    assert len(ious([0.1] * 4, ["a b", "a-b", "a_b_0", "a_b_1"])) == 4


def test_a_run_is_applied_to_pages_of_any_size_without_masks(pages: Path) -> None:
    task = diva.load_task(HERE).model_validate(SMALL)
    facts = json.loads(json.dumps(load(pages).facts))
    data = diva.Data(torch.utils.data.Dataset(), torch.utils.data.Dataset(), torch.utils.data.Dataset(), facts)
    for folder, names in [(pages / "test", ["data/0.png", "data/1.png"]), (pages / "test/data", ["0.png", "1.png"])]:
        unseen: Any = task.read_unseen(folder, data)
        assert unseen.names[:2] == names and not unseen.labels
        found = task.predict(Brightness(), unseen.samples.collate([unseen.samples[0], unseen.samples[1]]), data)
        dark = [float((page.pixels() / 255 < data.facts["mean"][0]).mean()) for page in unseen.samples.pages[:2]]
        assert found["area_class_1"].tolist() == pytest.approx(dark)
        assert found["area_class_0"].tolist() == pytest.approx([1 - share for share in dark])


def test_a_page_that_cannot_be_read_is_told_before_it_is_segmented(pages: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no image")
    unseen: Any = diva.load_task(HERE).model_validate(SMALL).read_unseen(tmp_path, load(pages))
    with pytest.raises(diva.DataError, match=r"broken\.png"):
        unseen.samples[0]


@pytest.fixture
def manuscript(pages: Path, tmp_path: Path) -> Path:
    """The same pages with masks as DIVA-HisDB's: main text with a boundary above it, and in one a decorated comment."""
    folder = tmp_path / "manuscript"
    for split in ("train", "val", "test"):
        for kind in ("data", "gt"):
            (folder / split / kind).mkdir(parents=True)
        for i in range(3):
            (folder / split / "data" / f"{i}.png").write_bytes((pages / split / "data" / f"{i}.png").read_bytes())
            ink = numpy.asarray(Image.open(pages / split / "gt" / f"{i}.png")) > 0
            mask = numpy.zeros((*ink.shape, 3), numpy.uint8)
            mask[:, :, 2] = numpy.where(ink, 8, 1)
            mask[0, :4, 2] = 6 if i == 0 else 1
            mask[:, :, 0] = numpy.where(ink & ~numpy.roll(ink, 1, 0), 0x80, 0)
            Image.fromarray(mask).save(folder / split / "gt" / f"{i}.png")
    return folder


def test_masks_of_divahisdb_are_recognised_learnt_and_evaluated(manuscript: Path, tmp_path: Path) -> None:
    data: Any = load(manuscript)
    assert data.facts["classes"] == ["background", "comment + decoration", "main text"]
    counted = [data.val[i][2] & (data.val[i][1] != 255) for i in range(len(data.val))]
    assert int(sum(edges.sum() for edges in counted)) == 3 * 16
    run = diva.run(HERE, {**SMALL, "seed": 1, "data": manuscript, "output": tmp_path / "runs"})
    result = run.result()
    assert result is not None and {"test/layout_exact_match", "test/layout_hamming_score"} <= set(result["metrics"])
    with Image.open(run.figures / "test_mask_0_0.png") as mask:
        codes = numpy.asarray(mask)
    assert set(numpy.unique(codes[:, :, 2])) <= {1, 6, 8} and not codes[:, :, :2].any()


def test_what_masks_hold_and_what_dataset_yaml_names_must_go_together(pages: Path, tmp_path: Path) -> None:
    def coding(text: str, codes: list[int], kind: str | None = None, ignored: tuple[int, ...] = ()) -> Any:
        (tmp_path / "dataset.yaml").write_text(text)
        return part("coding").build_coding(tmp_path, kind, {"train": [[code, 1] for code in codes]}, ignored)

    assert coding("", [0, 255]).names == ("class 0", "class 255")
    assert coding("classes: [page, ink, gold]", [0, 1]).codes == (0, 1, 2)
    assert coding("classes: [page, ink]", [0, 255]).codes == (0, 255)
    assert coding("classes: [ink, background]", [0, 1, 255], ignored=(255,)).background == 1
    assert coding("classes: [a, b]\ncolours: {b: '#000001', a: '#ff0000'}", [1], "colour").codes == (0xFF0000, 1)
    with pytest.raises(diva.DataError, match=r"names 2 classes.*--ignored-codes 255"):
        coding("classes: [page, ink]", [0, 1, 255])
    with pytest.raises(diva.UsageError, match="--mask-kind"):
        coding("", [7])
