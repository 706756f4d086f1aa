"""NVIDIA's own compiler takes every GPU kernel, and makes nothing of it whose bits would be the hardware's choice; no GPU needed.

Every kernel is compiled for one generation of GPUs here and a sample of each file for three more; scripts/check_cuda compiles all for all.
"""

from __future__ import annotations

import importlib.util
import re
from collections import defaultdict

import pytest

from diva.errors import KernelError
from diva.kernels import library, nvrtc

WHOLE, PARTS, SAMPLE = 90, (75, 80, 100), 8

needs_nvrtc = pytest.mark.skipif(
    importlib.util.find_spec("cuda") is None,
    reason="needs NVRTC (pip install 'diva[cuda]'): the GPU's kernels are NOT compiled here",
)


def kernels() -> dict[str, list[str]]:
    found = defaultdict(list)
    for line in library.load("emulated").cuda_kernels().decode().splitlines():
        file, name = line.split("\t")
        found[file].append(name)
    return dict(sorted(found.items()))


@needs_nvrtc
@pytest.mark.parametrize("file", sorted(path.name for path in library.CUDA_SOURCES.glob("*.cu")))
def test_every_kernel_compiles_to_fixed_operations(file: str) -> None:
    listed = kernels().get(file, [])
    if not listed:  # host functions alone
        assert "__global__" not in (library.CUDA_SOURCES / file).read_text()
        return
    made = nvrtc.compile_kernels(file, listed, f"compute_{WHOLE}")
    assert set(made.symbols) == set(listed) and made.log == ""
    assert nvrtc.forbidden(made.image.decode()) == []
    for target in PARTS:
        part = nvrtc.compile_kernels(file, listed[::SAMPLE], f"compute_{target}")
        assert nvrtc.forbidden(part.image.decode()) == []
        assert f".target sm_{target}" in part.image.decode()


@needs_nvrtc
def test_what_is_made_for_a_gpu_is_a_cubin_with_the_kernel() -> None:
    name = kernels()["pooling_maxima.cu"][0]
    made = nvrtc.compile_kernels("pooling_maxima.cu", [name], "sm_90")
    assert made.image[:4] == b"\x7fELF" and made.symbols[name].encode() in made.image


@needs_nvrtc
def test_an_error_in_a_kernel_is_said_with_its_file() -> None:
    with pytest.raises(KernelError, match=r"pooling_maxima\.cu: NVRTC .*no_such_kernel"):
        nvrtc.compile_kernels("pooling_maxima.cu", ["dk::no_such_kernel<float>"], "compute_90")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("add.f32 %f1, %f2, %f3;", "contracted"),
        ("mul.f64 %fd1, %fd2, %fd3;", "contracted"),
        ("add.rn.ftz.f32 %f1, %f2, %f3;", "denormals"),
        ("ex2.approx.f32 %f1, %f2;", "approximates"),
        ("div.full.f32 %f1, %f2, %f3;", "approximates"),
        ("red.global.add.f32 [%rd1], %f1;", "no order"),
        ("atom.global.add.f64 %fd1, [%rd1], %fd2;", "no order"),
    ],
)
def test_what_would_not_be_fixed_is_found(line: str, why: str) -> None:
    (found,) = nvrtc.forbidden(f"\tadd.rn.f32 %f1, %f2, %f3;\n\t{line}\n")
    assert why in found and found.startswith("line 2:")


def test_fixed_operations_pass() -> None:
    text = "fma.rn.f32 %f1, %f2, %f3, %f4;\nmul.rn.f64 %fd1, %fd2, %fd3;\ndiv.rn.f32 %f1, %f2, %f3;\natom.global.add.u32 %r1, [%rd1], 1;\n"
    assert (
        nvrtc.forbidden(text + "// ex2.approx.f32 in a comment\nsqrt.rn.f32 %f1, %f2;\nmad.lo.s32 %r1, %r2, %r3, %r4;")
        == []
    )


def test_a_kernel_in_several_files_comes_from_a_header() -> None:
    """All are linked into one library, which would silently take one of two texts for both."""
    places = defaultdict(list)
    for file, names in kernels().items():
        for name in names:
            places[re.sub(r"<.*", "", name)].append(file)
    assert len(places) > 100
    for name, files in places.items():
        defining = [
            file
            for file in set(files)
            if re.search(rf"\b{name.rpartition('::')[2]}\(", (library.CUDA_SOURCES / file).read_text())
        ]
        assert len(set(files)) == 1 or not defining, f"{name}: {files}"
