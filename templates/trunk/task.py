"""Classify images with a tree of small networks: each tells groups of look-alike classes apart and hands its feature maps on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from diva import Change, Data, DataFolder, Field, ImageTask, Outputs, Split, Step, Task, UsageError

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from diva import Drawing

    from .tree import Place, Tree


class Trunk(ImageTask):
    """A tree of small networks that grows while it learns; or one network, to compare it with."""

    default_data: ClassVar[str | None] = "digits"

    epochs: int = Field(
        500, ge=0, description="most epochs of all nodes together; the tree ends earlier, when it is whole"
    )
    lr: float = Field(3e-3, gt=0, description="step size, of every node")
    schedule: Literal["constant", "step", "multistep", "exponential", "cosine"] = Field(
        "cosine", description="how lr changes within the epochs of a stage"
    )
    patience: int | None = Field(
        None, ge=1, description="of --baseline alone: epochs without a better monitored metric"
    )

    crop_padding: int = Field(
        1, ge=0, description="augmentation: pad by so many pixels, then crop at random to the old size"
    )
    nets: str = Field("digits", description="which networks stand at the nodes: a file of nets/ without .yaml")
    stage_epochs: int = Field(
        15,
        ge=1,
        description="epochs of each stage: of a node with its classes, of one with groups of them, and of the baseline",
    )
    volatility: float | None = Field(
        None,
        ge=0,
        description="classes are grouped when taken for each other more than so many times chance; more splits groups; default: of nets/",
    )
    pairs: Literal["upper", "mean", "max"] = Field(
        "mean", description="which direction of a pair counts; upper, as published, depends on the order of the classes"
    )
    likelihood: Literal["val", "train"] = Field(
        "val", description="split on which it is measured what is taken for what"
    )
    baseline: str | None = Field(
        None,
        description="train one network instead of the tree: root, the net of the root, or a model of diva list models",
    )

    def load_data(self, folder: DataFolder | None) -> Data:
        """Read `train|val|test/<class>/<image>`, and what nets/ declares."""
        from diva import own_models

        from .nodes import read_nets

        assert folder is not None
        if self.patience is not None and self.baseline is None:
            raise UsageError("--patience would leave the tree unfinished; choose fewer --stage-epochs, or a --baseline")
        rgb = self.baseline is not None and self.baseline != "root" and self.baseline not in own_models()
        data = self.load_images(folder, rgb=rgb)
        return replace(data, facts={**data.facts, "nets": read_nets(self.nets)})

    def build_model(self, data: Data) -> nn.Module:
        """A tree of which the root is there; or the network that the knob `baseline` names."""
        from diva import build_zoo_model

        from .nodes import Nets, build_node
        from .tree import Tree

        nets = Nets.model_validate(data.facts["nets"])
        channels, size, n_classes = data.facts["channels"], data.facts["input_size"], len(data.facts["classes"])
        if self.baseline is None:
            return Tree(nets, channels, size, n_classes)
        if self.baseline == "root":
            return build_node(nets.root, channels, size, n_classes)
        return build_zoo_model(self.baseline, n_classes, channels, size)

    def build_schedule(self, optimizer: Optimizer) -> LRScheduler | None:
        """As the knobs say, over the epochs of a stage."""
        return Task.build_schedule(self.model_copy(update={"epochs": self.stage_epochs}), optimizer)

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        """Cross entropy: of the node that learns, over its images, in training; of the way to the true class, as far as it goes, else."""
        from torch.nn.functional import cross_entropy

        from .tree import Tree

        images, labels = batch  # (B, channels, H, W), (B,)
        if not isinstance(model, Tree):
            logits = model(images)
            return Step(cross_entropy(logits, labels), {"labels": labels, "predictions": logits.argmax(1)})
        if model.training:
            logits, turns = model.learn(images, labels)  # (b, turns), (b,)
            if (
                len(turns) == 0
            ):  # no image of this node is in the batch: no parameter has a gradient, no optimizer moves one
                return Step(images.new_zeros(()).requires_grad_(), {"turns": turns})
            return Step(cross_entropy(logits, turns), {"turns": (logits.argmax(1) == turns).long()})
        found = model.follow(images, labels)
        kept = found._asdict() | {"labels": labels}
        return Step(found.losses.mean(), {name: value for name, value in kept.items() if name != "losses"})

    def end_epoch(self, model: nn.Module, evaluate: Callable[[Split], Outputs], data: Data, epoch: int) -> Change:
        """After the epochs of a stage: group the classes of the node, or go on to the next node that waits."""
        from .tree import Tree

        if not isinstance(model, Tree):
            return "finished" if epoch >= self.stage_epochs else "go on"
        change = self._grow(model, evaluate, data, epoch)
        if 0 < epoch == self.epochs - 1 and change != "finished":
            needed = model.epochs_needed(self.stage_epochs, epoch)
            if needed > 1:
                warnings.warn(f"the tree stays unfinished: it needs {needed - 1} more --epochs at least", stacklevel=1)
        return change

    def _grow(self, model: Tree, evaluate: Callable[[Split], Outputs], data: Data, epoch: int) -> Change:
        from .grouping import averaged_likelihoods, degenerate, group

        asl, place, n = None, model.learning, len(model.learning.classes)
        if epoch < place.since + self.stage_epochs:
            return "go on"
        if place.stage == "classes" and n > 2:
            outputs = evaluate(self.likelihood)
            asl = averaged_likelihoods(outputs["likelihoods"].tolist(), outputs["labels"].tolist(), place.classes)
            groups = group(asl, self._volatility(model, place), self.pairs)
            if 1 < len(groups) < n:
                model.regroup(place.name, asl, groups, epoch)
                return "changed"
            names = [data.facts["classes"][label] for label in place.classes]
            warnings.warn(degenerate(place.name, names, asl, self.pairs, len(groups)), stacklevel=1)
        return "changed" if model.build_next(epoch, asl) else "finished"

    def _volatility(self, model: Tree, place: Place) -> float:
        return model.nets.volatility_of(place.name) if self.volatility is None else self.volatility

    def predict(self, model: nn.Module, batch: Any, data: Data) -> Outputs:
        """The probability of each class, for `diva apply`."""
        from .tree import Tree

        images, _ = batch  # (B, channels, H, W)
        answers = model(images)  # (B, C): probabilities of a tree, logits of a baseline
        return {"probabilities": answers if isinstance(model, Tree) else answers.softmax(1)}

    def compute_metrics(self, outputs: Outputs, data: Data) -> dict[str, float]:
        """Of the tree, or the baseline: accuracy over all images, F1 averaged over classes. Of the node that learns: its right turns."""
        from diva import classification_scores

        metrics = {}
        if "turns" in outputs:
            n_right, n_wrong = (int((outputs["turns"] == value).sum()) for value in (1, 0))
            metrics["node_accuracy"] = n_right / max(1, n_right + n_wrong)
        if "predictions" in outputs:
            n_classes = len(data.facts["classes"])
            metrics |= classification_scores(outputs["labels"], outputs["predictions"], n_classes)
        return metrics

    def draw_figures(
        self, model: nn.Module, outputs: Outputs, data: Data, split: Split
    ) -> Iterator[tuple[str, Drawing]]:
        """The training images; confusions over all images; of a tree its picture, its groups, itself as JSON; in the end, costs."""
        from diva import build_zoo_model, classification_figures, confusion_counts, sample_sheet

        from .figures import cost_report, tree_drawings
        from .nodes import build_node
        from .tree import Tree

        classes = data.facts["classes"]
        images: Any = data.split(split)
        n, channels, size = len(classes), data.facts["channels"], data.facts["input_size"]
        if split == "train":
            yield (
                "samples",
                sample_sheet(len(images), images.sample, lambda i: classes[images.labels[i]], "training images"),
            )
            return
        yield from classification_figures(outputs["labels"], outputs["predictions"], classes, split)
        if not isinstance(model, Tree):
            return
        counts = confusion_counts(outputs["labels"], outputs["predictions"], n)
        volatilities = {place.name: self._volatility(model, place) for place in model.places}
        yield from tree_drawings(
            model, classes, counts, volatilities, self.pairs, title=f"{split}: recall of each class"
        )
        if split == "test":
            others: dict[str, nn.Module] = {"net of the root": build_node(model.nets.root, channels, size, n)}
            others["small_cnn"] = build_zoo_model("small_cnn", n, channels, size)
            yield "costs", cost_report(model, outputs["ends"], images[0][0][None], others)
