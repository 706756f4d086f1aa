"""Routes: common modules and models reach only CPU kernels that are ours or safe, forward, backward and in the step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diva.errors import KernelError
from diva.kernels.exact import exact
from diva.kernels.table import stock
from diva.torchvision_shim import import_torchvision

Case = Callable[[], None]
CASES: dict[str, Case] = {}


def _recording(name: str, seen: set[str]) -> Callable[..., Any]:
    kernel = stock(name)

    def record(*args: Any, **kwargs: Any) -> Any:
        seen.add(name)
        return kernel(*args, **kwargs)

    return record


@contextmanager
def recorded() -> Iterator[set[str]]:
    """The aten operators whose CPU kernels run while this is open, calls made inside C++ included."""
    seen: set[str] = set()
    library = torch.library.Library("aten", "IMPL")
    for name in torch._C._dispatch_get_registrations_for_dispatch_key("CPU"):
        if not name.startswith("aten::"):
            continue
        short = name.removeprefix("aten::")

        library.impl(short, _recording(short, seen), "CPU", allow_override=True)
    try:
        yield seen
    finally:
        library._destroy()


def case(name: str) -> Callable[[Case], Case]:
    def declare(function: Case) -> Case:
        CASES[name] = function
        return function

    return declare


def train(module: nn.Module, *inputs: Tensor, pick: Callable[[Any], Tensor] = lambda x: x) -> None:
    """Forward and backward in training, then forward in evaluation."""
    loss = pick(module(*inputs)).sum()
    loss.backward()
    module.eval()
    with torch.no_grad():
        module(*inputs)


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, requires_grad=True)


def first(x: Any) -> Tensor:
    return x[0]


for kind in ("LSTM", "GRU", "RNN"):
    for bidirectional in (False, True):

        @case(f"nn.{kind}{' bidirectional' if bidirectional else ''}")
        def _(kind: str = kind, bidirectional: bool = bidirectional) -> None:
            module = getattr(nn, kind)(5, 6, num_layers=2, dropout=0.5, bidirectional=bidirectional)
            train(module, images(4, 3, 5), pick=first)
            train(getattr(nn, kind)(5, 6, batch_first=True, bias=False), images(4, 3, 5), pick=first)
            packed = nn.utils.rnn.pack_padded_sequence(images(4, 3, 5), torch.tensor([4, 2, 1]))
            unsorted = nn.utils.rnn.pack_padded_sequence(images(4, 3, 5), torch.tensor([2, 4, 1]), enforce_sorted=False)
            for sequence in (packed, unsorted):
                module = getattr(nn, kind)(5, 6, bidirectional=bidirectional)
                padded, _ = nn.utils.rnn.pad_packed_sequence(module(sequence)[0])
                padded.sum().backward()


@case("nn.RNN relu")
def _() -> None:
    train(nn.RNN(5, 6, nonlinearity="relu"), images(4, 3, 5), pick=first)


@case("nn.LSTM proj_size")
def _() -> None:
    train(nn.LSTM(5, 6, proj_size=3), images(4, 3, 5), pick=first)


@case("recurrent cells")
def _() -> None:
    train(nn.LSTMCell(5, 6), images(3, 5), pick=first)
    train(nn.GRUCell(5, 6), images(3, 5))
    train(nn.RNNCell(5, 6), images(3, 5))
    train(nn.RNNCell(5, 6, nonlinearity="relu"), images(3, 5))


@case("nn.MultiheadAttention")
def _() -> None:
    x = images(4, 3, 8)
    module = nn.MultiheadAttention(8, 2, dropout=0.1)
    train(module, x, x, x, pick=first)
    module = nn.MultiheadAttention(8, 2, batch_first=True, kdim=5, vdim=4, add_bias_kv=True, add_zero_attn=True)
    y, _ = module(images(3, 4, 8), images(3, 4, 5), images(3, 4, 4), need_weights=False)
    y.sum().backward()
    padding = torch.tensor([[False, False, True]] * 4)
    causal = nn.Transformer.generate_square_subsequent_mask(3)
    module = nn.MultiheadAttention(8, 2, batch_first=True)
    y, _ = module(x, x, x, key_padding_mask=padding, attn_mask=torch.isinf(causal), need_weights=True)
    y.sum().backward()


@case("nn.TransformerEncoder")
def _() -> None:
    for activation in ("relu", "gelu"):
        layer = nn.TransformerEncoderLayer(8, 2, 16, activation=activation, batch_first=True)
        train(nn.TransformerEncoder(layer, 2), images(3, 4, 8))
    module = nn.TransformerEncoderLayer(8, 2, 16, norm_first=True, batch_first=True)
    padding = torch.tensor([[False, False, False, True]] * 3)
    module(images(3, 4, 8), src_key_padding_mask=padding).sum().backward()


@case("nn.Transformer")
def _() -> None:
    train(nn.Transformer(8, 2, 1, 1, 16), images(4, 3, 8), images(5, 3, 8))


@case("scaled_dot_product_attention")
def _() -> None:
    q, k, v = images(2, 2, 4, 8), images(2, 2, 5, 8), images(2, 2, 5, 8)
    attention = F.scaled_dot_product_attention
    attention(q, k, v).sum().backward()
    attention(q, k, v, is_causal=True).sum().backward()
    attention(q, k, v, dropout_p=0.5).sum().backward()
    attention(q, k, v, attn_mask=torch.ones(4, 5, dtype=torch.bool).tril()).sum().backward()
    attention(q, k, v, attn_mask=torch.zeros(4, 5), scale=0.3).sum().backward()


@case("nn.Embedding")
def _() -> None:
    tokens = torch.tensor([[1, 2, 1], [0, 3, 3]])
    train(nn.Embedding(5, 4), tokens)
    train(nn.Embedding(5, 4, padding_idx=0), tokens)
    train(nn.Embedding(5, 4, scale_grad_by_freq=True), tokens)
    train(nn.Embedding(5, 4, max_norm=1.0), tokens)


@case("nn.EmbeddingBag")
def _() -> None:
    tokens, offsets = torch.tensor([1, 2, 1, 0, 3, 3]), torch.tensor([0, 2, 2])
    for mode in ("sum", "mean", "max"):
        module = nn.EmbeddingBag(5, 4, mode=mode)
        module(tokens, offsets).sum().backward()
        module(tokens.reshape(2, 3)).sum().backward()
    nn.EmbeddingBag(5, 4, mode="sum", padding_idx=1)(tokens, offsets).sum().backward()
    nn.EmbeddingBag(5, 4, mode="sum")(tokens, offsets, images(6)).sum().backward()


@case("F.interpolate")
def _() -> None:
    shapes = {"linear": (2, 3, 5), "bilinear": (2, 3, 5, 5), "bicubic": (2, 3, 5, 5), "trilinear": (2, 3, 4, 4, 4)}
    for mode, shape in shapes.items():
        for align in (False, True):
            F.interpolate(images(*shape), scale_factor=1.7, mode=mode, align_corners=align).sum().backward()
            F.interpolate(images(*shape), size=[3] * (len(shape) - 2), mode=mode, align_corners=align).sum().backward()
    for mode in ("nearest", "nearest-exact"):
        for shape in ((2, 3, 5), (2, 3, 5, 5), (2, 3, 4, 4, 4)):
            F.interpolate(images(*shape), scale_factor=2, mode=mode).sum().backward()
    F.interpolate(images(2, 3, 5, 5), scale_factor=1.5, recompute_scale_factor=True).sum().backward()
    nn.UpsamplingBilinear2d(scale_factor=2)(images(2, 3, 5, 5)).sum().backward()
    F.interpolate(images(2, 3, 8, 8), size=5, mode="area").sum().backward()


@case("padding")
def _() -> None:
    for n in (1, 2, 3):
        for kind in ("Constant", "Zero", "Reflection", "Replication", "Circular"):
            extra = (0.5,) if kind == "Constant" else ()
            module = getattr(nn, f"{kind}Pad{n}d")(1, *extra)
            module(images(2, 3, *[4] * n)).sum().backward()


@case("grid_sample")
def _() -> None:
    for mode in ("bilinear", "nearest", "bicubic"):
        for padding in ("zeros", "border", "reflection"):
            grid = F.affine_grid(images(2, 2, 3), [2, 3, 4, 4], align_corners=False)
            F.grid_sample(
                images(2, 3, 5, 5), grid, mode=mode, padding_mode=padding, align_corners=True
            ).sum().backward()
            if mode != "bicubic":
                grid = F.affine_grid(images(2, 3, 4), [2, 3, 4, 4, 4], align_corners=True)
                volume = images(2, 3, 5, 5, 5)
                F.grid_sample(volume, grid, mode=mode, padding_mode=padding, align_corners=False).sum().backward()


@case("unfold and fold")
def _() -> None:
    columns = nn.Unfold(3, padding=1)(images(2, 3, 5, 5))
    nn.Fold((5, 5), 3, padding=1)(columns).sum().backward()
    images(7).unfold(0, 3, 2).sum().backward()


@case("pixel shuffle")
def _() -> None:
    nn.PixelUnshuffle(2)(nn.PixelShuffle(2)(images(1, 4, 3, 3))).sum().backward()
    nn.ChannelShuffle(2)(images(1, 4, 3, 3)).sum().backward()


@case("distances")
def _() -> None:
    nn.CosineSimilarity()(images(3, 5), images(3, 5)).sum().backward()
    nn.PairwiseDistance()(images(3, 5), images(3, 5)).sum().backward()
    torch.cdist(images(3, 5), images(4, 5)).sum().backward()
    F.normalize(images(3, 5)).sum().backward()


@case("losses")
def _() -> None:
    classes, scores = torch.tensor([0, 2, 1]), images(3, 4)
    nn.CrossEntropyLoss()(scores, classes).backward()
    nn.CrossEntropyLoss(weight=torch.rand(4), label_smoothing=0.1, ignore_index=2)(scores, classes).backward()
    nn.CrossEntropyLoss()(scores, torch.rand(3, 4).softmax(1)).backward()
    nn.CrossEntropyLoss()(images(3, 4, 2, 2), torch.ones(3, 2, 2, dtype=torch.int64)).backward()
    nn.NLLLoss()(scores.log_softmax(1), classes).backward()
    target = torch.rand(3, 4)
    pairwise = (
        nn.MSELoss(),
        nn.L1Loss(),
        nn.SmoothL1Loss(),
        nn.HuberLoss(),
        nn.BCEWithLogitsLoss(pos_weight=torch.rand(4)),
    )
    for loss in pairwise:
        loss(scores, target).backward()
    nn.BCELoss()(scores.sigmoid(), target).backward()
    nn.KLDivLoss(reduction="batchmean")(scores.log_softmax(1), target.softmax(1)).backward()
    nn.TripletMarginLoss()(scores, images(3, 4), images(3, 4)).backward()
    nn.CosineEmbeddingLoss()(scores, images(3, 4), torch.tensor([1, -1, 1])).backward()
    nn.MarginRankingLoss()(images(3), images(3), torch.tensor([1, -1, 1])).backward()
    nn.HingeEmbeddingLoss()(images(3), torch.tensor([1, -1, 1])).backward()


@case("nn.CTCLoss")
def _() -> None:
    log_probs = images(6, 2, 4).log_softmax(2)
    lengths = torch.tensor([6, 5]), torch.tensor([2, 3])
    nn.CTCLoss()(log_probs, torch.tensor([[1, 2, 0], [2, 2, 3]]), *lengths).backward()


@case("indexing")
def _() -> None:
    index = torch.tensor([2, 0, 2])
    images(5, 4)[index].sum().backward()
    images(5, 4)[:, index].sum().backward()
    images(5, 4)[index, index].sum().backward()
    images(5, 4)[torch.rand(5, 4) > 0.5].sum().backward()
    images(5, 4).index_select(1, index).sum().backward()
    images(3, 4).gather(1, index[:, None]).sum().backward()
    images(5, 4).take(index).sum().backward()
    images(5, 4)[1:3, ::2].sum().backward()
    images(5, 4).select(0, 1).sum().backward()
    images(5, 4).index_add(0, index, images(3, 4), alpha=2.0).sum().backward()
    images(5, 4).index_copy(0, torch.tensor([1, 0, 2]), images(3, 4)).sum().backward()
    images(5, 4).index_put((index,), images(3, 4), accumulate=True).sum().backward()
    images(5, 4).index_fill(0, index, 0.0).sum().backward()
    images(5, 4).scatter_add(0, index[:, None].expand(3, 4), images(3, 4)).sum().backward()
    images(5, 4).scatter(0, torch.tensor([[1], [0]]), images(2, 1)).sum().backward()
    for how in ("sum", "mean", "prod", "amax", "amin"):
        images(5, 4).scatter_reduce(0, index[:, None].expand(3, 4), images(3, 4), how).sum().backward()
    images(5, 4).masked_fill(torch.rand(5, 4) > 0.5, 0.0).sum().backward()
    images(5, 4).masked_scatter(torch.rand(5, 4) > 0.5, images(5, 4)).sum().backward()
    images(5, 4).masked_select(torch.rand(5, 4) > 0.5).sum().backward()
    images(5, 4).roll(1, 0).flip(1).sum().backward()
    images(5, 4).repeat(2, 3).sum().backward()
    images(5, 4).repeat_interleave(2, 0).sum().backward()
    images(5, 4).tril().sum().backward()
    images(5, 4).diagonal().sum().backward()
    torch.where(torch.rand(5, 4) > 0.5, images(5, 4), images(5, 4)).sum().backward()
    torch.cat([images(5, 4), images(2, 4)]).sum().backward()
    torch.stack([images(5, 4), images(5, 4)]).sum().backward()


@case("ordering")
def _() -> None:
    images(5, 4).sort(1).values.sum().backward()
    images(5, 4).argsort(1)
    images(5, 4).topk(2, 1).values.sum().backward()
    images(5, 4).kthvalue(2, 1).values.sum().backward()
    images(5, 4).median(1).values.sum().backward()
    images(5, 4).max(1).values.sum().backward()
    images(5, 4).cumsum(1).sum().backward()
    torch.bucketize(torch.rand(5), torch.tensor([0.1, 0.5]))
    torch.unique(torch.tensor([3, 1, 3]), return_inverse=True, return_counts=True)
    torch.bincount(torch.tensor([3, 1, 3]))
    F.one_hot(torch.tensor([3, 1, 3]))


@case("optimizers")
def _() -> None:
    optimizers: list[tuple[Any, dict[str, Any]]] = [
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}),
        (torch.optim.Adam, {"weight_decay": 1e-4}),
        (torch.optim.AdamW, {"amsgrad": True}),
        (torch.optim.RMSprop, {"momentum": 0.9, "centered": True}),
        (torch.optim.Adagrad, {}),
    ]
    for optimizer, settings in optimizers:
        for form in ({"foreach": True}, {"foreach": False}, {"fused": True}):
            if optimizer is torch.optim.RMSprop and "fused" in form:
                continue
            x = images(5, 4)
            step = optimizer([x], lr=0.1, **settings, **form)
            for _ in range(2):
                x.pow(2).sum().backward()
                nn.utils.clip_grad_norm_([x], 1.0, foreach=form.get("foreach"))
                step.step()
                step.zero_grad(set_to_none=False)


def _vision(name: str, size: int, step: str, **extra: Any) -> None:
    torchvision = import_torchvision()
    model = torchvision.models.get_model(name, weights=None, num_classes=3, **extra)
    x = torch.randn(2, 3, size, size)
    if step == "channels_last":
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optimizer: torch.optim.Optimizer = (
        torch.optim.AdamW(model.parameters(), lr=0.1)
        if step == "adamw"
        else torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    )
    y = model(x)
    if isinstance(y, dict):
        target = torch.zeros(2, size, size, dtype=torch.int64)
        loss = torch.stack([F.cross_entropy(part, target) for part in y.values()]).sum()
    else:
        loss = F.cross_entropy(y, torch.tensor([0, 2]))
    loss.backward()
    optimizer.step()
    model.eval()
    with torch.no_grad():
        model(x)


VISION: dict[str, tuple[int, dict[str, Any]]] = {
    "alexnet": (64, {}),
    "vgg11": (32, {}),
    "resnet18": (32, {}),
    "densenet121": (32, {}),
    "mobilenet_v3_small": (32, {}),
    "efficientnet_b0": (32, {}),
    "convnext_tiny": (32, {}),
    "vit_b_32": (64, {"image_size": 64}),
    "swin_t": (64, {}),
    "deeplabv3_mobilenet_v3_large": (32, {"weights_backbone": None, "aux_loss": True}),
    "fcn_resnet50": (32, {"weights_backbone": None, "aux_loss": True}),
    "googlenet": (64, {"aux_logits": False, "init_weights": True}),
    "shufflenet_v2_x0_5": (32, {}),
    "squeezenet1_1": (64, {}),
    "regnet_y_400mf": (32, {}),
    "mnasnet0_5": (32, {}),
}
for name, (size, extra) in VISION.items():
    CASES[f"torchvision {name}"] = functools.partial(_vision, name, size, "sgd", **extra)
CASES["torchvision resnet18 channels-last"] = functools.partial(_vision, "resnet18", 32, "channels_last")
CASES["torchvision convnext_tiny adamw"] = functools.partial(_vision, "convnext_tiny", 32, "adamw")


# Nobody serves these; each is refused by name, and that is tested.
REFUSED = {"nn.CTCLoss": "_ctc_loss"}


@pytest.mark.parametrize("name", [name for name in CASES if name not in REFUSED])
def test_nothing_on_the_route_is_refused(name: str) -> None:
    torch.manual_seed(0)
    with exact():
        CASES[name]()


@pytest.mark.parametrize("name", REFUSED)
def test_what_nobody_serves_is_refused_by_name(name: str) -> None:
    with exact(), pytest.raises(KernelError, match=REFUSED[name]):
        CASES[name]()


@contextmanager
def pinned() -> Iterator[None]:
    """The routes that the exact scope pins: no oneDNN, attention by its definition, no fast path of encoders."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.backends.mkldnn.flags(enabled=False), nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@pytest.mark.parametrize("name", ["nn.LSTM", "nn.GRU", "nn.RNN", "recurrent cells"])
def test_recurrent_layers_are_products_and_elementwise_functions(name: str) -> None:
    with pinned(), recorded() as seen:
        CASES[name]()
    assert not [operator for operator in seen if "rnn" in operator or "fused" in operator]
    assert "addmm" in seen


@pytest.mark.parametrize("name", ["nn.MultiheadAttention", "nn.TransformerEncoder", "scaled_dot_product_attention"])
def test_attention_is_products_and_a_softmax(name: str) -> None:
    with pinned(), recorded() as seen:
        CASES[name]()
    assert not [operator for operator in seen if "attention" in operator or "transformer" in operator]
    assert {"bmm", "_softmax"} <= seen
