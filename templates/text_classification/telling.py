"""What the network went by: the tokens that speak for each class, the most confident mistakes, and the texts as they are read."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from diva import surest_mistakes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from .words import Texts

MOST_TEXTS, MOST_CLASSES, MOST_TOKENS, MOST_MISTAKES = 512, 12, 10, 20
FEWEST_TEXTS = 3  # that a token is to occur in


class Telling(NamedTuple):
    """A token, what it adds to the log odds of a class where it occurs in a text of that class, on average, and in how many texts."""

    token: int
    log_odds: float
    n_texts: int


def telling_tokens(model: nn.Module, texts: Texts, n_classes: int) -> list[list[Telling]]:
    """For each class its tokens by falling log odds, equals by their number; of up to 512 texts, evenly from the whole split.

    What a token does is the gradient of the log odds of the true class with respect to the token's embedding, times the embedding: to first
    order what is lost when it is made zero, as padding is. Exact for the bag of embeddings, whose answer is linear in them.
    Source: "gradient x input", Shrikumar et al. 2016, https://arxiv.org/abs/1605.01713.
    """
    chosen = range(0, len(texts), -(-len(texts) // MOST_TEXTS))
    sums: Counter[tuple[int, int]] = Counter()
    occurrences: Counter[tuple[int, int]] = Counter()
    n_texts: Counter[tuple[int, int]] = Counter()
    device = next(model.parameters()).device
    for start in range(0, len(chosen), 64):
        tokens, labels = texts.collate([texts[i] for i in chosen[start : start + 64]])
        effects = _effects(model, tokens.to(device), labels.to(device)).double().cpu().tolist()
        for line, label, values in zip(tokens.tolist(), labels.tolist(), effects, strict=True):
            for token, value in zip(line, values, strict=True):
                sums[label, token] += value
                occurrences[label, token] += 1
            n_texts.update((label, token) for token in set(line))
    told: list[list[Telling]] = [[] for _ in range(n_classes)]
    for (label, token), n in n_texts.items():
        if n >= FEWEST_TEXTS and token > 1:  # neither padding nor unknown
            told[label].append(Telling(token, sums[label, token] / occurrences[label, token], n))
    return [sorted(tokens, key=lambda told: (-told.log_odds, told.token)) for tokens in told]


def _effects(model: Any, tokens: Tensor, labels: Tensor) -> Tensor:
    """What each token adds to the log odds of its text's class, to first order: float (B, L)."""
    with (
        torch.enable_grad(),
        torch.backends.cudnn.flags(enabled=False),
    ):  # cuDNN's LSTM has no gradient in evaluation mode
        embedded = model.embedding(tokens).detach().requires_grad_()  # (B, L, width)
        logits = model.classify(embedded, tokens != 0)  # (B, C)
        own = logits.gather(1, labels[:, None])[:, 0]
        others = logits.scatter(1, labels[:, None], -math.inf).logsumexp(1) if logits.shape[1] > 1 else 0.0
        (gradient,) = torch.autograd.grad((own - others).sum(), embedded)
    effects: Tensor = (gradient * embedded.detach()).sum(2)
    return effects


def draw_tokens(told: Sequence[Sequence[Telling]], classes: Sequence[str], names: Sequence[str], title: str) -> Figure:
    """The ten most telling tokens of each class as bars, up to twelve classes that have any."""
    from matplotlib.figure import Figure

    there = [label for label in range(len(classes)) if told[label]]
    shown = there[:MOST_CLASSES]
    columns = max(1, min(4, len(shown)))
    n_rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(3.1 * columns, 2.6 * n_rows + 0.6), dpi=120, layout="constrained")
    note = f", the first {MOST_CLASSES} of {len(there)} classes" if len(there) > MOST_CLASSES else ""
    figure.suptitle(f"{title}{note}", size=11, x=0.02, ha="left")
    figure.supxlabel("added to the log odds of the class where the token occurs (gradient x embedding)", size=8.5)
    for place, label in enumerate(shown):
        axes = figure.add_subplot(n_rows, columns, place + 1)
        best = told[label][:MOST_TOKENS]
        axes.barh(range(len(best)), [t.log_odds for t in best], color="#2575b7", height=0.7)
        axes.set_yticks(
            range(len(best)), [repr(names[t.token])[1:-1] if names[t.token] != " " else "space" for t in best]
        )
        axes.set_ylim(MOST_TOKENS - 0.4, -0.6)
        axes.set_title(classes[label][:40], size=9, loc="left")
        axes.tick_params(labelsize=8, length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    if not shown:
        figure.text(0.5, 0.5, f"no token is in {FEWEST_TEXTS} texts of one class", ha="center")
    return figure


def list_mistakes(texts: Texts, outputs: Any, classes: Sequence[str]) -> str:
    """The mistakes the network is surest of, as a Markdown table."""
    worst = surest_mistakes(outputs["logits"], outputs["labels"], MOST_MISTAKES)
    lines = ["| text | class | taken for | confidence |", "|---|---|---|---:|"]
    lines += [
        f"| {_cell(texts.texts[i])} | {_cell(classes[texts.labels[i]])} | {_cell(classes[said])} | {confidence:.0%} |"
        for i, said, confidence in worst
    ]
    return "\n".join(lines) if worst else "No mistakes."


def list_samples(texts: Texts, classes: Sequence[str], names: Sequence[str]) -> str:
    """The first text of each class, up to twenty, and its tokens as the network reads them, as a Markdown table."""
    first: dict[int, int] = {}
    for i, label in enumerate(texts.labels):
        first.setdefault(label, i)
    lines = ["| class | text | as it is read in training |", "|---|---|---|"]
    for label, i in sorted(first.items())[:20]:
        read = " ".join(names[token] for token in texts[i][0].tolist())
        lines.append(f"| {_cell(classes[label])} | {_cell(texts.texts[i])} | {_cell(read)} |")
    return "\n".join(lines)


def _cell(text: str, longest: int = 200) -> str:
    """A text as a cell of a Markdown table: one line, its signs shown as they are, cut when it is long."""
    line = " ".join(text.split())
    line = line if len(line) <= longest else line[: longest - 1] + "…"
    for sign in "\\`*_|<>[]":
        line = line.replace(sign, f"\\{sign}")
    return line
