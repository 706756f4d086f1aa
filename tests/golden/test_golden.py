"""Bits that must not move: everywhere for what no kernel computes, per platform for trained weights.

`digits.json` holds the digests of weights by platform, since stock kernels differ between instruction sets and versions. On a platform
that it does not know, two runs must agree with each other, and the test is skipped with the line to add. A digest that changes on a
known platform is a broken promise: the change that moved it must say why (CONTRIBUTING.md).
"""

import io
import json
import platform
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from diva.data.catalogue import card, locate
from diva.data.images import decoder, image_statistics
from diva.data.layouts.class_folders import read_image_folders
from diva.data.loading import Batches
from diva.experiment.request import resolve
from diva.experiment.run import start
from diva.learning.digests import digest_order, digest_tensors
from diva.records.footprint import take
from diva.report.console import Console
from diva.seeding import Seeds

GOLDEN = json.loads((Path(__file__).parent / "digits.json").read_text(encoding="utf-8"))
EVERYWHERE, WEIGHTS = GOLDEN["everywhere"], GOLDEN["weights"]
# Instruction sets that PyTorch, MKL and oneDNN choose kernels by.
SETS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "sve", "asimd")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data root with the digits."""
    folder = tmp_path_factory.mktemp("golden") / "data"
    locate("digits", folder)
    return folder


def fingerprint():
    """What stock CPU kernels are chosen by, as one line."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    facts = {line.partition(":")[0].strip(): line.partition(":")[2].split() for line in text.splitlines()}
    flags = facts.get("flags") or facts.get("Features") or []
    parts = [
        f"torch {torch.__version__}",
        platform.system(),
        platform.machine(),
        *(facts.get("vendor_id") or [platform.processor() or "unknown vendor"]),
        torch.backends.cpu.get_cpu_capability(),
        "mkl" if torch.backends.mkl.is_available() else "no mkl",
        "onednn" if torch.backends.mkldnn.is_available() else "no onednn",
        "+".join(name for name in SETS if name in flags) or "unknown sets",
    ]
    return ", ".join(parts)


def trained(root, output, model):
    """The result of two epochs on the digits, seed 42."""
    flags = {
        "task": "image_classification",
        "seed": 42,
        "epochs": 2,
        "model": model,
        "data_root": str(root),
        "output": str(output),
        "device": "cpu",
        "threads": 1,
        "backend": "torch",
        "tensorboard": False,
    }
    request = resolve(flags, (), ("diva", "run"))
    return start(request, Console(io.StringIO(), io.StringIO()))


# The same on every machine


def test_keys_of_streams_are_golden():
    found = {name: str(Seeds(42).key(*json.loads(name))) for name in EVERYWHERE["keys"]}
    assert found == EVERYWHERE["keys"] and len(found) == 5


def test_words_of_streams_are_golden():
    assert Seeds(42).keys(4, "step", 1) == EVERYWHERE["step_keys"]


def test_orders_of_the_digits_are_golden():
    found = [digest_order(Seeds(42).order(1078, "shuffle", epoch)) for epoch in (1, 2, 20)]
    assert found == EVERYWHERE["orders"]


def test_the_first_batch_of_the_digits_is_golden(root):
    images = read_image_folders(root / "digits")["train"]
    batches = Batches(TensorDataset(torch.arange(len(images.paths))), Seeds(42), 64, shuffle=True)
    indices = next(iter(batches.epoch(1)))[0].tolist()
    assert indices[:8] == EVERYWHERE["first_batch"]
    assert [images.paths[i].relative_to(root / "digits").as_posix() for i in indices[:8]] == EVERYWHERE["first_images"]


def test_the_digits_footprint_is_golden(root):
    assert take(root / "digits").digest == card("digits").footprint == EVERYWHERE["footprint"]


def test_decoded_pixels_and_their_statistics_are_golden(root, tmp_path):
    """PNG is lossless: every decoder gives these pixels. The statistics are exact, so they are the same everywhere too."""
    folder = root / "digits"
    found = image_statistics(read_image_folders(folder), folder, "sha256:1", tmp_path / "cache.json")
    assert found == {**EVERYWHERE["statistics"], "decoder": decoder()}


def test_digests_of_tensors_are_golden():
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([True]), "c": torch.zeros(0, dtype=torch.int64)}
    assert digest_tensors(tensors) == EVERYWHERE["tensors"]


# The same on every machine of one platform


@pytest.mark.parametrize("model", ["small_cnn", "mlp"])
def test_trained_weights_are_golden(root, tmp_path, model):
    _, result = trained(root, tmp_path / "runs", model)
    assert (result["epochs"], result["steps"]) == (2, 34)
    found = {name: result[f"{name}_digest"] for name in ("initial_weights", "weights", "test_outputs")}
    known = WEIGHTS.get(fingerprint(), {}).get(model)
    if known is not None:
        assert found == known, f"other bits than recorded on: {fingerprint()}"
        return
    _, again = trained(root, tmp_path / "runs", model)
    assert {name: again[f"{name}_digest"] for name in found} == found
    assert again["trace_digest"] == result["trace_digest"]
    line = json.dumps({fingerprint(): {model: found}}, indent=1)
    pytest.skip(f"NO GOLDEN BITS FOR THIS PLATFORM; two runs agree. Add to tests/golden/digits.json, weights:\n{line}")


def test_a_platform_is_known_with_both_models_or_not_at_all():
    for models in WEIGHTS.values():
        assert set(models) == {"small_cnn", "mlp"}
        assert all(digest.startswith("sha256:") for found in models.values() for digest in found.values())


def test_initial_weights_are_those_of_every_known_platform():
    """They are drawn by PyTorch's own generator, not computed by kernels that differ."""
    for model in ("small_cnn", "mlp"):
        assert len({models[model]["initial_weights"] for models in WEIGHTS.values()}) <= 1
