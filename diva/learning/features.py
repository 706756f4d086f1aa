"""Features: what flows into the last linear layer of a model, or out of a named layer, seen by hooks while the model predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from diva.errors import UsageError, nearest

if TYPE_CHECKING:
    from types import TracebackType

    from torch.utils.hooks import RemovableHandle

PENULTIMATE = "penultimate"


class FeatureTap:
    """Keeps, while it is entered, what the last forward pass gave: `take()` is float32 (B, D), flattened, None where there is none.

    layer: "penultimate" is the input of the linear layer that was called last; else the name of a layer, whose output is meant, that of
    its last call. UsageError names the nearest layer.
    """

    def __init__(self, model: nn.Module, layer: str = PENULTIMATE) -> None:
        self.layer = layer
        self.name = ""
        """What was seen: "input of classifier", or the layer's name."""
        self._seen: Any = None
        self._handles: list[RemovableHandle] = []
        self._layers = {name: module for name, module in model.named_modules() if name}
        if layer != PENULTIMATE and layer not in self._layers:
            raise UsageError(f"--features {layer}: the model has no such layer; {nearest(layer, self._layers)}")

    def __enter__(self) -> FeatureTap:
        if self.layer == PENULTIMATE:
            for name, module in self._layers.items():
                if isinstance(module, nn.Linear):
                    self._handles.append(module.register_forward_pre_hook(self._input_of(name)))
        else:
            self._handles.append(self._layers[self.layer].register_forward_hook(self._output))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def take(self, n_samples: int, *, required: bool = True) -> Tensor | None:
        """The features of the batch just predicted, forgotten here.

        Where they are not a row per sample, None when they are not required or no linear layer was called, else UsageError.
        """
        seen, self._seen = self._seen, None
        if seen is None and self.layer == PENULTIMATE:
            return None
        if not isinstance(seen, Tensor) or seen.ndim == 0 or len(seen) != n_samples or not seen.is_floating_point():
            if not required:
                return None
            raise UsageError(f"--features {self.layer}: {self._why_not(seen, n_samples)}")
        return seen.detach().float().flatten(1) if seen.ndim > 1 else seen.detach().float()[:, None]

    def _why_not(self, seen: Any, n_samples: int) -> str:
        if seen is not None:
            return f"this layer gives {_told(seen)}, not numbers for each of {n_samples} samples; name another layer"
        inside = [name for name in self._layers if name.startswith(f"{self.layer}.")]
        others = f"one of those in it, such as {', '.join(inside[-3:])}" if inside else "another layer"
        return f"the model does not call this layer when it predicts; name {others}"

    def _input_of(self, name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            if arguments and isinstance(arguments[0], Tensor):
                self._seen, self.name = arguments[0], f"input of {name}"

        return hook

    def _output(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        self._seen, self.name = output, self.layer


def _told(seen: Any) -> str:
    return f"a tensor {tuple(seen.shape)}" if isinstance(seen, Tensor) else f"a {type(seen).__name__}"
