"""Clips of a window that moves over real photographs, labelled by its motion: the pixels are real, the motion is made by rules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy

from diva.data.bundled.random import Stream
from diva.data.tiff import encode_pages

if TYPE_CHECKING:
    from collections.abc import Mapping

N_FRAMES, SIDE = 10, 32
ONE: Final = 256  # a pixel, in the fixed-point numbers that places and sizes are given in
REGIONS: Final = {
    "train": (("china.jpg", 0, 384), ("flower.jpg", 0, 640)),
    "val": (("china.jpg", 384, 512),),
    "test": (("china.jpg", 512, 640),),
}
"""The columns that each split is taken from, of which no other split sees any; the right of flower.jpg is too smooth to test with."""
N_CLIPS: Final = {"train": 60, "val": 20, "test": 30}  # of each motion
MOTIONS: Final = {
    "pan left": (-1, 0, 0),
    "pan right": (1, 0, 0),
    "still": (0, 0, 0),
    "tilt down": (0, 1, 0),
    "tilt up": (0, -1, 0),
    "zoom in": (0, 0, -1),
    "zoom out": (0, 0, 1),
}
"""How the window, which is the camera's view, goes from frame to frame: to the right, downwards, larger."""
LEAST_CONTRAST: Final = (
    4  # grey levels between neighbours in a frame, on average: where all is smooth, no motion is to be seen
)

NOTICE: Final = """Clips made by diva/data/bundled/moving_photos.py from two photographs that scikit-learn bundles, both CC BY 2.0:
china.jpg, by danielbuechele, https://www.flickr.com/photos/danielbuechele/6061409035; flower.jpg, by vultilion,
https://www.flickr.com/photos/vultilion/6056698931. A window of 36 to 76 pixels moves over each, shown as 32 x 32 pixels.
The motion is synthetic.
"""


def clip(photos: Mapping[str, numpy.ndarray], split: str, motion: str, index: int) -> numpy.ndarray:
    """A clip, uint8 (10, 32, 32, 3). photos: uint8 (H, W, 3) by name. Drawn anew until its first frame has enough contrast."""
    stream = Stream(f"moving_photos {split} {motion} {index}")
    name, left, right = REGIONS[split][index % len(REGIONS[split])]
    region = photos[name][:, left:right]
    while True:
        path = _path(stream, region.shape, *MOTIONS[motion])
        if _contrast(_window(region, *path[0])) >= LEAST_CONTRAST:
            return numpy.stack([_window(region, *place) for place in path])


def _contrast(frame: numpy.ndarray) -> float:
    """The mean difference of neighbouring pixels, in grey levels."""
    grey = frame.astype(int).sum(2) // 3
    steps = abs(grey[:, 1:] - grey[:, :-1]).sum() + abs(grey[1:] - grey[:-1]).sum()
    return int(steps) / (2 * SIDE * (SIDE - 1))


def _path(stream: Stream, shape: tuple[int, ...], right: int, down: int, larger: int) -> list[tuple[int, int, int]]:
    """Top, left and size of the window in each frame: drawn, then moving by 1.5 to 3.5 pixels a frame, or its sides by 1 to 2.2."""
    speed = stream.between(3 * ONE // 2, 7 * ONE // 2)
    growth = larger * stream.between(ONE, 11 * ONE // 5)
    smallest = stream.between(36 * ONE, 56 * ONE)
    first_size = smallest if growth >= 0 else smallest - growth * (N_FRAMES - 1)
    sizes = [first_size + growth * t for t in range(N_FRAMES)]
    half = max(sizes) // 2 + 1
    lines = []
    for length, towards in ((shape[0], down), (shape[1], right)):
        moved = [towards * speed * t for t in range(N_FRAMES)]
        start = stream.between(half - min(moved), (length - 1) * ONE - half - max(moved))
        lines.append([start + shift - size // 2 for shift, size in zip(moved, sizes, strict=True)])
    return list(zip(*lines, sizes, strict=True))


def _window(region: numpy.ndarray, top: int, left: int, size: int) -> numpy.ndarray:
    """A square of the photograph as 32 x 32 pixels, interpolated between four neighbours in whole numbers."""
    offsets = (2 * numpy.arange(SIDE) + 1) * size // (2 * SIDE)
    y, x = top + offsets, left + offsets
    fy, fx = (y % ONE)[:, None, None], (x % ONE)[None, :, None]
    y, x = y // ONE, x // ONE
    near = region[min(y) : max(y) + 2, min(x) : max(x) + 2].astype(numpy.int64)
    y, x = y - min(y), x - min(x)
    above = near[y][:, x] * (ONE - fx) + near[y][:, x + 1] * fx
    below = near[y + 1][:, x] * (ONE - fx) + near[y + 1][:, x + 1] * fx
    blended: numpy.ndarray = (above * (ONE - fy) + below * fy + ONE * ONE // 2) // (ONE * ONE)
    return blended.astype(numpy.uint8)


def write_moving_photos(folder: Path) -> None:
    """`<split>/<motion>/<index>.tiff`, a file of ten frames each, and `dataset.yaml`, which says that these are clips."""
    import sklearn.datasets

    from diva.data.images import open_image

    images = Path(sklearn.datasets.__file__).parent / "images"
    photos = {name: numpy.asarray(open_image(images / name, "RGB")) for name in ("china.jpg", "flower.jpg")}
    folder.mkdir(parents=True)
    for split, n in N_CLIPS.items():
        for motion in MOTIONS:
            (folder / split / motion).mkdir(parents=True)
            for index in range(n):
                frames = clip(photos, split, motion, index)
                (folder / split / motion / f"{index:03}.tiff").write_bytes(encode_pages(list(frames)))
    (folder / "dataset.yaml").write_text("layout: clips\n", encoding="utf-8")
    (folder / "LICENCE.txt").write_text(NOTICE, encoding="utf-8")
