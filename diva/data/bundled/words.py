"""Rendered images of single words in several fonts, for spotting and for reading words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy

from diva.data import png
from diva.data.bundled import rendering
from diva.data.bundled.random import Stream

if TYPE_CHECKING:
    from pathlib import Path

HEIGHT: Final = 24
N_WORDS: Final = {"train": 320, "val": 60, "test": 60}
N_FONTS: Final = {"train": 6, "val": 4, "test": 4}  # of those of the split, in turn: a word is drawn once in each
_SEEN, _UNSEEN = rendering.FONTS[:8], rendering.FONTS[8:]
_FONTS: Final = {"train": _SEEN, "val": _SEEN, "test": _UNSEEN}


def vocabulary() -> dict[str, list[str]]:
    """The words of each split, 3 to 8 letters long; no word is in two."""
    stream = Stream("words")
    found: dict[str, None] = {}
    while len(found) < sum(N_WORDS.values()):
        made = rendering.word(stream, stream.between(1, 2))
        if 3 <= len(made) <= 8:
            found[made] = None
    words = list(found)
    parts: dict[str, list[str]] = {}
    for split, n in N_WORDS.items():
        parts[split], words = sorted(words[:n]), words[n:]
    return parts


def picture(word: str, font: str) -> numpy.ndarray:
    """A word, uint8 (24 or a little more, W): ink on paper, in a size, a place and a tone that vary."""
    stream = Stream(f"words {word} {font}")
    drawn = rendering.ink(word, font, stream.between(13, 17))
    height = max(HEIGHT, drawn.shape[0] + 2)
    left, right, top = stream.between(1, 5), stream.between(1, 5), stream.below(height - drawn.shape[0] + 1)
    image = rendering.paper(stream, height, left + drawn.shape[1] + right)[:, :, 0]
    part = image[top : top + drawn.shape[0], left : left + drawn.shape[1]]
    part[drawn] = stream.between(10, 70)
    return image


def write_words(folder: Path) -> None:
    """`train|val|test/<word>_<font>.png`, and in each a `transcriptions.csv` that names image, word and font.

    The words of a split are in no other one. Val has the fonts of train, test has fonts of its own.
    """
    for split, words in vocabulary().items():
        (folder / split).mkdir(parents=True)
        fonts = _FONTS[split]
        lines = ["image,word,font\n"]
        for number, word in enumerate(words):
            for turn in range(N_FONTS[split]):
                font = fonts[(number * N_FONTS[split] + turn) % len(fonts)]
                name = f"{word}_{font.removesuffix('.ttf')}.png"
                (folder / split / name).write_bytes(png.encode(picture(word, font)))
                lines.append(f"{name},{word},{font.removesuffix('.ttf')}\n")
        (folder / split / "transcriptions.csv").write_bytes("".join(lines).encode())
