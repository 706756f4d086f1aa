"""Five small trainings that between them use most kernels; the digest of the weights is what machines compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn
    from torch.optim import Optimizer

    Training = tuple[nn.Module, Optimizer, Callable[[int], Tensor]]

STEPS = 20
# Digests of the weights under the exact kernels, on every machine. One that changes is a broken promise, or a line in CHANGELOG.
DIGESTS = {
    "digits": "sha256:3a53fb880d56e831183c49501b58a4d2c8e1258844a45120d410e206513defcd",
    "resnet": "sha256:699f48dd4cde78397e86bb2d710ad4184d5af17de9d809edecef46f10bb3b73f",
    "unet": "sha256:d809bc756129d7d9315f87b5617886d9b74d935261061a53184172e6dd631afa",
    "lstm": "sha256:34857c1457b8a16388a21d58aa51ac53d38d338dd0d6d7c4b5b82b14170c8949",
    "transformer": "sha256:0aa7553c7e8dd79fb502623f14a3ec4c8d37349f8b00891b951c09008c8ccf7b",
}


def train(name: str, steps: int = STEPS, device: str = "cpu") -> str:
    """The digest of the weights after `steps` steps of one of TRAININGS, from seed 0, under whatever kernels are in force."""
    import torch

    from diva.learning.digests import digest_model
    from diva.seeding import Seeds, preserved_generators

    with preserved_generators():
        Seeds(0).reseed("init")
        with torch.device(device):
            model, optimizer, loss_at = TRAININGS[name]()
        for step in range(steps):
            optimizer.zero_grad()
            loss_at(step).backward()
            optimizer.step()
        return digest_model(model)


def digits() -> Training:
    """Two convolutions on scikit-learn's real digits, batch norm, max pooling, dropout, SGD with momentum."""
    import numpy as np
    import torch
    from sklearn.datasets import load_digits
    from torch import nn
    from torch.nn import functional as F

    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor((pixels / 16).astype(np.float32)).reshape(-1, 1, 8, 8)
    classes = torch.tensor(labels).long()
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.25), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)

    def loss_at(step: int) -> Tensor:
        batch = slice(32 * step, 32 * step + 32)
        return F.cross_entropy(model(images[batch]), classes[batch])

    return model, optimizer, loss_at


def resnet() -> Training:
    """ResNet-18 of torchvision at the shape of CIFAR, SGD."""
    import torch
    from torch.nn import functional as F

    from diva.torchvision_shim import import_torchvision

    model = import_torchvision().models.resnet18(num_classes=10)
    images, classes = torch.randn(4, 3, 32, 32), torch.arange(4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    return model, optimizer, lambda step: F.cross_entropy(model(images), classes)


def unet() -> Training:
    """A U-Net of two levels: transposed convolution, bilinear interpolation, group norm, loss per pixel, Adam."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU())
            self.deep = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, padding_mode="reflect"), nn.ReLU())
            self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
            self.last = nn.Conv2d(24, 4, 1)

        def forward(self, images: Tensor) -> Tensor:
            fine = self.down(images)  # (B, 8, H, W)
            deep = self.deep(F.max_pool2d(fine, 2))  # (B, 16, H/2, W/2)
            wide = F.interpolate(F.avg_pool2d(fine, 4), scale_factor=4, mode="bilinear", align_corners=False)
            out: Tensor = self.last(torch.cat([fine, self.up(deep), wide], 1))  # (B, 4, H, W)
            return out

    model = UNet()
    images = torch.randn(2, 3, 24, 24)
    classes = torch.arange(2 * 24 * 24).reshape(2, 24, 24) // 5 % 4
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return model, optimizer, lambda step: F.cross_entropy(model(images), classes, weight=weight, label_smoothing=0.1)


def lstm() -> Training:
    """Embedding, a two-layer bidirectional LSTM with dropout, clipped gradients, AdamW."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    model = nn.ModuleDict({
        "embed": nn.Embedding(50, 24, padding_idx=0),
        "lstm": nn.LSTM(24, 32, num_layers=2, dropout=0.2, bidirectional=True, batch_first=True),
        "last": nn.Linear(64, 50),
    })  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
    words = torch.arange(8 * 13).reshape(8, 13) * 7 % 50

    def loss_at(step: int) -> Tensor:
        states, _ = model["lstm"](model["embed"](words[:, :-1]))  # (8, 12, 64)
        return F.cross_entropy(model["last"](states).flatten(0, 1), words[:, 1:].flatten(), ignore_index=0)

    def clip(*_: object) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)

    optimizer.register_step_pre_hook(clip)
    return model, optimizer, loss_at


def transformer() -> Training:
    """A transformer encoder of two layers with dropout, attention and gelu, Adam with a cosine schedule."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, activation="gelu", batch_first=True)
    model = nn.ModuleDict({"encoder": nn.TransformerEncoder(layer, 2), "last": nn.Linear(32, 5)})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002, amsgrad=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    inputs, targets = torch.randn(6, 10, 32), torch.randn(6, 5)
    mask = nn.Transformer.generate_square_subsequent_mask(10)

    def loss_at(step: int) -> Tensor:
        states = model["encoder"](inputs, mask=mask)  # (6, 10, 32)
        return F.smooth_l1_loss(model["last"](states.mean(1)), targets)

    return model, optimizer, loss_at


TRAININGS: dict[str, Callable[[], Training]] = {
    "digits": digits,
    "resnet": resnet,
    "unet": unet,
    "lstm": lstm,
    "transformer": transformer,
}
