"""Networks that read tokens. Change them, add yours: `MODELS` is the list of names.

Each has an `embedding`, and a `classify` that takes what it gives: so one can ask what every token did to the answer. None of the answers
depends on how far a text was padded, but for the last bits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .words import PADDING

if TYPE_CHECKING:
    from collections.abc import Callable


class Reader(nn.Module):
    """What all have in common: an embedding per token, zeros for padding; then `classify`, which each net defines.

    Embeddings begin small, with a standard deviation of 0.1: from PyTorch's 1, this little text does not move them far enough.
    """

    def __init__(self, n_tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, width, padding_idx=PADDING)
        with torch.no_grad():
            self.embedding.weight.mul_(0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: int64 (B, L). Returns logits (B, n_classes)."""
        return self.classify(self.embedding(tokens), tokens != PADDING)

    def classify(self, embedded: Tensor, real: Tensor) -> Tensor:
        """embedded: float (B, L, width); real: bool (B, L), false where padded. Returns logits (B, n_classes)."""
        raise NotImplementedError


class BagOfEmbeddings(Reader):
    """The mean of the embeddings, then a layer: order does not count. After fastText (Joulin et al. 2017), without its n-grams."""

    def __init__(self, n_tokens: int, n_classes: int, width: int, dropout: float, max_length: int) -> None:
        super().__init__(n_tokens, width)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, n_classes)

    def classify(self, embedded: Tensor, real: Tensor) -> Tensor:
        """As `Reader.classify`."""
        logits: Tensor = self.classifier(self.dropout(mean_over(embedded, real)))
        return logits


class TextCNN(Reader):
    """Convolutions over 1, 2 and 3 neighbouring tokens, the largest answer of each over the text, then a layer. After Kim 2014."""

    def __init__(self, n_tokens: int, n_classes: int, width: int, dropout: float, max_length: int) -> None:
        super().__init__(n_tokens, width)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, size, padding=size // 2) for size in (1, 2, 3))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(3 * width, n_classes)

    def classify(self, embedded: Tensor, real: Tensor) -> Tensor:
        """As `Reader.classify`."""
        x = self.dropout(embedded).transpose(1, 2)  # (B, width, L)
        found = []
        for convolution in self.convolutions:
            answers = convolution(x).relu()[:, :, : real.shape[1]]  # (B, width, L): an even size gives one more
            found.append((answers * real[:, None]).amax(2))
        logits: Tensor = self.classifier(self.dropout(torch.cat(found, 1)))
        return logits


class LSTM(Reader):
    """A long short-term memory in each direction (Hochreiter and Schmidhuber 1997), the mean of its states, then a layer."""

    def __init__(self, n_tokens: int, n_classes: int, width: int, dropout: float, max_length: int) -> None:
        super().__init__(n_tokens, width)
        self.lstm = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * width, n_classes)

    def classify(self, embedded: Tensor, real: Tensor) -> Tensor:
        """As `Reader.classify`; padding is not read, so that the way back begins at the last token."""
        packed = nn.utils.rnn.pack_padded_sequence(
            self.dropout(embedded), real.sum(1).cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=real.shape[1]
        )  # (B, L, 2 width)
        logits: Tensor = self.classifier(self.dropout(mean_over(states, real)))
        return logits


class Transformer(Reader):
    """Two layers of attention with four heads over tokens and their places, their mean, then a layer. After Vaswani et al. 2017."""

    def __init__(self, n_tokens: int, n_classes: int, width: int, dropout: float, max_length: int) -> None:
        super().__init__(n_tokens, width)
        self.places = nn.Parameter(torch.randn(max_length, width) * 0.02)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(AttentionLayer(width, 4, dropout) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, n_classes)

    def classify(self, embedded: Tensor, real: Tensor) -> Tensor:
        """As `Reader.classify`; L is at most `max_length`."""
        x = self.dropout(embedded + self.places[: embedded.shape[1]])
        for layer in self.layers:
            x = layer(x, real)
        logits: Tensor = self.classifier(mean_over(self.norm(x), real))
        return logits


class AttentionLayer(nn.Module):
    """Attention, then two layers for each token by itself; each is normalised before and added to what came in ("pre-norm")."""

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.each = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """x: float (B, L, width); real: bool (B, L). Returns the shape of x."""
        n, length, width = x.shape
        parts = self.queries_keys_values(self.norm1(x)).view(n, length, 3, self.n_heads, width // self.n_heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)  # (B, heads, L, width / heads) each
        scores = queries @ keys.transpose(2, 3) / math.sqrt(width // self.n_heads)  # (B, heads, L, L)
        shares = scores.masked_fill(~real[:, None, None], -math.inf).softmax(3)  # every text has a token that is real
        read = (self.dropout(shares) @ values).transpose(1, 2).reshape(n, length, width)
        x = x + self.dropout(self.mixed(read))
        result: Tensor = x + self.dropout(self.each(self.norm2(x)))
        return result


def mean_over(x: Tensor, real: Tensor) -> Tensor:
    """The mean over the tokens that are real: x (B, L, D), real bool (B, L) -> (B, D)."""
    return (x * real[:, :, None]).sum(1) / real.sum(1, keepdim=True)


MODELS: dict[str, Callable[[int, int, int, float, int], nn.Module]] = {
    "bag": BagOfEmbeddings,
    "cnn": TextCNN,
    "lstm": LSTM,
    "transformer": Transformer,
}
