"""An environment tells what can change bits, says what it does not know, and tells no secrets."""

import json
import os
import socket

import pytest
from packaging.requirements import Requirement

from diva.records import environment

X86 = """processor\t: 0
model name\t: AMD EPYC 9654
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu sse4_2 avx avx2 fma avx512f amx_tile smep

processor\t: 1
model name\t: AMD EPYC 9654
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu sse4_2 avx avx2 fma avx512f amx_tile smep

processor\t: 2
model name\t: AMD EPYC 9654
physical id\t: 1
core id\t\t: 0
flags\t\t: fpu sse4_2 avx avx2 fma avx512f amx_tile smep
"""
ARM = """processor\t: 0
Features\t: fp asimd evtstrm sve sve2 i8mm bf16
CPU implementer\t: 0x41
CPU part\t: 0xd0c
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Put an nvidia-smi on the path that does what a given shell script does."""

    def install(script):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return install


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Make a package look installed."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name, version, direct_url=None):
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if direct_url is not None:
            (folder / "direct_url.json").write_text(json.dumps(direct_url))

    return install


def test_an_environment_is_json_and_tells_the_machine():
    facts = environment.describe({"threads": 2})
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["python"]["version"].startswith("3.") and facts["cpu"]["n_logical"] == os.cpu_count()
    assert facts["packages"]["pytest"] == pytest.__version__ and facts["torch"] == {"threads": 2}
    assert facts["memory_bytes"] > 1 << 20


def test_no_host_user_or_home_is_told(monkeypatch):
    monkeypatch.setenv("HOME", "/home/annabelle")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/home/annabelle/lib:/usr/lib")
    monkeypatch.setenv("TORCH_HOME", "/home/annabelle")
    monkeypatch.setenv("TORCH_MIRROR", "https://annabelle:pw@host/x")
    facts = environment.describe()
    text = json.dumps(facts)
    assert "annabelle" not in text and socket.gethostname() not in text
    assert facts["variables"]["LD_LIBRARY_PATH"] == "~/lib:/usr/lib"
    assert facts["variables"]["TORCH_HOME"] == "~"
    assert facts["variables"]["TORCH_MIRROR"] == "https://host/x"


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_CBWR", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE"])
def test_variables_that_can_change_bits_are_told(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert environment.describe()["variables"][name] == "1"


@pytest.mark.parametrize("name", ["DIVA_API_TOKEN", "CUDA_SECRET", "TORCH_KEY_X", "DIVA_password", "PATH", "USER"])
def test_secrets_and_other_variables_are_not_told(monkeypatch, name):
    monkeypatch.setenv(name, "hush")
    assert name not in environment.describe()["variables"]


@pytest.mark.parametrize("name", ["KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR"])
def test_what_libraries_set_when_they_are_imported_is_not_told(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert name not in environment.describe()["variables"]


def test_what_is_unknown_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(environment, "SIGNS_OF_NVIDIA", (tmp_path / "nothing", tmp_path))
    monkeypatch.setattr(environment, "CPUINFO", tmp_path / "cpuinfo")
    facts = environment.describe()
    assert facts["gpu"] == [] and facts["cpu"]["model"] is None
    for word in ("torch", "nvidia-smi", "CPU model", "instruction sets", "cores"):
        assert any(word in sentence for sentence in facts["missing"]), word


def test_without_a_sign_of_a_gpu_nothing_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(environment, "SIGNS_OF_NVIDIA", (tmp_path / "nothing",))
    facts = environment.describe()
    assert facts["gpu"] == [] and not any("nvidia" in sentence.lower() for sentence in facts["missing"])


def test_gpus_are_read_from_nvidia_smi(smi):
    smi("echo 'name, driver_version, memory.total [MiB]'; echo 'NVIDIA H100, 550.54.14, 81559 MiB'")
    facts = environment.describe()
    assert facts["gpu"] == [{"name": "NVIDIA H100", "driver": "550.54.14", "memory": "81559 MiB"}]
    assert not any("nvidia" in sentence for sentence in facts["missing"])


@pytest.mark.parametrize("script", ["echo 'no devices'; exit 6", "echo 'driver mismatch'"])
def test_an_nvidia_smi_that_fails_is_said(smi, script):
    smi(script)
    facts = environment.describe()
    assert facts["gpu"] == [] and any("did not answer" in sentence for sentence in facts["missing"])


def test_processors_are_read_on_x86_and_arm():
    assert environment._cpu_of_linux(X86) == {
        "model": "AMD EPYC 9654",
        "n_physical": 2,
        "instruction_sets": ["amx_tile", "avx", "avx2", "avx512f", "fma", "sse4_2"],
    }
    arm = environment._cpu_of_linux(ARM)
    assert arm["model"] == "ARM implementer 0x41 part 0xd0c"
    assert arm["instruction_sets"] == ["asimd", "bf16", "i8mm", "sve", "sve2"]


def test_every_line_of_the_requirements_can_be_installed(installed):
    installed("Local_Tool", "1.0", {"url": "file:///srv/tool", "dir_info": {"editable": True}})
    installed("forked", "2.0", {"url": "https://me:token@host/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}})
    installed("ancient", "2004d")
    installed("pre", "1.0rc1.post2.dev3+cpu.7")
    facts = environment.describe()
    lines = environment.requirements(facts).splitlines()
    assert lines[0] == f"# python {facts['python']['version']}"
    pinned = [Requirement(line) for line in lines if not line.startswith("#")]
    assert len(pinned) == len(facts["packages"]) - 3 - len(facts["direct"].keys() - {"local-tool", "forked"}) >= 10
    assert "# local-tool 1.0 is from no registry: editable" in lines
    assert "# forked 2.0 is from no registry: https://host/x.git at commit abc" in lines
    assert any(line.startswith("# ancient 2004d") for line in lines) and "pre==1.0rc1.post2.dev3+cpu.7" in lines


@pytest.mark.parametrize(
    ("direct_url", "told"),
    [
        ({"url": "file:///srv/x", "dir_info": {"editable": True}}, "editable"),
        ({"url": "file:///srv/x", "dir_info": {}}, "local folder"),
        ({"url": "file:///srv/x.whl", "archive_info": {}}, "local file"),
        ({"url": "file:///srv/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}, "local folder at commit abc"),
        ({"url": "https://me:pw@host/x.whl?key=1", "archive_info": {}}, "https://host/x.whl"),
        ({"url": None}, "a place that its metadata do not tell"),
        ([], "a place that its metadata do not tell"),
    ],
)
def test_where_a_package_came_from_is_told_without_paths_and_credentials(installed, direct_url, told):
    installed("tool", "1.0", direct_url)
    assert environment.describe()["direct"]["tool"] == told


def test_of_two_installed_versions_the_one_that_would_be_imported_counts(installed):
    installed("pytest", "0.1")
    assert environment.describe()["packages"]["pytest"] == "0.1"


def test_a_package_without_metadata_is_said_not_dropped(tmp_path, monkeypatch):
    (tmp_path / "broken-1.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert any("metadata are damaged" in sentence for sentence in environment.describe()["missing"])


def changed(what, value):
    """Two small environments that differ in one fact."""

    def make():
        return {
            "python": {"version": "3.11.7", "compiler": "GCC 12"},
            "os": {"release": "6.1", "libc": "glibc 2.36"},
            "cpu": {"model": "A", "instruction_sets": ["avx", "avx2"]},
            "memory_bytes": 1,
            "gpu": [{"name": "H100", "driver": "550", "memory": "81559 MiB"}],
            "packages": {"torch": "2.12.0", "pytest": "8.0", "nvidia-cudnn-cu12": "9"},
            "variables": {"OMP_NUM_THREADS": "2"},
            "torch": {"blas": "MKL", "threads": 2, "cudnn": None},
            "missing": [],
        }

    then, now = make(), make()
    place = now
    for key in what[:-1]:
        place = place[key]
    if value is None:
        del place[what[-1]]
    else:
        place[what[-1]] = value
    return then, now


@pytest.mark.parametrize(
    ("what", "value", "matters"),
    [
        (("packages", "torch"), "2.13.0", True),
        (("packages", "pillow"), "11.0", True),
        (("packages", "nvidia-cudnn-cu12"), None, True),
        (("python", "version"), "3.12.0", True),
        (("cpu", "model"), "B", True),
        (("cpu", "instruction_sets"), ["avx"], True),
        (("gpu", 0, "driver"), "560", True),
        (("gpu", 0, "memory"), "40960 MiB", False),
        (("variables", "MKL_CBWR"), "AVX2", True),
        (("variables", "OMP_NUM_THREADS"), None, True),
        (("torch", "blas"), "OpenBLAS", True),
        (("torch", "threads"), 4, True),
        (("torch", "cudnn"), 90100, True),
        (("os", "libc"), "glibc 2.39", True),
        (("python", "version"), "3.11.9", False),
        (("python", "compiler"), "Clang", False),
        (("packages", "pytest"), "9.0", False),
        (("os", "release"), "6.8", False),
        (("memory_bytes",), 2, False),
    ],
)
def test_a_difference_says_whether_it_can_change_bits(what, value, matters):
    found = environment.differences(*changed(what, value))
    assert [(difference.what, difference.can_change_bits) for difference in found] == [
        (".".join(map(str, what)), matters)
    ]
    assert found[0].then != found[0].now and (value is None) == (found[0].now is None)


def test_equal_environments_do_not_differ_whatever_was_missing():
    facts = environment.describe()
    assert environment.differences(facts, {**json.loads(json.dumps(facts)), "missing": ["other"]}) == []


def test_diva_itself_is_not_compared():
    then, now = changed(("packages", "diva"), "0.2")
    now["direct"] = {"diva": "editable"}
    assert environment.differences(then, now) == []


def test_what_can_change_bits_comes_first():
    then, now = changed(("memory_bytes",), 2)
    now["torch"]["threads"] = 8
    assert [difference.what for difference in environment.differences(then, now)] == ["torch.threads", "memory_bytes"]
