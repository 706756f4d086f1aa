"""torchvision beside any torch: its Python half can be imported where its compiled half fits another torch.

The common torchvision wheel is compiled against the CUDA build of torch. Beside a CPU-only torch its library does not
load, the operators `torchvision::nms` and `torchvision::qnms` are never declared, and `import torchvision` stops at the
first line that mentions them. Transforms, models and data sets need neither: declaring the two schemas (names and
types, no code) is enough. What stays unavailable is the compiled half: non-maximum suppression and the other detection
operators raise when they are called, and so does the image decoder of `torchvision.io`. Decode with Pillow.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from functools import cache
from typing import TYPE_CHECKING

from diva.errors import DivaError

if TYPE_CHECKING:
    from types import ModuleType

    from torch.library import Library

_SYMPTOM = "operator torchvision::nms does not exist"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def import_torchvision() -> ModuleType:
    """Import torchvision, and make every later `import torchvision...` work.

    Where the plain import works nothing is changed. The first call imports torch, later ones are a dictionary look-up.
    Raises DivaError when torchvision is missing or fails for another reason than the one this module is about.
    """
    try:
        try:
            return _import_quietly()
        except RuntimeError as error:
            if _SYMPTOM not in str(error):
                raise
        _forget_half_imported()
        _declare_operators()
        return _import_quietly()
    except Exception as error:
        _forget_half_imported()
        raise DivaError(
            f"torchvision cannot be imported ({type(error).__name__}: {error}); it must fit the installed torch. "
            "Install both again and run: diva doctor"
        ) from error


def _import_quietly() -> ModuleType:
    """Import torchvision without its one warning that the image decoder is missing: diva decodes with Pillow."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Failed to load image Python extension", category=UserWarning)
        return importlib.import_module("torchvision")


def _forget_half_imported() -> None:
    """Drop what a failed import left behind, so that the next one starts from nothing."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


@cache
def _declare_operators() -> Library:
    """Declare the two operators, once; torch forgets them when the Library dies, so the cache keeps it alive."""
    from torch.library import Library

    library = Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    return library
