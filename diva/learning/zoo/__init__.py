"""The zoo: networks that classify images, by name; torchvision's, and small ones of diva's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diva.errors import UsageError, nearest
from diva.learning.zoo.babyresnet import BABYRESNETS
from diva.learning.zoo.small import SmallCNN
from diva.learning.zoo.usual import SMALL, stated_sizes, usual_sizes
from diva.torchvision_shim import import_torchvision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

OWN: dict[str, Callable[[int, int, int, int], nn.Module]] = {"small_cnn": SmallCNN, **BABYRESNETS}
"""diva's own: name -> network from (channels, height, width, n_classes)."""

AUXILIARY = {"googlenet": 0.3, "inception_v3": 0.4}
"""Models with auxiliary classifiers on inner layers, and the weight of their losses: Szegedy et al. 2015 ("Going deeper with
convolutions"), section 5; 0.4 as in the authors' TensorFlow code of Inception v3, research/inception/inception_model.py."""

_LEAST_WITH_AUXILIARY = {"inception_v3": 299}  # its auxiliary classifier needs 17 x 17 places where it branches off


def own_models() -> list[str]:
    """Names of diva's own models, which take images of any size with any number of channels."""
    return list(OWN)


def zoo_models() -> list[str]:
    """Names of all models: diva's own, then torchvision's for classification; takes 2 s, the import of torchvision."""
    torchvision = import_torchvision()
    return [*OWN, *torchvision.models.list_models(module=torchvision.models)]


def build_zoo_model(
    name: str, n_classes: int, channels: int = 3, size: Sequence[int] = (32, 32), *, auxiliary: bool = False
) -> nn.Module:
    """A freshly initialised model for images (B, channels, *size); UsageError names the nearest one.

    torchvision's take 3 channels. auxiliary: GoogLeNet and Inception v3 get their auxiliary classifiers, whose outputs they return in
    training mode (see `logits_and_auxiliary`); other models have none.
    """
    if auxiliary and name not in AUXILIARY:
        raise UsageError(f"{name} has no auxiliary outputs; models that have some: {', '.join(AUXILIARY)}")
    if name in OWN:
        return OWN[name](channels, size[0], size[1], n_classes)
    torchvision = import_torchvision()
    if name not in zoo_models():
        raise UsageError(f"no model is called {name!r}; {nearest(name, zoo_models())}")
    if channels != 3:
        raise UsageError(f"{name} is torchvision's and takes 3 channels, not {channels}")
    least = _LEAST_WITH_AUXILIARY.get(name, 0) if auxiliary else 0
    if min(size) < least:
        raise UsageError(
            f"{name} with auxiliary outputs takes images of at least {least} x {least} pixels, not {size[0]} x {size[1]}; "
            "choose --image-size 299, or leave the auxiliary outputs out"
        )
    extra: dict[str, Any] = {"aux_logits": auxiliary, "init_weights": True} if name in AUXILIARY else {}
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=n_classes, **extra)
    return model


def logits_and_auxiliary(output: Any) -> tuple[Tensor, list[tuple[float, Tensor]]]:
    """What a model of the zoo returned, taken apart: its logits (B, C), and the weight and logits of each auxiliary classifier.

    The loss is that of the logits plus each weight times the loss of its own; the list is empty in evaluation mode and for all models
    but GoogLeNet and Inception v3. Sources: see `AUXILIARY`.
    """
    if not hasattr(output, "_fields"):
        return output, []
    weight = AUXILIARY["inception_v3" if type(output).__name__ == "InceptionOutputs" else "googlenet"]
    return output.logits, [
        (weight, getattr(output, name))
        for name in output._fields
        if name != "logits" and getattr(output, name) is not None
    ]


def zoo_sizes(name: str) -> dict[str, Any]:
    """Parameters, GMACs (billions of MACs), and the input and number of classes for which they hold.

    3 x 32 x 32 and 10 for diva's own models, those of ImageNet for torchvision's, without auxiliary outputs.
    """
    if name in OWN:
        return usual_sizes(lambda n_classes, shape: build_zoo_model(name, n_classes, shape[0], shape[1:]), SMALL, 10)
    if name in AUXILIARY:  # torchvision counts them with their auxiliary classifiers
        side = 299 if name == "inception_v3" else 224
        return usual_sizes(lambda n_classes, shape: build_zoo_model(name, n_classes), (3, side, side), 1000)
    return stated_sizes(name)
