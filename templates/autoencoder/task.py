"""Auto-encode images: a few numbers per image, from which the image is made again; no labels needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from diva import Data, DataFolder, Field, ImageTask, Outputs, Split, Step, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diva import Drawing


class AutoEncoding(ImageTask):
    """A convolutional auto-encoder, from clean or noisy images, or a variational one."""

    default_data: ClassVar[str | None] = "digits"

    epochs: int = Field(25, ge=0, description="passes over the training data")
    batch_size: int = Field(16, ge=1, description="samples per step")
    lr: float = Field(3e-3, gt=0, description="step size")
    schedule: Literal["constant", "step", "multistep", "exponential", "cosine", "plateau"] = Field(
        "cosine", description="how lr changes from epoch to epoch, as in torch.optim.lr_scheduler"
    )

    model: str = Field("cae", description="cae, a convolutional auto-encoder, or vae, a variational one")
    bottleneck: int = Field(16, ge=1, description="numbers that an image is squeezed into: its code")
    n_channels: int = Field(32, ge=1, description="channels of the first block of convolutions")
    loss: Literal["mse", "bce"] = Field(
        "bce", description="binary cross entropy, which takes a pixel for a probability, or squared error"
    )
    noise: float = Field(
        0.0,
        ge=0,
        description="standard deviation of noise on the images shown, whose clean ones are asked for; white is 1",
    )
    beta: float = Field(0.1, ge=0, description="weight of the Kullback-Leibler divergence of a vae's codes")

    def load_data(self, folder: DataFolder | None) -> Data:
        """Read images in class folders or without labels; a vae's pictures start from codes drawn here, the same in every epoch."""
        import torch

        from .sheets import mean_image

        assert folder is not None
        data = self.load_images(folder, labels="any")
        constants = {"mean_image": mean_image(data.train), "drawn_codes": torch.randn(32, self.bottleneck)}
        return replace(data, constants=constants)

    def build_model(self, data: Data) -> nn.Module:
        """The network that the knob `model` names, with fresh weights."""
        from .models import MODELS

        if self.model not in MODELS:
            raise UsageError(f"--model {self.model}: no model is called so; there are {', '.join(MODELS)}")
        height, width = data.facts["input_size"]
        if height * width == 1:
            raise UsageError(
                "the images have one pixel each, which cannot be squeezed; choose a size with --image-size"
            )
        return MODELS[self.model](data.facts["channels"], height, width, self.bottleneck, self.n_channels)

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        """The error of the pixels, plus a vae's divergence per pixel: its codes are drawn in training and their means otherwise."""
        from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

        from .models import kl_divergence, sampled

        images: Tensor = batch[0]  # (B, channels, H, W)
        pixels = self.pixels(images, data)
        mean, log_variance = model.encode(self.noisy(images, data))  # type: ignore[operator]
        codes = sampled(mean, log_variance) if model.training and log_variance is not None else mean  # (B, bottleneck)
        logits = model.decoder(codes)  # type: ignore[operator]  # (B, channels, H, W)
        made = logits.sigmoid()
        loss = mse_loss(made, pixels) if self.loss == "mse" else binary_cross_entropy_with_logits(logits, pixels)
        outputs = {
            "squared_error": ((made - pixels) ** 2).mean((1, 2, 3)),
            "spread": ((pixels - data.constants["mean_image"]) ** 2).mean((1, 2, 3)),
        }
        if log_variance is not None:
            divergence = kl_divergence(mean, log_variance)  # (B,)
            loss = loss + self.beta * divergence.mean() / pixels[0].numel()
            outputs["divergence"] = divergence
        return Step(loss, outputs if model.training else {**outputs, "codes": mean.float()})

    def predict(self, model: nn.Module, batch: Any, data: Data) -> Outputs:
        """The codes as features, and the error of each image, for `diva apply`: a large one tells that the run has seen no such image."""
        images, _ = batch  # (B, channels, H, W)
        codes, _ = model.encode(images)  # type: ignore[operator]
        made = model.decoder(codes).sigmoid()  # type: ignore[operator]
        return {"features": codes.float(), "squared_error": ((made - self.pixels(images, data)) ** 2).mean((1, 2, 3))}

    def compute_metrics(self, outputs: Outputs, data: Data) -> dict[str, float]:
        """The mean squared error of the pixels, and the share of their variance about the mean image that is explained, at least 0."""
        import math

        sums = {name: math.fsum(outputs[name].tolist()) for name in outputs if name != "codes"}
        n_images = len(outputs["squared_error"])
        explained = max(0.0, 1 - sums["squared_error"] / sums["spread"]) if sums["spread"] else 0.0
        metrics = {"mean_squared_error": sums["squared_error"] / n_images, "explained_variance": explained}
        return {**metrics, "kl_loss": sums["divergence"] / n_images} if "divergence" in sums else metrics

    def draw_figures(
        self, model: nn.Module, outputs: Outputs, data: Data, split: Split
    ) -> Iterator[tuple[str, Drawing]]:
        """Images and what is made of them; of a vae, images from drawn codes; at last the worst ones, and the codes for the projector."""
        from . import sheets

        images: Any = data.split(split)
        n_images = len(outputs["squared_error"]) if outputs else len(images)
        chosen = sheets.evenly(n_images, 8)
        if split == "train":
            yield "samples", sheets.samples(images, data)
            return
        yield (
            "reconstructions",
            sheets.reconstructions(self, model, data, split, chosen, f"{split}: images and what is made of them"),
        )
        if model.variational:
            yield "drawn", sheets.drawn(model, data)
            yield "traversal", sheets.traversal(model, data, outputs["codes"])
        if split == "test":
            worst = outputs["squared_error"].argsort(descending=True, stable=True)[:8].tolist()
            yield "largest_errors", sheets.reconstructions(self, model, data, split, worst, "test: the largest errors")
            yield from sheets.latent(outputs["codes"], data, split)

    def pixels(self, images: Tensor, data: Data) -> Tensor:
        """Normalised images as shares of white, in [0, 1]."""
        mean, std = self._normalisation(images, data)
        return (images * std + mean).clamp(0, 1)

    def noisy(self, images: Tensor, data: Data) -> Tensor:
        """Normalised images with the noise that the knob asks for, drawn from torch's global generator."""
        import torch

        _, std = self._normalisation(images, data)
        return images + self.noise / std * torch.randn_like(images) if self.noise else images

    def _normalisation(self, images: Tensor, data: Data) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel, (channels, 1, 1); of a constant channel 1, as it was divided by."""
        mean, std = data.facts["normalisation"]
        return images.new_tensor(mean).view(-1, 1, 1), images.new_tensor([value or 1.0 for value in std]).view(-1, 1, 1)
