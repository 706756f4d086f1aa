"""TensorBoard's projector: points in space with labels and thumbnails, as the files that its plugin reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from diva.report.pictures import rgb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

CONFIG = "projector_config.pbtxt"
LARGEST_SPRITE = 8192  # pixels a side, what browsers' textures hold


def write_embedding(
    folder: Path,
    name: str,
    vectors: NDArray[Any],
    labels: Sequence[str],
    thumbnails: Sequence[NDArray[np.uint8]] | None,
) -> None:
    """Put points (n, D) into the projector of the run whose event files lie in `folder`; points of the same name are replaced.

    thumbnails: n images, uint8 (H, W) or (H, W, 3), of one size; they are left out where they do not fit into one sprite.
    """
    if len(labels) != len(vectors) or (thumbnails is not None and len(thumbnails) != len(vectors)):
        raise ValueError(f"embedding {name}: {len(vectors)} vectors, but {len(labels)} labels or as many thumbnails")
    place = folder / "projector" / name.replace("/", "_")
    place.mkdir(parents=True, exist_ok=True)
    rows = ("\t".join(f"{value:.7g}" for value in row) for row in vectors.tolist())
    (place / "tensors.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    lines = (" ".join(str(label).split()) or "-" for label in labels)
    (place / "metadata.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sprite = _sprite(thumbnails) if thumbnails is not None and len(thumbnails) else None
    if sprite is not None:
        Image.fromarray(sprite).save(place / "sprite.png")
    _write_config(folder)


def _sprite(thumbnails: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8] | None:
    """One square of all thumbnails, row by row, uint8 (S, S', 3); None when it would be larger than a texture."""
    height, width = thumbnails[0].shape[:2]
    side = int(np.ceil(np.sqrt(len(thumbnails))))
    if side * max(height, width) > LARGEST_SPRITE:
        return None
    sprite = np.full((side * height, side * width, 3), 255, np.uint8)
    for i, thumbnail in enumerate(thumbnails):
        top, left = i // side * height, i % side * width
        sprite[top : top + height, left : left + width] = rgb(thumbnail)
    return sprite


def _write_config(folder: Path) -> None:
    """The list of all points that lie in the folder, which is all the state there is."""
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig  # slow, for few runs

    config = ProjectorConfig()
    for place in sorted((folder / "projector").iterdir()):
        added = config.embeddings.add(
            tensor_name=place.name,
            tensor_path=f"projector/{place.name}/tensors.tsv",
            metadata_path=f"projector/{place.name}/metadata.tsv",
        )
        sprite = place / "sprite.png"
        if sprite.is_file():
            added.sprite.image_path = f"projector/{place.name}/sprite.png"
            with Image.open(sprite) as image:
                side = _side(place)
                added.sprite.single_image_dim.extend([image.width // side, image.height // side])
    (folder / CONFIG).write_text(str(config), encoding="utf-8")


def _side(place: Path) -> int:
    """How many thumbnails stand side by side in a sprite."""
    n = (place / "metadata.tsv").read_bytes().count(b"\n")
    return int(np.ceil(np.sqrt(n)))
