"""Augmentation is a pure function of (seed, epoch, index): of nothing else, for the template's own steps and for torchvision's."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch
from PIL import Image

import diva
from diva.data.augmentation import build_augmentation
from diva.data.image_set import Images
from diva.data.layouts.class_folders import ImageFolder
from diva.data.loading import Batches
from diva.data.pixels import keep_in_memory
from diva.seeding import Seeds

SEEDS = Seeds(11)
NONE: dict[str, Any] = {
    "crop_padding": 0, "flip": False, "rotation": 0.0, "colour": 0.0, "rand_augment": 0, "erasing": 0.0,
}  # fmt: skip
OWN = {"crop_padding": 2, "flip": True}
ALL = {**OWN, "rotation": 20.0, "colour": 0.4, "rand_augment": 1, "erasing": 0.7}
KNOBS: dict[str, dict[str, Any]] = {
    "own": OWN,
    "crop": {"crop_padding": 3},
    "flip": {"flip": True},
    "torchvision": ALL,
    "none": {},
}
MODES = pytest.mark.parametrize("mode", ["L", "RGB"])
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ImageFolder:
    """Eleven noisy images of 8 x 6 pixels in two classes."""
    place = tmp_path_factory.mktemp("images")
    drawn = numpy.random.Generator(numpy.random.Philox(0)).integers(0, 256, (11, 8, 6, 3), dtype=numpy.uint8)
    paths = tuple(place / f"{i:02}.png" for i in range(11))
    for path, pixels in zip(paths, drawn, strict=True):
        Image.fromarray(pixels).save(path)
    return ImageFolder(paths, tuple(i % 2 for i in range(11)), ("a", "b"))


def images(folder: ImageFolder, knobs: dict[str, Any], mode: Any = "RGB", cache: Any = "off") -> Any:
    channels = 1 if mode == "L" else 3
    steps = build_augmentation(**{**NONE, **knobs})
    made = Images(folder.paths, folder.labels, mode, (8, 6), [0.4] * channels, [0.3] * channels, steps)
    keep_in_memory([made], cache)
    assert made.pixels.is_kept == (cache == "on")
    return made


def samples(data: Any, *, epoch: int, size: int = 4, workers: int = 0, seeds: Seeds = SEEDS) -> dict[int, bytes]:
    """The bits of every sample of an epoch by its index."""
    batches = Batches(data, seeds, size, shuffle=True, workers=workers)
    read = [image.numpy().tobytes() for batch, _ in batches.epoch(epoch) for image in batch]
    return dict(zip(batches.order(epoch).tolist(), read, strict=True))


@pytest.mark.parametrize("cache", ["on", "off"])
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("knobs", ["own", "torchvision"])
def test_a_sample_is_the_same_however_it_is_read(folder, knobs, workers, cache):
    expected = samples(images(folder, KNOBS[knobs]), epoch=2)
    data = images(folder, KNOBS[knobs], cache=cache)
    assert samples(data, epoch=2, workers=workers) == expected  # as if resumed at epoch 2
    assert samples(data, epoch=2, size=7, workers=workers) == expected
    batches = Batches(data, SEEDS, 3, shuffle=True, workers=workers)
    for epoch in (1, 2):  # and after an epoch that was left in the middle
        stream = batches.epoch(epoch)
        first = next(stream)[0]
        assert [image.numpy().tobytes() for image in first] == [
            samples(data, epoch=epoch)[i] for i in batches.order(epoch)[:3].tolist()
        ]


@pytest.mark.parametrize("knobs", ["own", "crop", "flip", "torchvision"])
def test_seed_epoch_and_index_each_matter(folder, knobs):
    data = images(folder, KNOBS[knobs])
    one = samples(data, epoch=1)
    for other in (samples(data, epoch=2), samples(data, epoch=1, seeds=Seeds(12))):
        assert any(one[i] != other[i] for i in one)
    same = ImageFolder((folder.paths[0],) * 11, (0,) * 11, ("a",))
    assert len(set(samples(images(same, KNOBS[knobs]), epoch=1).values())) > 1


@MODES
@pytest.mark.parametrize("knobs", sorted(KNOBS))
def test_a_batch_has_the_bits_that_torchvision_gives_sample_by_sample(folder, knobs, mode):
    """The plain way that everybody writes: a PIL image, torchvision's transforms, one sample at a time."""
    diva.import_torchvision()
    from torchvision.transforms import v2

    wanted = KNOBS[knobs]
    steps = [
        *([v2.RandomCrop((8, 6), padding=wanted["crop_padding"])] if "crop_padding" in wanted else []),
        *([v2.RandomHorizontalFlip()] if "flip" in wanted else []),
        *([v2.RandomRotation(20.0, interpolation=v2.InterpolationMode.BILINEAR)] if "rotation" in wanted else []),
        *([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)] if "colour" in wanted else []),
        *([v2.RandAugment(1)] if "rand_augment" in wanted else []),
    ]
    erase = v2.RandomErasing(0.7) if "erasing" in wanted else None
    mean, std = torch.full((3, 1, 1), 0.4), torch.full((3, 1, 1), 0.3)
    channels = 1 if mode == "L" else 3
    expected = {}
    for index, path in enumerate(folder.paths):
        SEEDS.reseed("augment", 5, index)
        image = Image.open(path).convert(mode)
        for step in steps:
            image = step(image)
        pixels = torch.from_numpy(numpy.array(image)).view(8, 6, -1).permute(2, 0, 1)
        tensor = (pixels / 255 - mean[:channels]) / std[:channels]
        expected[index] = (erase(tensor) if erase else tensor).numpy().tobytes()
    assert samples(images(folder, wanted, mode), epoch=5) == expected


@MODES
def test_one_sample_is_the_batch_of_one(folder, mode):
    data = images(folder, OWN, mode)
    (batch, labels), (image, label) = samples_of_one(data), data_at(data, 4)
    assert torch.equal(batch[0], image) and labels.tolist() == [label] == [0]


def samples_of_one(data: Any) -> Any:
    return data.read_batch([4], lambda k: SEEDS.reseed("augment", 1, 4))


def data_at(data: Any, index: int) -> Any:
    SEEDS.reseed("augment", 1, index)
    return data[index]


def test_a_part_reads_its_own_images(folder):
    part = images(folder, OWN).subset([9, 2])
    assert part.labels == (1, 0) and len(part) == len(part.pixels) == 2
    whole = images(folder, {})
    assert numpy.array_equal(part.picture(0), whole.picture(9)) and numpy.array_equal(part.picture(1), whole.picture(2))
    assert part.augmentation == images(folder, OWN).augmentation
