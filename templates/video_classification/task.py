"""Classify clips: folders of frames or animated files in, a label per clip out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from diva import Data, DataError, DataFolder, Field, Outputs, Split, Step, Task, Unseen

if TYPE_CHECKING:
    from torch import nn

    from diva import Drawing


class VideoClassification(Task):
    """Classify clips by convolutions over place and time, or over frames one by one."""

    default_data: ClassVar[str | None] = "moving_photos"

    epochs: int = Field(13, ge=0, description="passes over the training data")
    batch_size: int = Field(16, ge=1, description="samples per step")
    lr: float = Field(3e-3, gt=0, description="step size")
    schedule: Literal["constant", "step", "multistep", "exponential", "cosine", "plateau"] = Field(
        "cosine", description="how lr changes from epoch to epoch, as in torch.optim.lr_scheduler"
    )
    monitor: str = Field(
        "val/accuracy", description="metric that names the best epoch: less is better for loss and error, else more"
    )

    model: Literal["r2plus1d", "c3d", "frame_cnn", "frame_gru"] = Field(
        "r2plus1d", description="the network that watches the clips"
    )
    differences: bool = Field(True, description="also show the network what changed since the frame before")
    frames: int = Field(
        8, ge=1, description="frames of a clip that are seen; the last one is repeated when it has fewer"
    )
    stride: int = Field(
        1, ge=1, description="see every so-many-th frame; training begins at random, evaluation in the middle"
    )
    image_size: int = Field(32, ge=4, description="frames are resized to a square of so many pixels")

    def load_data(self, folder: DataFolder | None) -> Data:
        """Read `train|val|test/<class>/<clip>/<frames>` or `<clip>.gif` and the like."""
        from diva import read_splits

        from .clips import Clips

        assert folder is not None
        splits: dict[str, Any] = dict(read_splits(folder.path, "clips"))
        classes = splits["train"].classes
        train, val, test = (
            Clips(found.frames, found.labels, self.frames, self.stride, self.image_size, moving=name == "train")
            for name, found in splits.items()
        )
        if all(len(numbers) == 1 for split in (train, val, test) for numbers in split.numbers):
            raise DataError(
                f"{folder.path}: every clip has a single frame, so these are still images; use --task image_classification, "
                "or put the frames of each clip into a folder of their own"
            )
        facts = {
            "classes": list(classes),
            "class_counts": {name: [s.labels.count(c) for c in range(len(classes))] for name, s in splits.items()},
            "input_size": [self.frames, self.image_size, self.image_size],
        }
        return Data(train, val, test, facts)

    def build_model(self, data: Data) -> nn.Module:
        """The network that the knob `model` names, with fresh weights."""
        from .models import MODELS, WithDifferences

        n_classes = len(data.facts["classes"])
        return (
            WithDifferences(MODELS[self.model](6, n_classes)) if self.differences else MODELS[self.model](3, n_classes)
        )

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        """Cross entropy."""
        from torch.nn.functional import cross_entropy

        clips, labels = batch  # (B, 3, T, H, W), (B,)
        logits = model(clips)  # (B, C)
        outputs = {"labels": labels, "predictions": logits.argmax(1)}
        return Step(cross_entropy(logits, labels), outputs if model.training else {**outputs, "logits": logits})

    def read_unseen(self, folder: Path, data: Data) -> Unseen:
        """Clips in class folders, or files of several frames without labels; each label is 0."""
        from diva import find_clips

        from .clips import Clips

        found = find_clips(folder)
        clips = Clips(found.files, [0] * len(found.files), self.frames, self.stride, self.image_size)
        return Unseen(clips, found.names, found.labels)

    def predict(self, model: nn.Module, batch: Any, data: Data) -> Outputs:
        """The probability of each class, for `diva apply`."""
        clips, _ = batch  # (B, 3, T, H, W)
        return {"probabilities": model(clips).softmax(1)}  # (B, C)

    def compute_metrics(self, outputs: Outputs, data: Data) -> dict[str, float]:
        """The share of clips that are told right, and F1 averaged over the classes."""
        from diva import classification_scores

        return classification_scores(outputs["labels"], outputs["predictions"], len(data.facts["classes"]))

    def draw_figures(
        self, model: nn.Module, outputs: Outputs, data: Data, split: Split
    ) -> Iterator[tuple[str, Drawing]]:
        """Before training a clip of each class; then confusions, the report, and strips of mistakes and of clips that are told right."""
        from diva import classification_figures

        from .filmstrips import Caption, choose_clips, draw_filmstrips, first_of_each

        classes: list[str] = data.facts["classes"]
        clips: Any = data.split(split)
        if split == "train":
            chosen = first_of_each(clips.labels)
            captions: list[Caption] = [(classes[clips.labels[i]], None) for i in chosen]
            yield (
                "samples",
                draw_filmstrips([clips.strip(i) for i in chosen], captions, "training clips, the middle of each"),
            )
            return
        yield from classification_figures(outputs["labels"], outputs["predictions"], classes, split)
        chosen, captions = choose_clips(outputs, classes)
        title = f"{split}: most confident mistakes, then a clip of each class that was told right"
        yield "filmstrips", draw_filmstrips([clips.strip(i) for i in chosen], captions, title)
