"""Find a word in images of words: by an image of it, or by typing it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from diva import Data, DataFolder, Field, Outputs, Split, Step, Task, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy
    from torch import nn

    from diva import Drawing, Retrieval, Unseen


class WordSpotting(Task):
    """A PHOCNet learns which characters stand where in a word; images and typed words are then compared by these attributes."""

    default_data: ClassVar[str | None] = "words"

    epochs: int = Field(7, ge=0, description="passes over the training data")
    batch_size: int = Field(16, ge=1, description="samples per step")
    lr: float = Field(4e-3, gt=0, description="step size")
    schedule: Literal["constant", "step", "multistep", "exponential", "cosine", "plateau"] = Field(
        "cosine", description="how lr changes from epoch to epoch, as in torch.optim.lr_scheduler"
    )

    model: str = Field("phocnet_small", description="phocnet_small, or phocnet as published: see models.py")
    pooling: Literal["temporal", "spatial"] = Field(
        "temporal", description="pyramid pooling over the width alone, or over width and height"
    )
    image_height: int = Field(24, ge=8, description="images are brought to this height, their proportions kept")
    image_width: int | None = Field(
        None,
        ge=8,
        description="wider images are squeezed, others padded to it; default: the widest of the training split",
    )
    levels: tuple[int, ...] = Field(
        (1, 2, 3, 4, 5), description="into how many regions each level of the PHOC cuts a word"
    )
    bigrams: int = Field(
        0, ge=0, description="so many of the most frequent pairs of letters are attributes too, at level 2"
    )
    keep_case: bool = Field(False, description="tell upper from lower case")
    distortion: float = Field(
        0.3, ge=0, le=1, description="augmentation: strength of slant, stretch, shift and loss of contrast"
    )
    distance: Literal["cosine", "bray_curtis"] = Field("cosine", description="how attributes are compared")
    k: int = Field(10, ge=1, description="places that count in mAP at k, and images in a row of a sheet")

    def load_data(self, folder: DataFolder | None) -> Data:
        """Read images and what is written in them; alphabet, bigrams and statistics come from the training split alone."""
        import torch

        from diva import image_statistics, padded_width, read_splits

        from .phoc import alphabet_of, frequent_bigrams, phoc, spelled
        from .words import WordImages, read_words

        assert folder is not None
        if not self.levels or min(self.levels) < 1:
            raise UsageError("--levels: numbers of regions, at least one of them, as in 2,3,4,5")
        splits: Any = read_splits(folder.path, "images")
        written = {
            name: [spelled(word, keep_case=self.keep_case) for word in read_words(folder.path / name, found.paths)]
            for name, found in splits.items()
        }
        words = sorted(set().union(*written.values()))
        number = {word: i for i, word in enumerate(words)}
        alphabet, bigrams = alphabet_of(written["train"]), frequent_bigrams(written["train"], self.bigrams)
        statistics = image_statistics(splits, folder.path, folder.digest, folder.statistics_file)
        mean, std = (sum(statistics[key]) / len(statistics[key]) for key in ("mean", "std"))
        no_limit = self.image_height, 100 * self.image_height
        width = self.image_width or max(8, *(padded_width(path, no_limit) for path in splits["train"].paths))
        size = [self.image_height, width]
        train, val, test = (
            WordImages(
                splits[name].paths, [number[word] for word in written[name]], size, mean, std,
                self.distortion if name == "train" else 0.0,
            )
            for name in ("train", "val", "test")
        )  # fmt: skip
        unknown = sorted(set("".join(words)) - set(alphabet))
        facts = {
            "words": words, "alphabet": alphabet, "bigrams": bigrams, "unknown_characters": unknown, "input_size": size,
            "mean": mean, "std": std,
            "counts": {name: {"images": len(found), "words": len(set(found))} for name, found in written.items()},
        }  # fmt: skip
        return Data(train, val, test, facts, {"phocs": torch.from_numpy(phoc(words, alphabet, self.levels, bigrams))})

    def build_model(self, data: Data) -> nn.Module:
        """The network that the knob `model` names, with fresh weights."""
        from .models import MODELS
        from .phoc import BIGRAM_LEVEL

        if self.model not in MODELS:
            raise UsageError(f"--model {self.model}: this task has {', '.join(MODELS)}; add yours to models.py")
        n_attributes = len(data.facts["alphabet"]) * sum(self.levels) + len(data.facts["bigrams"]) * BIGRAM_LEVEL
        return MODELS[self.model](n_attributes, spatial=self.pooling == "spatial")

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        """Binary cross entropy of every attribute."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        images, columns, words = batch  # (B, 1, H, W), (B,), (B,)
        logits = model(images, columns)  # (B, A)
        loss = binary_cross_entropy_with_logits(logits, data.constants["phocs"][words])
        return Step(loss, {} if model.training else {"attributes": logits.float().sigmoid(), "words": words})

    def read_unseen(self, folder: Path, data: Data) -> Unseen:
        """Images of words for `diva apply`, of the size and normalisation of the training images; their words need not be known."""
        from diva import Unseen, find_images

        from .words import WordImages

        found, facts = find_images(folder), data.facts
        images = WordImages(found.paths, (0,) * len(found.paths), facts["input_size"], facts["mean"], facts["std"])
        return Unseen(images, found.names, found.labels)

    def predict(self, model: nn.Module, batch: Any, data: Data) -> Outputs:
        """The attributes as features for `diva apply`, whose tables of neighbours are queries by example."""
        images, columns, _ = batch  # (B, 1, H, W), (B,)
        return {"features": model(images, columns).float().sigmoid()}

    def compute_metrics(self, outputs: Outputs, data: Data) -> dict[str, float]:
        """Query by example (`qbe_`): each image whose word another image has. By string (`qbs_`): each word of the split."""
        return {
            f"{way}_{name}": value
            for way, found in self._searches(outputs, data).items()
            for name, value in found.metrics().items()
        }

    def _searches(self, outputs: Outputs, data: Data) -> dict[str, Retrieval]:
        from diva import score_retrieval

        attributes, words = outputs["attributes"].numpy(), outputs["words"].numpy()
        typed, phocs = _typed(outputs, data)
        how: Any = {"distance": self.distance, "k": self.k, "recall_at": ()}
        return {
            "qbe": score_retrieval(attributes, words, **how),
            "qbs": score_retrieval(phocs, typed, attributes, words, **how),
        }

    def draw_figures(
        self, model: nn.Module, outputs: Outputs, data: Data, split: Split
    ) -> Iterator[tuple[str, Drawing]]:
        """The training images as the network sees them; then what was found for some queries, by example and by string."""
        from diva import nearest_neighbours, neighbour_sheet, sample_sheet

        images: Any = data.split(split)
        if split == "train":
            captions = [data.facts["words"][label] for label in images.labels]
            title = "training images, as the network sees them"
            yield "samples", sample_sheet(len(images), images.sample, captions.__getitem__, title)
            return
        attributes, words = outputs["attributes"].numpy(), outputs["words"].numpy()
        typed, phocs = _typed(outputs, data)
        queries = [int((words == word).nonzero()[0][0]) for word in typed]  # the first image of each word
        step = -(-len(typed) // 8)
        k = min(self.k, 6)
        found, distances = nearest_neighbours(attributes, k=k, distance=self.distance)
        rows = [self._row(images, data, words, found[i], distances[i], words[i], i) for i in queries[::step]]
        yield "by_example", neighbour_sheet(rows, f"{split}: query by example, {self.distance} distance of attributes")
        found, distances = nearest_neighbours(phocs, attributes, k, self.distance)
        rows = [self._row(images, data, words, found[i], distances[i], typed[i]) for i in range(0, len(typed), step)]
        yield "by_string", neighbour_sheet(rows, f"{split}: query by string, {self.distance} distance of attributes")

    @staticmethod
    def _row(
        images: Any, data: Data, words: Any, found: Any, distances: Any, word: int, query: int | None = None
    ) -> Any:
        from diva import RankedRow

        names = data.facts["words"]
        captions = [f"{names[words[i]]} {distance:.3f}" for i, distance in zip(found, distances, strict=True)]
        own = None if query is None else images.picture(query)
        return RankedRow(
            own, names[word], [images.picture(i) for i in found], captions, [words[i] == word for i in found]
        )


def _typed(outputs: Outputs, data: Data) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The numbers of the words that occur, int64 (Q,), and the PHOC of each, float32 (Q, A)."""
    import numpy

    typed = numpy.unique(outputs["words"].numpy())
    return typed, data.constants["phocs"].cpu().numpy()[typed]
