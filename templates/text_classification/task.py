"""Classify texts: a table or folders of texts in, a label per text out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from diva import Data, DataFolder, Field, Outputs, Split, Step, Task, Unseen, UsageError

if TYPE_CHECKING:
    from torch import nn

    from diva import Drawing


class TextClassification(Task):
    """Classify texts by a bag of embeddings, a CNN, an LSTM or a small transformer."""

    default_data: ClassVar[str | None] = "docstrings"

    epochs: int = Field(10, ge=0, description="passes over the training data")
    batch_size: int = Field(32, ge=1, description="samples per step")
    lr: float = Field(5e-3, gt=0, description="step size")
    schedule: Literal["constant", "step", "multistep", "exponential", "cosine", "plateau"] = Field(
        "cosine", description="how lr changes from epoch to epoch, as in torch.optim.lr_scheduler"
    )
    monitor: str = Field(
        "val/accuracy", description="metric that names the best epoch: less is better for loss and error, else more"
    )

    model: Literal["bag", "cnn", "lstm", "transformer"] = Field("bag", description="the network that reads the tokens")
    width: int = Field(
        64, ge=4, description="numbers per token; a multiple of 4 for the transformer, which has four heads"
    )
    dropout: float = Field(0.3, ge=0, lt=1, description="share of the numbers within the network that training blanks")
    units: Literal["words", "characters"] = Field("words", description="what a token is")
    keep_case: bool = Field(False, description="tell capital letters from small ones")
    min_count: int = Field(2, ge=1, description="tokens that occur less often in the training texts are unknown")
    max_words: int = Field(
        20_000, ge=1, description="size of the vocabulary: the most frequent tokens of the training texts"
    )
    max_length: int = Field(256, ge=1, description="tokens of a text that are read; the rest is cut off")
    word_dropout: float = Field(0.1, ge=0, lt=1, description="augmentation: share of the tokens that are made unknown")
    class_weights: bool = Field(
        False,
        description="weigh the training loss by the inverse frequency of each class; one without training texts weighs 0",
    )

    def load_data(self, folder: DataFolder | None) -> Data:
        """Read `train|val|test/texts.csv` or `train|val|test/<class>/<name>.txt`; the vocabulary comes from the training split alone."""
        import torch

        from diva import read_splits

        from .words import SPECIAL, Texts, build_vocabulary, join_vocabulary, number_tokens, split_tokens

        assert folder is not None
        if self.model == "transformer" and self.width % 4:
            raise UsageError(f"--width {self.width}: the transformer has four heads; give a multiple of 4")
        splits: dict[str, Any] = dict(read_splits(folder.path, "texts"))
        tokens = {
            name: [split_tokens(text, self.units, keep_case=self.keep_case) for text in split.texts]
            for name, split in splits.items()
        }
        vocabulary = build_vocabulary(tokens["train"], self.min_count, self.max_words)
        numbers = {token: number for number, token in enumerate([*SPECIAL, *vocabulary])}
        classes = splits["train"].classes
        counts = {name: [split.labels.count(c) for c in range(len(classes))] for name, split in splits.items()}
        trained = torch.tensor(counts["train"], dtype=torch.float64)
        weights = torch.where(trained > 0, trained.sum() / ((trained > 0).sum() * trained), 0.0).float()  # (C,)
        train, val, test = (
            Texts(
                splits[name].texts,
                splits[name].labels,
                [number_tokens(line, numbers, self.max_length) for line in tokens[name]],
                self.word_dropout if name == "train" else 0.0,
            )
            for name in ("train", "val", "test")
        )
        facts = {
            "classes": list(classes),
            "class_counts": counts,
            "n_tokens": len(numbers),
            "vocabulary": join_vocabulary(vocabulary, self.units),
        }
        return Data(train, val, test, facts, {"class_weights": weights})

    def build_model(self, data: Data) -> nn.Module:
        """The network that the knob `model` names, with fresh weights."""
        from .models import MODELS

        n_tokens, n_classes = data.facts["n_tokens"], len(data.facts["classes"])
        return MODELS[self.model](n_tokens, n_classes, self.width, self.dropout, self.max_length)

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        """Cross entropy. Class weights shape the training loss alone: an evaluation is not weighted."""
        from torch.nn.functional import cross_entropy

        tokens, labels = batch  # (B, L), (B,)
        logits = model(tokens)  # (B, C)
        loss = cross_entropy(
            logits, labels, data.constants["class_weights"] if self.class_weights and model.training else None
        )
        outputs = {"labels": labels, "predictions": logits.argmax(1)}
        return Step(loss, outputs if model.training else {**outputs, "logits": logits})

    def read_unseen(self, folder: Path, data: Data) -> Unseen:
        """Texts of a table or of files, numbered by the vocabulary of the run; each label is 0."""
        from diva import find_texts

        from .words import Texts, number_tokens, split_tokens, token_names

        found = find_texts(folder)
        numbers = {token: number for number, token in enumerate(token_names(data.facts["vocabulary"], self.units))}
        lines = [split_tokens(text, self.units, keep_case=self.keep_case) for text in found.texts]
        tokens = [number_tokens(line, numbers, self.max_length) for line in lines]
        return Unseen(Texts(found.texts, [0] * len(tokens), tokens), found.names, found.labels)

    def predict(self, model: nn.Module, batch: Any, data: Data) -> Outputs:
        """The probability of each class, for `diva apply`."""
        tokens, _ = batch  # (B, L)
        return {"probabilities": model(tokens).softmax(1)}  # (B, C)

    def compute_metrics(self, outputs: Outputs, data: Data) -> dict[str, float]:
        """Accuracy, and F1 averaged over the classes."""
        from diva import classification_scores

        return classification_scores(outputs["labels"], outputs["predictions"], len(data.facts["classes"]))

    def draw_figures(
        self, model: nn.Module, outputs: Outputs, data: Data, split: Split
    ) -> Iterator[tuple[str, Drawing]]:
        """Before training a text of each class as the network reads it; then confusions, the report, mistakes and telling tokens."""
        from diva import classification_figures

        from .telling import draw_tokens, list_mistakes, list_samples, telling_tokens
        from .words import token_names

        classes: list[str] = data.facts["classes"]
        texts: Any = data.split(split)
        names = token_names(data.facts["vocabulary"], self.units)
        if split == "train":
            yield "samples", list_samples(texts, classes, names)
            return
        yield from classification_figures(outputs["labels"], outputs["predictions"], classes, split)
        yield "mistakes", list_mistakes(texts, outputs, classes)
        told = telling_tokens(model, texts, len(classes))
        yield "telling_tokens", draw_tokens(told, classes, names, title=f"{split}: tokens that speak for a class")
