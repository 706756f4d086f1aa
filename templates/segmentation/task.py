"""Segment pages: give every pixel a class, on pages of any size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from diva import Data, DataFolder, Field, Outputs, Split, Step, Task, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from diva import Drawing, Unseen


class Segmentation(Task):
    """Give every pixel of a page a class, by a network that sees parts of it."""

    default_data: ClassVar[str | None] = "digits_on_photos"

    epochs: int = Field(15, ge=0, description="passes over the training pages")
    batch_size: int = Field(2, ge=1, description="crops per step, in training and validation")
    lr: float = Field(3e-3, gt=0, description="step size")
    schedule: Literal["constant", "step", "multistep", "exponential", "cosine", "plateau"] = Field(
        "cosine", description="how lr changes from epoch to epoch, as in torch.optim.lr_scheduler"
    )
    monitor: str = Field(
        "val/mean_iou", description="metric that names the best epoch: less is better for loss and error, else more"
    )

    model: str = Field(
        "unet",
        description="unet, segnet, doc_ufcn, fcdensenet57, fcdensenet67, fcdensenet103, deeplabv3_mobilenet_v3_large, "
        "deeplabv3_resnet50, deeplabv3_resnet101",
    )
    width: float = Field(
        0.125, gt=0, description="channels of the network, as a share of the published one's; deeplabv3 has its own"
    )
    loss: tuple[Literal["cross_entropy", "dice", "focal"], ...] = Field(
        ("cross_entropy",), min_length=1, description="the loss, or several to be added up: cross_entropy,dice"
    )
    focal_gamma: float = Field(2.0, ge=0, description="how much less the focal loss counts what is certain")
    class_weights: float = Field(
        0.3,
        ge=0,
        le=1,
        description="weigh the training loss by the inverse frequency of each class to this power, 0 not; dice stays",
    )

    crop_size: int = Field(
        64, ge=32, multiple_of=32, description="side of the squares that the network learns from, a multiple of 32"
    )
    crops_per_page: int = Field(4, ge=1, description="random crops of each page in an epoch")
    val_crops: int | None = Field(32, ge=1, description="crops of each page to validate on, from a fixed grid; at most")
    window: int | None = Field(
        None, ge=32, multiple_of=32, description="side of the window that slides over test pages; default: crop_size"
    )
    overlap: float = Field(0.5, ge=0, lt=1, description="share of a window that overlaps with the next")
    bundle: int = Field(16, ge=1, description="pages in memory at a time, whose crops are mixed with each other")

    mask_kind: Literal["auto", "index", "colour", "divahisdb"] = Field(
        "auto", description="how masks are coded: by index, by colours, or by the bits of blue as in DIVA-HisDB"
    )
    ignored_codes: tuple[int, ...] = Field((), description="codes of pixels that are not learnt from and not counted")
    pages_drawn: int = Field(2, ge=0, description="test pages whose masks and errors are drawn, in full size too")

    def load_data(self, folder: DataFolder | None) -> Data:
        """Read `train|val|test/data/<page>` and `gt/<page>`; statistics and class weights come from the training split alone."""
        import torch

        from diva import image_statistics, mask_statistics, read_splits

        from .coding import build_coding, find_kind
        from .losses import class_weights
        from .models import RGB_ONLY
        from .pages import GridCrops, Page, RandomCrops, Reader, Shelf, WholePages, image_folders

        assert folder is not None
        pairs: Any = read_splits(folder.path, "pairs")
        kind = find_kind(folder.path, pairs["train"].masks, self.mask_kind)
        masks = mask_statistics(pairs, kind, folder.digest, folder.statistics_file.with_suffix(".masks.json"))
        coding = build_coding(folder.path, kind, masks["codes"], self.ignored_codes)
        images = image_statistics(image_folders(pairs), folder.path, folder.digest, folder.statistics_file)
        mode: Literal["L", "RGB"] = "RGB" if self.model in RGB_ONLY else images["mode"]
        channels = 3 if mode == "RGB" else 1
        mean, std = ((images[key] * channels)[:channels] for key in ("mean", "std"))
        reader = Reader(mode, tuple(mean), tuple(std), coding)
        pages = {
            name: [Page(image, mask, reader) for image, mask in zip(part.images, part.masks, strict=True)]
            for name, part in pairs.items()
        }
        counts = {name: coding.count(found) for name, found in masks["codes"].items()}
        facts = {"classes": list(coding.names), "codes": list(coding.codes), "background": coding.background,
                 "mask_kind": coding.kind or "auto", "channels": channels, "input_size": [self.crop_size] * 2,
                 "mean": mean, "std": std, "mode": mode, "class_counts": counts, "decoder": images["decoder"],
                 "pixels": images["pixels"]}  # fmt: skip
        return Data(
            RandomCrops(Shelf(pages["train"], self.bundle), self.crop_size, self.crops_per_page),
            GridCrops(Shelf(pages["val"], 1), masks["sizes"]["val"], self.crop_size, self.val_crops),
            WholePages(pages["test"]),
            facts,
            {"class_weights": torch.tensor(class_weights(counts["train"], self.class_weights))},
        )

    def build_model(self, data: Data) -> nn.Module:
        """The network that the knob `model` names, with fresh weights."""
        from .models import MODELS

        if self.model not in MODELS:
            raise UsageError(f"no model of segmentation is called {self.model!r}; there are {', '.join(MODELS)}")
        return MODELS[self.model](data.facts["channels"], len(data.facts["classes"]), self.width)

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        """The loss of crops, or the mean loss of whole pages, and how often each class was taken for each."""
        from .pages import Page
        from .scores import count_confusions
        from .windows import evaluate_pages

        n_classes = len(data.facts["classes"])
        weight = data.constants["class_weights"] if model.training else None

        def loss_of(logits: Tensor, labels: Tensor, boundary: Tensor) -> Tensor:
            from .losses import learnt, segmentation_loss

            truth = learnt(labels, boundary, data.facts["background"])
            return segmentation_loss(self.loss, logits, truth, weight, self.focal_gamma)

        if isinstance(batch[0], Page):
            loss, confusions = evaluate_pages(
                model, batch, self.window or self.crop_size, self.overlap, loss_of, n_classes
            )
            return Step(loss, {"confusions": confusions})
        images, labels, boundary = batch  # (B, channels, S, S), (B, S, S), (B, S, S)
        logits = model(images)  # (B, C, S, S)
        confusions = count_confusions(labels, logits.argmax(1), boundary, n_classes)
        return Step(loss_of(logits, labels, boundary), {"confusions": confusions})

    def read_unseen(self, folder: Path, data: Data) -> Unseen:
        """Pages for `diva apply`, read and normalised as those of the run; they need no masks, which are not looked at."""
        from diva import Unseen

        from .coding import Coding
        from .pages import Page, Reader, UnseenPages, find_pages

        facts = data.facts
        coding = Coding(None, tuple(facts["codes"]), tuple(facts["classes"]), facts["background"])
        reader = Reader(facts["mode"], tuple(facts["mean"]), tuple(facts["std"]), coding)
        paths, names = find_pages(folder)
        return Unseen(UnseenPages([Page(path, None, reader) for path in paths]), names)

    def predict(self, model: nn.Module, batch: Any, data: Data) -> Outputs:
        """`area_<class>`, the share of each page that is taken for each class; `diva apply` writes no masks."""
        from .scores import slugs
        from .windows import class_areas

        names = data.facts["classes"]
        areas = class_areas(model, batch, self.window or self.crop_size, self.overlap, len(names))
        return {f"area_{key}": areas[:, i] for i, key in enumerate(slugs(names))}

    def compute_metrics(self, outputs: Outputs, data: Data) -> dict[str, float]:
        """Mean and per-class intersection over union, accuracy of pixels, mean F1; for DIVA-HisDB its own evaluation too."""
        from .scores import layout_counts, pixel_metrics

        counts = layout_counts(outputs)
        found = pixel_metrics(counts, data.facts["classes"], data.facts["background"])
        if data.facts["mask_kind"] == "divahisdb":
            from .divahisdb import evaluate_layout

            found |= evaluate_layout(counts, data.facts["codes"]).metrics()
        return found

    def draw_figures(
        self, model: nn.Module, outputs: Outputs, data: Data, split: Split
    ) -> Iterator[tuple[str, Drawing]]:
        """Crops with their classes; then what the network makes of crops, or of whole pages, with confusions and scores."""
        from .drawings import draw_crops, draw_pages, draw_samples, draw_scores

        if split == "train":
            yield from draw_samples(data)
            return
        yield from draw_scores(outputs, data, split)
        if split == "val":
            yield from draw_crops(model, data)
        else:
            yield from draw_pages(model, data, self.pages_drawn, self.window or self.crop_size, self.overlap)
