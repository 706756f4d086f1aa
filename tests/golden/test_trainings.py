"""Five trainings reach the digests that they reach on every machine, whatever computes them here.

More settings, stock PyTorch held to lesser libraries and ARM in an emulator: scripts/check_bits.
"""

from __future__ import annotations

import pytest
import torch

from diva.experiment.proof import DIGESTS, TRAININGS, train
from diva.kernels import library
from diva.kernels.exact import exact

SETTINGS = [
    (name, threads, training)
    for name in library.available()
    for threads in ((1, 3) if name == library.available()[0] else (2,))
    for training in TRAININGS
    if name != "scalar" or training in ("unet", "transformer")  # the others take it half a minute
] + [("emulated", 1, training) for training in TRAININGS if training != "resnet"]  # a GPU's kernels; that takes minutes


@pytest.fixture(autouse=True)
def _as_found():
    threads = torch.get_num_threads()
    yield
    library.native.use()
    torch.set_num_threads(threads)


def test_every_training_is_known():
    assert list(DIGESTS) == list(TRAININGS) and len(SETTINGS) >= 7


@pytest.mark.parametrize(("name", "threads", "training"), SETTINGS)
def test_the_digest_is_the_same_everywhere(name, threads, training):
    library.native.use(name)
    torch.set_num_threads(threads)
    with exact():
        assert train(training) == DIGESTS[training]
