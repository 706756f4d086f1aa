"""Learn which images are alike: each becomes a vector, and those of a class come to lie together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from diva import Data, DataError, DataFolder, Field, ImageTask, Outputs, Split, Step, UsageError

if TYPE_CHECKING:
    from torch import nn

    from diva import Drawing, Retrieval

MOST_POINTS = 2000  # in TensorBoard's projector, whose picture of thumbnails has a limit


class Similarity(ImageTask):
    """Embed images by any network so that a query's nearest neighbours are of its class, also of classes never seen in training."""

    default_data: ClassVar[str | None] = "digits"
    streams: ClassVar[tuple[str, ...]] = ("deal",)

    epochs: int = Field(12, ge=0, description="passes over the training data")
    batch_size: int = Field(64, ge=2, description="samples per step: so many classes as images_per_class goes into it")
    lr: float = Field(2e-3, gt=0, description="step size")
    schedule: Literal["constant", "step", "multistep", "exponential", "cosine", "plateau"] = Field(
        "cosine", description="how lr changes from epoch to epoch, as in torch.optim.lr_scheduler"
    )
    monitor: str = Field(
        "val/mAP", description="metric that names the best epoch: less is better for loss and error, else more"
    )

    model: str = Field(
        "small_cnn", description="the backbone: small_cnn, or a classification model of torchvision: diva list models"
    )
    embedding_size: int = Field(32, ge=1, description="numbers that an image becomes, a vector of length 1")
    objective: Literal["triplet", "contrastive"] = Field("triplet", description="the loss: of triplets, or of pairs")
    margin: float = Field(
        0.2,
        gt=0,
        le=2,
        description="how much farther than the positive a negative shall be; of pairs, how far; at most 2",
    )
    mining: Literal["hard", "semi_hard", "all"] = Field(
        "hard", description="which triplets of a batch count, see losses.py"
    )
    images_per_class: int = Field(8, ge=2, description="images of one class that stand together in a batch")
    unseen_classes: int = Field(
        0, ge=0, description="keep the last so many classes out of training, and validate and test on them alone"
    )
    k: int = Field(10, ge=1, description="places that count in mAP at k, and images in a row of a sheet")

    def load_data(self, folder: DataFolder | None) -> Data:
        """Read `train|val|test/<class>/<image>`; statistics come from the training split alone."""
        from diva import own_models

        from .batches import ClassBatches

        assert folder is not None
        if self.batch_size % self.images_per_class or self.batch_size == self.images_per_class:
            raise UsageError(
                f"--batch-size {self.batch_size} must be a multiple of --images-per-class {self.images_per_class}, at least twice it"
            )
        data = self.load_images(folder, rgb=self.model not in own_models())
        classes = data.facts["classes"]
        first_unseen = len(classes) - self.unseen_classes
        if len(classes) < 2 or (self.unseen_classes and (first_unseen < 2 or self.unseen_classes < 2)):
            raise UsageError(
                f"{folder.name} has {len(classes)} classes; at least two are needed to train on, and with --unseen-classes "
                "two more to test on"
            )
        sets: dict[str, Any] = {"train": data.train, "val": data.val, "test": data.test}
        if self.unseen_classes:
            for name, images in sets.items():
                kept = [i for i, label in enumerate(images.labels) if (label < first_unseen) == (name == "train")]
                sets[name] = images.subset(kept)
        for name in ("val", "test"):
            labels = list(map(int, sets[name].labels))
            if len(set(labels)) == len(labels):
                raise DataError(
                    f"{folder.path / name}: no class has two images, so a query has nothing to find; add images, or split anew: diva split"
                )
        counts = {name: [list(images.labels).count(c) for c in range(len(classes))] for name, images in sets.items()}
        facts = {**data.facts, "class_counts": counts, "unseen_classes": classes[first_unseen:]}
        return replace(
            data,
            train=ClassBatches(sets["train"], self.images_per_class),
            val=sets["val"],
            test=sets["test"],
            facts=facts,
        )

    def build_model(self, data: Data) -> nn.Module:
        """The backbone, its last layer as wide as the embedding."""
        from diva import build_zoo_model

        return build_zoo_model(self.model, self.embedding_size, data.facts["channels"], data.facts["input_size"])

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        """The loss of all pairs or of mined triplets of the batch; in an evaluation also the vectors."""
        from torch.nn.functional import normalize

        from .losses import contrastive_loss, triplet_loss

        images, labels = batch  # (B, C, H, W), (B,)
        vectors = normalize(model(images).float())  # (B, D)
        if self.objective == "triplet":
            loss, moved = triplet_loss(vectors, labels, self.margin, self.mining)
        else:
            loss, moved = contrastive_loss(vectors, labels, self.margin)
        return Step(loss, {"moved": moved} if model.training else {"vectors": vectors, "labels": labels})

    def predict(self, model: nn.Module, batch: Any, data: Data) -> Outputs:
        """The vector of each image, of length 1, for `diva apply`."""
        from torch.nn.functional import normalize

        images, _ = batch  # (B, C, H, W)
        return {"features": normalize(model(images).float())}  # (B, D)

    def compute_metrics(self, outputs: Outputs, data: Data) -> dict[str, float]:
        """Each image searches for those of its class among the others of its split; of training, the share of images that were moved."""
        if "moved" in outputs:
            return {"active": int(outputs["moved"].sum()) / max(1, len(outputs["moved"]))}
        return self._search(outputs).metrics()

    def _search(self, outputs: Outputs) -> Retrieval:
        from diva import score_retrieval

        return score_retrieval(outputs["vectors"].numpy(), outputs["labels"].numpy(), k=self.k, recall_at=(5, 10))

    def draw_figures(
        self, model: nn.Module, outputs: Outputs, data: Data, split: Split
    ) -> Iterator[tuple[str, Drawing]]:
        """Training images; then neighbours of queries of all classes, those of the worst ones, scores, and the projector."""
        from diva import Embedding, sample_sheet

        classes, images = data.facts["classes"], data.split(split)
        if split == "train":
            images = images.images  # type: ignore[attr-defined]
            captions, title = [classes[label] for label in images.labels], "training images, as the network sees them"
            yield "samples", sample_sheet(len(images), images.sample, captions.__getitem__, title)
            return
        found = self._search(outputs)
        n = len(found.labels)
        yield "neighbours", self._sheet(range(0, n, -(-n // 10)), outputs, data, split, "nearest neighbours")
        worst = found.average_precision.argsort(kind="stable")[:10]  # those without a score stand last
        yield "hardest", self._sheet(worst, outputs, data, split, "queries of the lowest average precision")
        yield "report", found.class_report(classes)
        if split == "test":
            chosen = range(0, n, -(-n // MOST_POINTS))
            names = [classes[found.labels[i]] for i in chosen]
            yield "embedding", Embedding(outputs["vectors"][list(chosen)], names, [images.picture(i) for i in chosen])  # type: ignore[attr-defined]

    def _sheet(self, queries: Any, outputs: Outputs, data: Data, split: Split, title: str) -> Any:
        from diva import RankedRow, nearest_neighbours, neighbour_sheet

        classes, images, labels = data.facts["classes"], data.split(split), outputs["labels"].tolist()
        picture: Any = images.picture  # type: ignore[attr-defined]
        vectors, k, rows = outputs["vectors"].numpy(), min(self.k, 8), []
        near, distances = nearest_neighbours(vectors, k=k)
        for query in map(int, queries):
            found = near[query].tolist()
            captions = [f"{classes[labels[i]]} {d:.3f}" for i, d in zip(found, distances[query], strict=True)]
            right = [labels[i] == labels[query] for i in found]
            rows.append(RankedRow(picture(query), classes[labels[query]], [picture(i) for i in found], captions, right))
        return neighbour_sheet(rows, f"{split}: {title}, by cosine distance")
