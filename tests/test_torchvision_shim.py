"""The shim is tested in fresh interpreters: whether an import works depends on what was imported before."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# A torchvision of five lines that behaves as the test says; torch itself is not needed for these.
FAKE = {
    "works": "loads = 1",
    "other": "import torchvision.half\nraise RuntimeError('compiled with different CUDA versions')",
    "nms": "import torchvision.half\nraise RuntimeError('operator torchvision::nms does not exist')",
}


def run_python(code: str, *path: Path, clean: bool = True) -> str:
    """Runs code in a fresh interpreter with every warning shown; with clean, not one line may reach stderr."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))}
    done = subprocess.run(
        [sys.executable, "-W", "always::UserWarning", "-c", textwrap.dedent(code)],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    if clean:
        assert done.stderr == ""
    return done.stdout


def write_fake(folder: Path, kind: str) -> Path:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(FAKE[kind] + "\n")
    (package / "half.py").write_text("")
    return folder


def test_transforms_models_and_datasets_work_after_the_shim():
    out = run_python("""
        from diva.torchvision_shim import import_torchvision
        torchvision = import_torchvision()
        assert import_torchvision() is torchvision, "the second call must change nothing"

        import numpy, torch, torchvision.datasets, torchvision.models
        from PIL import Image
        from torchvision.transforms import v2

        picture = Image.fromarray(numpy.arange(40 * 48 * 3, dtype=numpy.uint8).reshape(40, 48, 3))
        transform = v2.Compose([v2.PILToTensor(), v2.RandomResizedCrop(32), v2.RandAugment(), v2.RandomErasing(p=1.0),
                                v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)])
        image = transform(picture)
        assert image.shape == (3, 32, 32) and image.dtype == torch.float32

        model = torchvision.models.resnet18(num_classes=5)
        loss = model(image.expand(2, -1, -1, -1)).logsumexp(1).sum()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        assert len(torchvision.models.list_models(module=torchvision.models)) >= 50
        assert torchvision.datasets.FakeData(size=3, image_size=(3, 8, 8))[0][0].size == (8, 8)
        print("done")
    """)
    assert out == "done\n"


def test_only_the_missing_operator_makes_the_shim_declare_anything(tmp_path: Path):
    out = run_python(
        """
        import sys
        from diva import torchvision_shim
        first = torchvision_shim.import_torchvision()
        assert torchvision_shim.import_torchvision() is first and first.loads == 1
        print(torchvision_shim._declare_operators.cache_info().currsize, "torch" in sys.modules)
        """,
        write_fake(tmp_path, "works"),
    )
    assert out == "0 False\n"


def test_another_failure_is_one_clear_error_and_leaves_nothing_half_imported(tmp_path: Path):
    out = run_python(
        """
        import sys
        from diva import torchvision_shim
        from diva.errors import DivaError
        try:
            torchvision_shim.import_torchvision()
        except DivaError as error:
            print(error)
        print(torchvision_shim._declare_operators.cache_info().currsize, [m for m in sys.modules if "torchvision" in m])
        """,
        write_fake(tmp_path, "other"),
    )
    assert "compiled with different CUDA versions" in out
    assert "diva doctor" in out
    assert out.endswith("0 ['diva.torchvision_shim']\n")


def test_when_the_second_import_fails_too_the_error_says_so_and_a_later_call_may_try_again(tmp_path: Path):
    out = run_python(
        """
        import sys
        from diva import torchvision_shim
        from diva.errors import DivaError
        for _ in range(2):  # declaring an operator twice would be an error of its own
            try:
                torchvision_shim.import_torchvision()
            except DivaError as error:
                print("torchvision::nms does not exist" in str(error), [m for m in sys.modules if m == "torchvision"])
        """,
        write_fake(tmp_path, "nms"),
    )
    assert out == "True []\nTrue []\n"


def test_a_missing_torchvision_is_a_clear_error():
    out = run_python("""
        import sys
        sys.modules["torchvision"] = None
        from diva.errors import DivaError
        from diva.torchvision_shim import import_torchvision
        try:
            import_torchvision()
        except DivaError as error:
            print(error)
    """)
    assert "ModuleNotFoundError" in out


def test_other_warnings_of_torchvision_stay_visible(tmp_path: Path):
    package = write_fake(tmp_path, "works") / "torchvision" / "__init__.py"
    package.write_text(
        "import warnings\n"
        "warnings.warn('Failed to load image Python extension: libjpeg')\n"
        "warnings.warn('something a user should know')\n"
    )
    code = "import sys; sys.stderr = sys.stdout; from diva.torchvision_shim import import_torchvision as f; f()"
    out = run_python(code, tmp_path)
    assert "something a user should know" in out
    assert "image Python extension" not in out
