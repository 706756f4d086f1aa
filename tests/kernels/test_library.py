"""The library: found by its sources' digest, one per instruction set, its functions declared by the C headers."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diva.errors import KernelError, UsageError
from diva.kernels import library
from diva.kernels.library import native

ROOT = Path(__file__).resolve().parents[2]


def python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env}
    return subprocess.run([sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True)


def test_every_instruction_set_of_this_machine_is_built():
    found = library.available()
    assert "scalar" in found
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    assert ("avx2" in found) == (" avx2 " in flags and platform.machine() == "x86_64")
    assert ("avx512" in found) == (" avx512vl " in flags and " avx512dq " in flags)


def test_neon_runs_natively_or_in_the_emulator():
    if "neon" not in library.available():
        import emulated  # the conftest's

        pytest.skip(f"NEON is NOT compared here: {emulated.missing()}")
    assert native.use("neon").instruction_set() == b"neon"


@pytest.mark.parametrize("name", library.available())
def test_each_library_says_what_it_is_and_what_it_was_built_from(name):
    chosen = native.use(name)
    assert chosen.instruction_set().decode() == name
    assert chosen.source_digest().decode() == library.source_digest(name in library.GPU_LIBRARIES)


def test_the_variable_forces_an_instruction_set():
    code = "from diva.kernels.library import native; print(native.instruction_set().decode())"
    assert python(code, DIVA_KERNELS_ISA="scalar").stdout.strip() == "scalar"


def test_an_unknown_instruction_set_is_refused():
    with pytest.raises(UsageError, match="DIVA_KERNELS_ISA=sse: allowed are"):
        native.use("sse")


def test_a_type_without_kernels_is_refused_with_what_to_do():
    import torch

    with pytest.raises(KernelError, match=r"float32 and float64, not in torch.bfloat16.*--backend torch") as caught:
        native[torch.bfloat16]
    assert caught.value.exit_code == 6


def test_threads_are_kept_when_the_library_changes():
    native.use("scalar")
    native.set_threads(3)
    assert native.use(library.choose()).threads() == 3


def test_sources_without_a_library_are_compiled_once(tmp_path):
    """The diva that a run recorded has sources only, perhaps others than those installed."""
    if shutil.which("cmake") is None:
        pytest.skip("needs cmake: recorded sources are NOT compiled here")
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "diva", tree / "diva", ignore=shutil.ignore_patterns("*.so", "*.dylib", "__pycache__"))
    native_folder = tree / "diva" / "kernels" / "native"
    for path in native_folder.glob("*.cpp"):  # other sources, and few: it is the finding that is tested
        if path.name != "pool.cpp":
            path.unlink()
    for path in native_folder.glob("*.h"):
        if path.name not in ("pool.h", "diva_kernels.h"):
            path.unlink()
    shutil.rmtree(tree / "diva" / "kernels" / "cuda")
    header = native_folder / "diva_kernels.h"
    kept = [line for line in header.read_text().splitlines() if not line.startswith('#include "')]
    header.write_text("\n".join(kept) + "\n")
    code = (
        "from diva.kernels import library; library.native.use('scalar'); "
        "print(library.native.source_digest().decode() == library.source_digest(), library._find('scalar').parent)"
    )
    env = {"PYTHONPATH": str(tree), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    first, second = python(code, **env), python(code, **env)
    assert first.stdout.split()[0] == "True", first.stderr
    assert str(tmp_path / "cache") in first.stdout
    assert "compiling" in first.stderr
    assert "compiling" not in second.stderr
    assert second.stdout == first.stdout


def test_a_machine_without_a_compiler_is_told_what_to_install(tmp_path):
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("needs cmake: the message is NOT checked here")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("make", "ninja", "sh"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    environment = {"PATH": str(tools), "HOME": str(tmp_path)}
    command = [cmake, "-S", str(library.SOURCES), "-B", str(tmp_path / "build")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "no C++ compiler" in " ".join(done.stderr.split()) and "apt install g++" in done.stderr
