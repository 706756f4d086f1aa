"""Pixels as files: PNG and animated GIF, the same bytes for the same pixels."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

N_COLOURS = 256
PALETTE_FRAMES = 8


def rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (H, W) or (H, W, 3) -> (H, W, 3); ValueError for anything else."""
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise ValueError(f"an image is uint8 (H, W) or (H, W, 3), got {pixels.dtype} {pixels.shape}")
    if pixels.size == 0:
        raise ValueError(f"an image has at least one pixel, got {pixels.shape}")
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def png_of(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG of an image uint8 (H, W) or (H, W, 3)."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()


def gif_of(frames: Sequence[NDArray[np.uint8]], seconds_per_frame: float) -> bytes:
    """An animated GIF that never ends, of frames uint8 (H, W[, 3]) of one size, in 256 colours for all of them."""
    if not frames:
        raise ValueError("an animation needs a frame")
    some = frames[:: -(-len(frames) // PALETTE_FRAMES)]
    palette = Image.fromarray(np.concatenate([rgb(frame) for frame in (*some, frames[-1])])).quantize(N_COLOURS)
    images = [Image.fromarray(rgb(frame)).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file = io.BytesIO()
    duration = round(1000 * seconds_per_frame)
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=duration, loop=0)
    return file.getvalue()
