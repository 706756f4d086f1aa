"""The networks at the nodes of the tree: declared in `nets/<name>.yaml`, built, and counted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from diva import UsageError, count_macs

if TYPE_CHECKING:
    from collections.abc import Sequence

NETS = Path(__file__).parent / "nets"
Size = tuple[int, int]


class Declaration(BaseModel):
    """What every net of a node may say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    volatility: float | None = Field(None, ge=0, description="grouping volatility of this node, instead of the file's")


class Vgg(Declaration):
    """Convolutions of 3 x 3 with bias, batch norm and ReLU; then max pooling, dropout of whole maps, and one layer."""

    family: Literal["vgg"]
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    strides: tuple[Annotated[int, Field(ge=1)], ...] = Field((), description="of each convolution; all 1 when left out")
    pool: int = Field(1, ge=1, description="max pooling after the last convolution")
    dropout: float = Field(0.0, ge=0, lt=1)
    head: Literal["flatten", "mean"] = Field(
        "flatten", description="the layer sees the whole feature map, or its mean over the image"
    )


class MobileNet(Declaration):
    """Inverted residuals (Sandler et al. 2018), after a 3 x 3 convolution of stride 2 where `stem` says so; the head is 1 x 1."""

    family: Literal["mobilenet"]
    stem: int | None = Field(None, ge=1, description="channels of the first convolution")
    blocks: tuple[tuple[int, int], ...] = Field(min_length=1, description="of each block: channels, expansion")
    pointwise_padding: int = Field(
        0,
        ge=0,
        description="zeros around the 1 x 1 convolutions; the published nets have 1, and grow by 4 pixels a block",
    )


Net = Annotated[Vgg | MobileNet, Field(discriminator="family")]


class Nets(BaseModel):
    """A file of `nets/`: the net of the root, of every other node, and of those that have one of their own, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    volatility: float = Field(ge=0, description="grouping volatility of every node that has none of its own")
    root: Net
    child: Net
    nodes: dict[str, Net] = {}

    def net(self, name: str) -> Vgg | MobileNet:
        """The net of the node called root, sg1, sg2, ..."""
        return self.root if name == "root" else self.nodes.get(name, self.child)

    def volatility_of(self, name: str) -> float:
        """The grouping volatility of a node."""
        own = self.net(name).volatility
        return self.volatility if own is None else own


def read_nets(name: str) -> dict[str, Any]:
    """The declarations of `nets/<name>.yaml`, as JSON can hold them; UsageError for a file that is not there or not as it should be."""
    known = sorted(path.stem for path in NETS.glob("*.yaml"))
    if name not in known:
        raise UsageError(f"--nets {name}: no such file in {NETS.name}/; there are {', '.join(known)}; add {name}.yaml")
    try:
        nets = Nets.model_validate(yaml.safe_load((NETS / f"{name}.yaml").read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise UsageError(f"nets/{name}.yaml: is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"nets/{name}.yaml: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return nets.model_dump(mode="json")


class Node(nn.Module):
    """One small network: `features` are what its children see, `head` gives a logit for each of its turns."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features, self.head = features, head

    def forward(self, maps: Tensor) -> Tensor:
        """maps: (B, C, H, W), images at the root. Returns logits (B, turns)."""
        logits: Tensor = self.head(self.features(maps))
        return logits


class InvertedResidual(nn.Module):
    """1 x 1 to `expansion` times as many channels, 3 x 3 for each channel, 1 x 1 to `n_out`; added to its input where shapes agree."""

    def __init__(self, n_in: int, n_out: int, expansion: int, padding: int) -> None:
        super().__init__()
        hidden = n_in * expansion
        self.layers = nn.Sequential(
            nn.Conv2d(n_in, hidden, 1, padding=padding, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(),
            nn.Conv2d(hidden, n_out, 1, padding=padding, bias=False), nn.BatchNorm2d(n_out),
        )  # fmt: skip

    def forward(self, maps: Tensor) -> Tensor:
        """maps: (B, n_in, H, W). Returns (B, n_out, H + 4 padding, W + 4 padding)."""
        changed: Tensor = self.layers(maps)
        return maps + changed if maps.shape == changed.shape else changed


class MeanOverImage(nn.Module):
    """(B, C, H, W) to (B, C)."""

    def forward(self, maps: Tensor) -> Tensor:
        """The mean of each map."""
        return maps.mean((2, 3))


def build_node(net: Vgg | MobileNet, channels: int, size: Sequence[int], n_turns: int) -> Node:
    """A node for inputs (B, channels, *size), with fresh weights; UsageError where the input is too small for it."""
    if isinstance(net, MobileNet):
        return _mobilenet(net, channels, n_turns)
    strides = net.strides or (1,) * len(net.channels)
    if len(strides) != len(net.channels):
        raise UsageError(f"nets: {len(net.channels)} channels ask for as many strides, or none; got {list(strides)}")
    layers: list[nn.Module] = []
    n_in = channels
    for n_out, stride in zip(net.channels, strides, strict=True):
        layers += [nn.Conv2d(n_in, n_out, 3, stride, padding=1), nn.BatchNorm2d(n_out), nn.ReLU()]
        n_in = n_out
    if net.pool > 1:
        layers.append(nn.MaxPool2d(net.pool))
    sides = [_side(length, strides) // net.pool for length in size]
    if 0 in sides:
        raise UsageError(f"images or maps of {size[0]} x {size[1]} are too small for --nets with pool {net.pool}")
    drop: list[nn.Module] = [nn.Dropout2d(net.dropout)] if net.dropout else []
    flat, n_flat = (nn.Flatten(), n_in * math.prod(sides)) if net.head == "flatten" else (MeanOverImage(), n_in)
    return Node(nn.Sequential(*layers), nn.Sequential(*drop, flat, nn.Linear(n_flat, n_turns)))


def _side(length: int, strides: Sequence[int]) -> int:
    """What convolutions of 3 x 3 with padding 1 leave of a side."""
    for stride in strides:
        length = (length - 1) // stride + 1
    return length


def _mobilenet(net: MobileNet, channels: int, n_turns: int) -> Node:
    layers: list[nn.Module] = []
    n_in = channels
    if net.stem is not None:
        layers += [nn.Conv2d(n_in, net.stem, 3, 2, padding=1), nn.BatchNorm2d(net.stem), nn.ReLU6()]
        n_in = net.stem
    for n_out, expansion in net.blocks:
        layers.append(InvertedResidual(n_in, n_out, expansion, net.pointwise_padding))
        n_in = n_out
    return Node(nn.Sequential(*layers), nn.Sequential(nn.Conv2d(n_in, n_turns, 1), MeanOverImage()))


class Cost(NamedTuple):
    """What a network holds and what one image costs it."""

    parameters: int
    macs: int


def cost(network: nn.Module, maps: Tensor) -> Cost:
    """Parameters, and multiply-accumulates of convolutions and linear layers for `maps` (1, C, H, W), without biases and norms."""
    return Cost(sum(p.numel() for p in network.parameters()), count_macs(network, maps))
