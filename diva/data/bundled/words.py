"""Rendered images of single words in several fonts, for spotting and for reading words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy

from diva.data import png
from diva.data.bundled import rendering
from diva.data.bundled.random import Stream

if TYPE_CHECKING:
    from pathlib import Path

HEIGHT, WIDTH = 24, 96
N_WORDS, N_UNSEEN = 40, 20
_FONTS: Final = {"train": rendering.FONTS[:8], "val": rendering.FONTS[:8], "test": rendering.FONTS[8:]}
_COPIES: Final = {"train": 1, "val": 1, "test": 2}  # images of a word in one font; val takes a quarter of the fonts


def vocabulary() -> tuple[list[str], list[str]]:
    """The words that are learnt, and those that are not: no word is in both."""
    stream = Stream("words")
    found: list[str] = []
    while len(found) < N_WORDS + N_UNSEEN:
        made = rendering.word(stream, stream.between(1, 2))
        if made not in found and 3 <= len(made) <= 8:
            found.append(made)
    return sorted(found[:N_WORDS]), sorted(found[N_WORDS:])


def picture(word: str, font: str, copy: int) -> numpy.ndarray:
    """A word, uint8 (24, 96): ink on paper, in a place and size that vary."""
    stream = Stream(f"words {word} {font} {copy}")
    size = stream.between(13, 16)
    drawn = rendering.ink(word, font, size)
    while drawn.shape[0] > HEIGHT or drawn.shape[1] > WIDTH:
        size -= 1
        drawn = rendering.ink(word, font, size)
    top, left = stream.below(HEIGHT - drawn.shape[0] + 1), stream.below(min(9, WIDTH - drawn.shape[1] + 1))
    image = rendering.paper(stream, HEIGHT, WIDTH)[:, :, 0]
    part = image[top : top + drawn.shape[0], left : left + drawn.shape[1]]
    part[drawn] = stream.between(10, 70)
    return image


def write_words(folder: Path) -> None:
    """`train|val|test/<word>/<font>_<copy>.png`, and `unseen/<word>/...` with other words in the fonts of test.

    The fonts of test are in no other split; val takes other copies in the fonts of train. `transcriptions.csv` in each
    folder names image, word and font.
    """
    seen, unseen = vocabulary()
    for split, fonts in (*_FONTS.items(), ("unseen", _FONTS["test"])):
        lines = ["image,word,font\n"]
        for word in unseen if split == "unseen" else seen:
            (folder / split / word).mkdir(parents=True)
            for i, font in enumerate(fonts):
                if split == "val" and i % 4:
                    continue
                for copy in range(_COPIES.get(split, 2)):
                    name = f"{word}/{font.removesuffix('.ttf')}_{copy}.png"
                    pixels = picture(word, font, copy + (100 if split == "val" else 0))
                    (folder / split / name).write_bytes(png.encode(pixels))
                    lines.append(f"{name},{word},{font.removesuffix('.ttf')}\n")
        (folder / split / "transcriptions.csv").write_bytes("".join(lines).encode())
