"""Pictures of an auto-encoder at work: what goes in and comes out, images made of codes, and the codes themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy
import torch

from diva import Embedding, image_grid, point_scatter, sample_sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from diva import Data, Drawing, Images, Split

    from .task import AutoEncoding

MOST_AVERAGED = 1000  # images, for the mean image
MOST_PROJECTED = 2000  # codes, for the projector
STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)
MOST_TRAVERSED = 8  # numbers of a code


def evenly(n: int, most: int) -> list[int]:
    """Up to `most` of the indices below n, at equal distances."""
    return list(range(0, n, max(1, -(-n // most))))


def mean_image(images: Any) -> Tensor:
    """The mean of up to 1,000 evenly chosen images before augmentation, from exact sums; float32 (channels, H, W) in [0, 1]."""
    chosen = evenly(len(images), MOST_AVERAGED)
    height, width, channels = images.pixels.shape
    total = numpy.zeros((height, width, channels), numpy.int64)
    for index in chosen:
        total += images.picture(index).reshape(total.shape)
    mean = total.astype(numpy.float64) / (255 * max(1, len(chosen)))
    return torch.from_numpy(mean.transpose(2, 0, 1).copy()).float()


def samples(images: Images, data: Data) -> Figure:
    """Training images as the network is asked to make them."""
    return sample_sheet(len(images), images.sample, lambda i: _names(data, images, [i])[0], "training images")


def reconstructions(
    task: AutoEncoding, model: nn.Module, data: Data, split: Split, chosen: Sequence[int], title: str
) -> Figure:
    """A column per image: what it is, what the network sees where that is noisy, and what it makes of it."""
    images: Any = data.split(split)
    device = data.constants["mean_image"].device
    clean = torch.stack([images[i][0] for i in chosen]).to(device)  # (n, channels, H, W)
    seen = task.noisy(clean, data)
    made = model(seen).sigmoid()
    errors = ((made - task.pixels(clean, data)) ** 2).mean((1, 2, 3)).tolist()
    rows = [_uint8(task.pixels(clean, data)), *([_uint8(task.pixels(seen, data))] if task.noise else []), _uint8(made)]
    signal = [f"PSNR {-10 * math.log10(error):.1f} dB" if error else "the same" for error in errors]
    captions = [_names(data, images, chosen), *([["with noise"] * len(chosen)] if task.noise else []), signal]
    return image_grid(
        [image for row in rows for image in row], [c for row in captions for c in row], title, columns=len(chosen)
    )


def drawn(model: nn.Module, data: Data) -> Figure:
    """What the decoder makes of codes from the standard normal distribution, the same codes in every epoch."""
    made = _uint8(model.decoder(data.constants["drawn_codes"]).sigmoid())  # type: ignore[operator]
    return image_grid(made, [""] * len(made), title="images of codes drawn at random")


def traversal(model: nn.Module, data: Data, codes: Tensor) -> Figure:
    """A row per number of the code, those that vary most over the images first: the mean code with this number changed."""
    order = codes.var(0, correction=0).argsort(descending=True, stable=True)[:MOST_TRAVERSED].tolist()
    centre = codes.mean(0)
    asked = centre.repeat(len(order) * len(STEPS), 1)  # (rows * columns, bottleneck)
    for row, number in enumerate(order):
        asked[row * len(STEPS) : (row + 1) * len(STEPS), number] = torch.tensor(STEPS)
    made = _uint8(model.decoder(asked.to(data.constants["mean_image"].device)).sigmoid())  # type: ignore[operator]
    captions = [f"number {number + 1}: {step:+g}" for number in order for step in STEPS]
    return image_grid(made, captions, title="the mean code, one number changed", columns=len(STEPS))


def latent(codes: Tensor, data: Data, split: Split) -> Iterator[tuple[str, Drawing]]:
    """The codes for TensorBoard's projector, with classes and thumbnails; codes of two numbers also as a picture."""
    images: Any = data.split(split)
    chosen = evenly(len(codes), MOST_PROJECTED)
    yield "codes", Embedding(codes[chosen], _names(data, images, chosen), [images.picture(i) for i in chosen])
    if codes.shape[1] == 2 and numpy.ndim(images.labels) == 1:
        labels = [int(images.labels[i]) for i in range(len(codes))]
        classes = [name or "images" for name in data.facts["classes"]]
        axes = ("first number", "second number")
        yield "plane_of_codes", point_scatter(codes.double().numpy(), labels, classes, axes, f"codes of {split}")


def _names(data: Data, images: Images, chosen: Sequence[int]) -> list[str]:
    """The class of each image; of several, or none, its file's name."""
    several = numpy.ndim(images.labels) > 1 or data.facts["classes"] == [""]
    return [images.paths[i].stem if several else data.facts["classes"][int(images.labels[i])] for i in chosen]


def _uint8(pixels: Tensor) -> list[numpy.ndarray]:
    """Shares of white (n, channels, H, W) as images uint8 (H, W) or (H, W, 3)."""
    found = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [image.squeeze(2) if image.shape[2] == 1 else image for image in found]
