"""PHOC, the pyramidal histogram of characters: a word as answers to "is there an `e` in the second third of it?"

Source: Almazan, Gordo, Fornes and Valveny 2014, Word Spotting and Recognition with Embedded Attributes, section 3.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    from collections.abc import Sequence

BIGRAM_LEVEL = 2


def spelled(word: str, *, keep_case: bool) -> str:
    """The word as it is compared: in composed Unicode (a folder's name may be decomposed), without a difference of case."""
    composed = unicodedata.normalize("NFC", word)
    return composed if keep_case else composed.casefold()


def alphabet_of(words: Sequence[str]) -> list[str]:
    """The characters of the words, in the order of their code points."""
    return sorted(set("".join(words)))


def frequent_bigrams(words: Sequence[str], n: int) -> list[str]:
    """The `n` most frequent pairs of neighbouring characters; of equally frequent ones the first in the order of code points."""
    counts = Counter(word[i : i + 2] for word in words for i in range(len(word) - 1))
    return sorted(counts, key=lambda pair: (-counts[pair], pair))[:n]


def phoc(
    words: Sequence[str], alphabet: Sequence[str], levels: Sequence[int], bigrams: Sequence[str] = ()
) -> numpy.ndarray:
    """float32 (words, A) of 0 and 1, A = len(alphabet) x sum(levels) + len(bigrams) x 2.

    Level L cuts a word into L regions of equal length. A character is in a region when at least half of it is, a bigram likewise at
    level 2; whole numbers decide, hence no rounding does. Characters that the alphabet lacks have no attribute.
    """
    sizes = [len(alphabet) * level for level in levels] + ([len(bigrams) * BIGRAM_LEVEL] if bigrams else [])
    found = numpy.zeros((len(words), sum(sizes)), numpy.float32)
    for row, word in enumerate(words):
        start = 0
        for level in levels:
            for place, region in _regions(len(word), 1, level):
                if word[place] in alphabet:
                    found[row, start + region * len(alphabet) + alphabet.index(word[place])] = 1
            start += len(alphabet) * level
        for place, region in _regions(len(word), 2, BIGRAM_LEVEL) if bigrams else ():
            if word[place : place + 2] in bigrams:
                found[row, start + region * len(bigrams) + bigrams.index(word[place : place + 2])] = 1
    return found


def _regions(length: int, n: int, level: int) -> list[tuple[int, int]]:
    """(place, region) of each run of `n` characters of which at least half lies in the region; lengths in units of 1 / (length level)."""
    return [
        (place, region)
        for place in range(length - n + 1)
        for region in range(level)
        if 2 * (min((place + n) * level, (region + 1) * length) - max(place * level, region * length)) >= n * level
    ]
