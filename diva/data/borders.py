"""Borders: white margins of scanned images cropped off, into a new folder; white rows and columns inside an image stay."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy

from diva.data import layouts, staging
from diva.data.images import decoder, opened
from diva.data.layouts import multi_label
from diva.data.layouts.listing import IMAGES, read_table, relative
from diva.data.layouts.writing import as_yaml
from diva.data.splits import Made, footprint_of
from diva.data.splits.items import table_of
from diva.data.yaml_files import read_yaml
from diva.errors import DataError, UsageError
from diva.records.files import sha256_file, some_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from diva.records.footprint import Footprint

RECORD = "borders.json"
KIND = "data set with trimmed borders"
# Formats that lose nothing, and how each is written. What is of another format, JPEG above all, becomes PNG where it is cropped.
LOSSLESS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".bmp": {"format": "BMP"},
    ".tif": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    ".tiff": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    ".ppm": {"format": "PPM"},
    ".pgm": {"format": "PPM"},
    ".pbm": {"format": "PPM"},
}

Box = tuple[int, int, int, int]


# Why an image is kept whole, and how that is told.
KEPT = {
    "white": "white all over",
    "several_frames": "of several frames",
    "fewer_bits": "of more bits than are read of them",
}
# Tags of a TIFF that are about the image, not about how it lies in the file: title, maker, resolution, author, XMP, EXIF, place.
TAGS = (269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316, 700, 33432, 34665, 34853)


@dataclass(frozen=True)
class _Seen:
    """An image: its size, the box with all that is not white, and why it is kept whole, "" when nothing is against cropping it."""

    size: tuple[int, int]
    box: Box | None
    why: str = ""


@dataclass(frozen=True)
class _Trimmed:
    """What became of an image, or of the frames of a clip: size and box of all, what is kept and why, the SHA-256 of what was written."""

    size: tuple[int, int]
    box: Box | None
    kept: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)


def trim_borders(
    folder: Path,
    out: Path,
    *,
    threshold: int = 255,
    margin: int = 0,
    layout: str | None = None,
    mode: staging.Mode = "link",
    jobs: int | None = None,
    hashing: Callable[[int, int], None] | None = None,
    placing: Callable[[int, int], None] | None = None,
) -> Made:
    """The folder `folder` in `out`, each image without the rows and columns at its borders in which every pixel is white.

    threshold: a pixel is white when all its channels are at least this, of 255. margin: white pixels to keep around what is not white.
    A mask is cropped with its image; the frames of a clip are cropped alike, to all that is not white in any of them. Paths and names
    stay, but for a cropped image in a format that would lose something (JPEG, WebP, GIF), which becomes PNG: `a.jpg` -> `a.png`, or
    `a.jpg.png` when there is an `a.png`. Images that are white all over, have several frames, 16 bits in colour (of which 8 would stay)
    or no white border, and all other files, are linked or copied as they are; of `dataset.yaml` the expectations are dropped.
    DataError names an image that cannot be read.
    """
    out, folder = Path(out).expanduser().absolute(), Path(folder).expanduser()
    if not 0 <= threshold <= 255:
        raise UsageError(f"--threshold {threshold}: 0 to 255")
    if margin < 0:
        raise UsageError(f"--margin {margin}: 0 or more")
    staging.check_place(folder, out)
    taken = footprint_of(folder, hashing)
    options = {"margin": margin, "threshold": threshold}
    source = {"footprint": taken.digest, "name": folder.resolve().name}
    if staging.is_there(out):
        return _found(folder, out, taken, {"options": options, "source": source}, mode)
    try:
        with staging.appearing(out) as place:
            record = _trimmed(folder, place, taken, options, layout, jobs, placing)
            staging.fill(place, out, _contents(folder, taken, record), mode)
    except FileExistsError:  # another process was first: then it must have made the same
        return _found(folder, out, taken, {"options": options, "source": source}, mode)
    return Made(out, record, False, _warnings(record))


def _trimmed(
    folder: Path,
    place: Path,
    taken: Footprint,
    options: Mapping[str, int],
    layout: str | None,
    jobs: int | None,
    placing: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """Write every image that loses a border to its place; returns the record."""
    names = [entry.path for entry in taken.files]
    mask_of, clips = _samples(folder, layout)
    masks = set(mask_of.values())
    images = [name for name in names if PurePosixPath(name).suffix.lower() in IMAGES and name not in masks]
    if not images:
        raise DataError(f"{folder}: holds no image; known kinds are {' '.join(sorted(IMAGES))}")
    renamed = _new_names(names, {*images, *masks})
    clip_of = {name: clip for clip in clips for name in clip}
    together = list(dict.fromkeys(clip_of.get(name, (name,)) for name in images))
    cropped: dict[str, dict[str, Any]] = {}
    kept: dict[str, list[str]] = {why: [] for why in KEPT}

    def trim(group: tuple[str, ...]) -> _Trimmed:
        return _trim(folder, place, group, [mask_of[name] for name in group if name in mask_of], renamed, **options)

    n_done = 0
    with ThreadPoolExecutor(jobs or min(8, os.cpu_count() or 1)) as threads:
        for group, done in zip(together, threads.map(trim, together), strict=True):
            for name, why in done.kept.items():
                kept[why].append(name)
            for one, digest in done.digests.items():
                cropped[one] = {
                    "box": list(done.box or ()),
                    "sha256": digest,
                    "size": list(done.size),
                    "to": renamed[one],
                }
            n_done += len(group)
            if placing is not None:
                placing(n_done, len(images))
    return staging.sealed(
        {
            "cropped": cropped,
            "decoder": decoder(),
            "kept": {why: sorted(names, key=os.fsencode) for why, names in kept.items()},
            "kind": KIND,
            "n_images": len(images),
            "options": dict(options),
            "schema": staging.SCHEMA,
            "source": {"footprint": taken.digest, "name": folder.resolve().name},
        }
    )


def _trim(
    folder: Path,
    place: Path,
    images: tuple[str, ...],
    masks: Sequence[str],
    renamed: Mapping[str, str],
    threshold: int,
    margin: int,
) -> _Trimmed:
    """Crop an image with its mask, or the frames of a clip, when they have a white border: all with one box, or none."""
    seen = {name: _look(folder / name, threshold, margin) for name in images}
    size = seen[images[0]].size
    for name in images:
        if seen[name].size != size:
            raise DataError(
                f"{folder / name}: is {_pixels(seen[name].size)}, the first frame of its clip {_pixels(size)}: no one box fits both"
            )
    kept = {name: found.why for name, found in seen.items() if found.why}
    kept |= {name: "fewer_bits" for name in masks if _loses_bits(folder / name)}
    boxes = [found.box for found in seen.values() if found.box is not None]
    if kept or not boxes:
        return _Trimmed(size, None, kept or dict.fromkeys(images, "white"))
    left, upper, right, lower = zip(*boxes, strict=True)
    box = (min(left), min(upper), max(right), max(lower))
    if box == (0, 0, *size):
        return _Trimmed(size, box)
    digests = {}
    for name in (*images, *masks):
        with _opened(folder / name) as opened:
            if opened.size != size:
                raise DataError(
                    f"{folder / name}: is {_pixels(opened.size)}, its image {_pixels(size)}: "
                    "which pixels belong together cannot be told"
                )
            content = opened.crop(box)
            tags = _tags(opened)
        target = place / renamed[name]
        target.parent.mkdir(parents=True, exist_ok=True)
        _save(content, target, tags)
        digests[name] = sha256_file(target)
    return _Trimmed(size, box, {}, digests)


def _look(path: Path, threshold: int, margin: int) -> _Seen:
    with _opened(path) as opened:
        if int(getattr(opened, "n_frames", 1)) > 1:
            return _Seen(opened.size, None, "several_frames")
        if _is_reduced(opened):
            return _Seen(opened.size, None, "fewer_bits")
        return _Seen(opened.size, content_box(opened, threshold, margin))


def _loses_bits(path: Path) -> bool:
    with _opened(path) as opened:
        return _is_reduced(opened)


def _is_reduced(opened: Image.Image) -> bool:
    """Whether Pillow reads other numbers than the file has: 16 bits per channel in colour, or a scale of its own (PPM)."""
    if opened.format not in ("PNG", "TIFF", "PPM"):
        return False
    for tile in getattr(opened, "tile", ()):
        args = tile[3]
        raw, *more = (args,) if isinstance(args, str) else args
        if tile[0] in ("ppm", "ppm_plain") and more and more[0] != 255:
            return True
        if re.search(r";(12|16|24|32)", str(raw)) and not opened.mode.startswith(("I", "F")):
            return True
    return False


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"


def content_box(image: Image.Image, threshold: int = 255, margin: int = 0) -> Box | None:
    """The smallest box (left, upper, right, lower) with every pixel that is not white, and `margin` around it; None when all are white."""
    dark = ~_white(image, threshold)  # (H, W)
    rows, columns = numpy.flatnonzero(dark.any(1)), numpy.flatnonzero(dark.any(0))
    if not len(rows):
        return None
    left, upper = max(0, int(columns[0]) - margin), max(0, int(rows[0]) - margin)
    return left, upper, min(image.width, int(columns[-1]) + 1 + margin), min(image.height, int(rows[-1]) + 1 + margin)


def _white(image: Image.Image, threshold: int) -> NDArray[numpy.bool_]:
    """Which pixels are white, (H, W); transparency is dropped, as it is for training."""
    if image.mode.startswith("I"):  # 16 bits
        return numpy.asarray(numpy.asarray(image) >= threshold * 257)
    if image.mode == "F":
        return numpy.asarray(numpy.asarray(image) >= threshold)
    pixels = numpy.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    return numpy.asarray(pixels >= threshold if pixels.ndim == 2 else (pixels >= threshold).all(2))


def _tags(opened: Image.Image) -> Image.Exif | None:
    """The tags of a TIFF that hold for its cropped image. Pillow has turned it upright, so its orientation is none of them."""
    if opened.format != "TIFF":
        return None
    found = opened.getexif()
    for tag in [tag for tag in found if tag not in TAGS]:
        del found[tag]
    return found


def _save(image: Image.Image, target: Path, tags: Image.Exif | None) -> None:
    how = dict(LOSSLESS[target.suffix.lower()])
    told = {"PNG": ("dpi", "exif", "icc_profile", "transparency"), "TIFF": ("icc_profile",), "BMP": ("dpi",)}
    if how["format"] == "PNG":
        image = image.convert("RGB") if image.mode in ("CMYK", "YCbCr", "HSV", "LAB") else image
    how |= {key: image.info[key] for key in told.get(how["format"], ()) if key in image.info}
    if tags is not None and how["format"] == "TIFF":
        how["exif"] = tags
    image.save(target, **how)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with opened(path) as image:
            yield image
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen kinds
        raise DataError(f"{path}: cannot be read as an image ({error}); mend or remove it") from None


def _samples(folder: Path, layout: str | None) -> tuple[dict[str, str], list[tuple[str, ...]]]:
    """The mask of each image that has one, and the frames of each clip, all relative to the folder."""
    try:
        found = layouts.layout_of(folder, layout)
    except DataError:
        return {}, []  # any folder with images will do
    if found not in ("pairs", "clips"):
        return {}, []
    if layouts.is_split(folder):
        splits = list(layouts.read_splits(folder, found, required=("train",)).values())
    else:
        splits = [layouts.read_whole(folder, found)]
    each = [
        tuple(relative(path, folder) for path in samples.files(i)) for samples in splits for i in range(len(samples))
    ]
    return ({image: mask for image, mask, *_ in each}, []) if found == "pairs" else ({}, each)


def _new_names(names: Collection[str], images: Collection[str]) -> dict[str, str]:
    """What each image is called once it is cropped; never the name of another file, nor of another that was renamed."""
    made: dict[str, str] = {}
    taken = set(names)
    for name in sorted(images, key=os.fsencode):
        path = PurePosixPath(name)
        if path.suffix.lower() in LOSSLESS:
            made[name] = name
            continue
        wanted = str(path.with_suffix(".png"))
        while wanted in taken:
            wanted = f"{name}.png" if f"{name}.png" not in taken else f"{wanted}.png"
        taken.add(wanted)
        made[name] = wanted
    return made


def _contents(folder: Path, taken: Footprint, record: Mapping[str, Any]) -> staging.Contents:
    """What the folder holds besides the cropped images: all that was not cropped, tables with the new names, and the record."""
    names = [entry.path for entry in taken.files]
    tables = _tables(folder, names, record["cropped"])
    if record["cropped"]:
        tables |= _descriptions(folder, names)
    made = {*record["cropped"], *tables, RECORD}
    rest = [entry for entry in taken.files if entry.path not in made]
    return staging.Contents(
        {entry.path: str(folder / entry.path) for entry in rest},
        {entry.path: entry.sha256 for entry in rest},
        {**tables, RECORD: staging.as_bytes(record)},
    )


def _tables(folder: Path, names: Collection[str], cropped: Mapping[str, Mapping[str, Any]]) -> dict[str, bytes]:
    """The tables of labels that name an image which has another name now, with that name."""
    found = {}
    for name in names:
        place = PurePosixPath(name)
        if place.name != multi_label.TABLE:
            continue
        images = place.parent / "images"
        new = {old: facts["to"] for old, facts in cropped.items() if old != facts["to"]}
        header, rows = read_table(folder / name)
        mended = [
            (PurePosixPath(new[str(images / image)]).relative_to(images).as_posix(), *cells)
            if str(images / image) in new
            else (image, *cells)
            for image, *cells in rows
        ]
        if mended != rows:
            found[name] = table_of([header, *mended]).encode()
    return found


def _descriptions(folder: Path, names: Collection[str]) -> dict[str, bytes]:
    """Each `dataset.yaml` that states expectations, without them: of other sizes, they may not hold."""
    found = {}
    for name in names:
        if PurePosixPath(name).name != layouts.DESCRIPTION:
            continue
        try:
            said = read_yaml(folder / name)
        except DataError:
            continue  # any folder with images will do
        if isinstance(said, dict) and "expectations" in said:
            found[name] = as_yaml({key: value for key, value in said.items() if key != "expectations"}).encode()
    return found


def _found(folder: Path, out: Path, taken: Footprint, wanted: Mapping[str, Any], mode: staging.Mode) -> Made:
    """What is there already, when it was made as is wanted now and nobody changed it."""
    record = staging.stored_record(out, RECORD, KIND)
    staging.refuse_other(out, staging.unlike(record, {**record, **wanted}))
    contents = _contents(folder, taken, record)
    cropped = {facts["to"]: facts["sha256"] for facts in record["cropped"].values()}
    staging.refuse_changed(out, staging.Contents(contents.files, {**contents.digests, **cropped}, contents.texts))
    staging.refuse_linked(out, contents, mode)
    return Made(out, record, True, _warnings(record))


def _warnings(record: Mapping[str, Any]) -> tuple[str, ...]:
    found = ((record["kept"].get(why, []), what) for why, what in KEPT.items())
    return tuple(
        f"{len(names)} images are {what} and were kept whole: {some_of(names)}" for names, what in found if names
    )
