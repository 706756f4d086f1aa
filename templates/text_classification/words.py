"""From a text to numbers: tokens, the vocabulary of the training split, and batches padded to their longest text."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

PADDING, UNKNOWN = 0, 1
SPECIAL = ("<padding>", "<unknown>")  # tokens 0 and 1; no text gives them, for words hold no brackets
Units = Literal["words", "characters"]


def split_tokens(text: str, units: Units, *, keep_case: bool = False) -> list[str]:
    """The tokens of a text: words (letters, digits and underscores) and single other signs, or characters; runs of spaces are one.

    The text is brought to Unicode's normal form C, and to small letters unless `keep_case`.
    """
    text = " ".join(unicodedata.normalize("NFC", text).split())
    text = text if keep_case else text.lower()
    return re.findall(r"\w+|[^\w\s]", text) if units == "words" else list(text)


def build_vocabulary(texts: Iterable[Sequence[str]], min_count: int, max_words: int) -> list[str]:
    """The `max_words` most frequent tokens of those that occur `min_count` times; equally frequent ones by the bytes of their UTF-8."""
    counts = Counter(token for tokens in texts for token in tokens)
    kept = (token for token, count in counts.items() if count >= min_count)
    return sorted(kept, key=lambda token: (-counts[token], token.encode()))[:max_words]


def join_vocabulary(vocabulary: Sequence[str], units: Units) -> str:
    """The vocabulary as one string, which the manifest keeps: words with a space between them, or characters one after the other."""
    return (" " if units == "words" else "").join(vocabulary)


def token_names(joined: str, units: Units) -> list[str]:
    """What each number stands for: `SPECIAL`, then the vocabulary that `join_vocabulary` joined."""
    return [*SPECIAL, *(joined.split() if units == "words" else joined)]


def number_tokens(tokens: Sequence[str], numbers: Mapping[str, int], max_length: int) -> Tensor:
    """The numbers of the first `max_length` tokens: int64 (n,), n >= 1. What the vocabulary lacks is `UNKNOWN`, and so is no token."""
    return torch.tensor([numbers.get(token, UNKNOWN) for token in tokens[:max_length]] or [UNKNOWN])


class Texts(Dataset[Any]):
    """One split as (tokens, label) pairs: int64 (n,), n >= 1, and an int.

    In training a share `word_dropout` of the tokens is made unknown, drawn from torch's global generator.
    """

    def __init__(
        self, texts: Sequence[str], labels: Sequence[int], tokens: Sequence[Tensor], word_dropout: float = 0.0
    ) -> None:
        self.texts, self.labels, self.tokens, self.word_dropout = texts, labels, tokens, word_dropout

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        tokens = self.tokens[index]
        if self.word_dropout:
            tokens = tokens.masked_fill(torch.rand(len(tokens)) < self.word_dropout, UNKNOWN)
        return tokens, self.labels[index]

    def subset(self, indices: Sequence[int]) -> Texts:
        """The data set of these texts, in this order."""
        return Texts(
            [self.texts[i] for i in indices],
            [self.labels[i] for i in indices],
            [self.tokens[i] for i in indices],
            self.word_dropout,
        )

    @staticmethod
    def collate(samples: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        """Tokens int64 (B, L), padded with `PADDING` to the longest of the batch, and labels int64 (B,)."""
        tokens = torch.nn.utils.rnn.pad_sequence(
            [sample[0] for sample in samples], batch_first=True, padding_value=PADDING
        )
        return tokens, torch.tensor([sample[1] for sample in samples])
