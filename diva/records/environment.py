"""Environments: the machine, the libraries and the variables that a run had, and what differs from them here."""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diva.records import files
from diva.records.checkout import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CPUINFO = Path("/proc/cpuinfo")
SIGNS_OF_NVIDIA = (Path("/proc/driver/nvidia"), Path("/dev/nvidia0"))

# Names and beginnings of names of the variables that can change bits.
VARIABLES = (
    *("ATEN_", "BLIS_", "CUBLAS", "CUDA_", "CUDNN_", "DNNL_", "DYLD_", "GOMP_", "GOTO_", "KMP_", "MKL_"),
    *("NCCL_", "NPY_", "NUMEXPR_", "OMP_", "ONEDNN_", "OPENBLAS_", "PYTORCH_", "TORCH", "TRITON_", "VECLIB_"),
    *("GLIBC_TUNABLES", "LD_LIBRARY_PATH", "LD_PRELOAD", "NVIDIA_TF32_OVERRIDE", "PYTHONHASHSEED", "PYTHONOPTIMIZE"),
)
# What scikit-learn, threadpoolctl (KMP_) and torch (TORCHINDUCTOR_) set when they are imported: told or not by what was
# imported before, and none changes bits.
SET_BY_LIBRARIES = ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR")
SECRETS = ("TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL")

_INSTRUCTION_SETS = re.compile(
    r"sse4_1|sse4_2|avx|avx2|fma|f16c|avx_\w+|avx512\w*|amx\w*|neon|asimd\w*|sve\w*|sme|sme\d\w*|sme_\w+|bf16|i8mm"
)
_NUMERIC_PACKAGES = re.compile(
    r"torch|torchvision|torchaudio|numpy|scipy|pillow|pillow-simd|scikit-learn|nvidia-.*|triton|mkl|intel-openmp"
    r"|opencv-.*|cupy-.*"
)
_BIT_CHANGING = re.compile(
    r"torch\..*|variables\..*|gpu\.\d+\.(name|driver)|cpu\.model|cpu\.instruction_sets|machine|os\.system|os\.libc"
    r"|python\.implementation"
)
# Sentences are no facts, and the manifest tells by its digest which diva ran.
_NOT_COMPARED = ("missing", "packages.diva", "direct.diva")
# The versions and names that pip accepts in `name==version` (PEP 440, PEP 508).
_PINNABLE_VERSION = re.compile(
    r"v?(\d+!)?\d+(\.\d+)*([-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?\d*)?(-\d+|[-_.]?(post|rev|r)[-_.]?\d*)?"
    r"([-_.]?dev[-_.]?\d*)?(\+[a-z0-9]+([-_.][a-z0-9]+)*)?",
    re.IGNORECASE,
)
_PINNABLE_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.IGNORECASE)


@dataclass(frozen=True)
class Difference:
    """One fact that was so `then` and is so `now`; None stands for absent."""

    what: str
    then: Any
    now: Any
    can_change_bits: bool


def describe(torch_facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What can matter for the bits of a run on this machine, as JSON; never a host, user or absolute home path.

    `torch_facts` (threads, BLAS, CUDA, cuDNN, ...) comes from a caller that may import torch. What could not be found
    out is a sentence in `missing`, to be shown to the user.
    """
    missing: list[str] = []
    packages, direct = _packages(missing)
    if torch_facts is None:
        missing.append("torch was not asked: threads, BLAS, CUDA and cuDNN are unknown.")
    return {
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "compiler": platform.python_compiler(),
        },
        "os": _system(),
        "machine": platform.machine(),
        "cpu": _cpu(missing),
        "memory_bytes": _memory(missing),
        "gpu": _gpus(missing),
        "packages": packages,
        "direct": direct,
        "variables": _variables(os.environ),
        "torch": dict(torch_facts) if torch_facts is not None else None,
        "missing": missing,
    }


def requirements(environment: Mapping[str, Any]) -> str:
    """The packages as pinned requirements for pip; what no registry has, or pip could not read, becomes a comment."""
    lines = [f"# python {environment['python']['version']}"]
    direct = environment.get("direct", {})
    for name, version in sorted(environment["packages"].items()):
        if name in direct:
            lines.append(f"# {name} {version} is from no registry: {files.printable(direct[name])}")
        elif _PINNABLE_NAME.fullmatch(name) and _PINNABLE_VERSION.fullmatch(version):
            lines.append(f"{name}=={version}")
        else:
            lines.append(f"# {files.printable(f'{name} {version}')} has a version that pip cannot pin")
    return "\n".join(lines) + "\n"


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Everything that differs between two environments: what can change bits first, then by name."""
    old, new = _facts(then), _facts(now)
    found = [
        Difference(what, old.get(what), new.get(what), _can_change_bits(what, old.get(what), new.get(what)))
        for what in old.keys() | new.keys()
        if old.get(what) != new.get(what)
    ]
    return sorted(found, key=lambda difference: (not difference.can_change_bits, difference.what))


def _facts(environment: Mapping[str, Any]) -> dict[str, Any]:
    facts = (fact for section, value in environment.items() for fact in _flat(section, value))
    return {what: value for what, value in facts if what not in _NOT_COMPARED}


def _flat(what: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Nested dicts and lists of dicts as dotted names; a list of words is one fact."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{what}.{key}", inner)
    elif isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
        for index, inner in enumerate(value):
            yield from _flat(f"{what}.{index}", inner)
    else:
        yield what, " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _can_change_bits(what: str, then: Any, now: Any) -> bool:
    if what == "python.version":
        return str(then).split(".")[:2] != str(now).split(".")[:2]
    section, _, name = what.partition(".")
    if section in ("packages", "direct"):
        return bool(_NUMERIC_PACKAGES.fullmatch(name))
    return bool(_BIT_CHANGING.fullmatch(what))


def _system() -> dict[str, str | None]:
    libc = " ".join(platform.libc_ver()).strip()
    try:
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        distribution = f"macOS {platform.mac_ver()[0]}" if sys.platform == "darwin" else None
    return {
        "system": platform.system(),
        "release": platform.release(),
        "distribution": distribution,
        "libc": libc or None,
    }


def _cpu(missing: list[str]) -> dict[str, Any]:
    facts = _cpu_of_macos() if sys.platform == "darwin" else _cpu_of_linux(_text_of(CPUINFO))
    for key, name in (("model", "CPU model"), ("instruction_sets", "CPU's instruction sets"), ("n_physical", "cores")):
        if not facts[key]:
            missing.append(f"the {name} could not be found out.")
    return {**facts, "n_logical": os.cpu_count(), "n_usable": _n_usable()}


def _cpu_of_linux(cpuinfo: str) -> dict[str, Any]:
    """Model, cores and instruction sets from the text of /proc/cpuinfo, which each architecture words differently."""
    fields = re.findall(r"^([^\n:]*?)[ \t]*:[ \t]*(.*)$", cpuinfo, re.MULTILINE)
    first: dict[str, str] = dict(reversed(fields))
    ids = [value for key, value in fields if key in ("physical id", "core id")]
    arm = f"ARM implementer {first.get('CPU implementer')} part {first.get('CPU part')}"
    model = first.get("model name") or first.get("Model") or (arm if "CPU part" in first else None)
    return {
        "model": model,
        "n_physical": len(set(zip(ids[::2], ids[1::2], strict=False))) or None,
        "instruction_sets": _instruction_sets(first.get("flags", first.get("Features", ""))),
    }


def _cpu_of_macos() -> dict[str, Any]:
    names = ("machdep.cpu.brand_string", "hw.physicalcpu", "machdep.cpu.features", "machdep.cpu.leaf7_features")
    model, physical, *features = (_output("sysctl", "-n", name) or "" for name in names)
    flags = " ".join(features).lower().replace("sse4.", "sse4_").replace("avx1.0", "avx")
    return {
        "model": model or None,
        "n_physical": int(physical) if physical.isdigit() else None,
        "instruction_sets": _instruction_sets(flags or ("neon" if platform.machine() == "arm64" else "")),
    }


def _instruction_sets(flags: str) -> list[str]:
    return sorted({flag for flag in flags.split() if _INSTRUCTION_SETS.fullmatch(flag)})


def _n_usable() -> int | None:
    """The logical cores that this process may use, fewer than there are under taskset or a batch system."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()


def _memory(missing: list[str]) -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        missing.append("the amount of memory could not be found out.")
        return None


def _gpus(missing: list[str]) -> list[dict[str, str]]:
    """The NVIDIA GPUs that the driver's own tool lists; other makers are not looked for."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        if any(sign.exists() for sign in SIGNS_OF_NVIDIA):
            missing.append("an NVIDIA driver is here but no nvidia-smi: GPUs and their driver are unknown.")
        return []
    output = _output(tool, "--query-gpu=name,driver_version,memory.total", "--format=csv")
    rows = list(csv.reader((output or "").splitlines(), skipinitialspace=True))
    if output is None or any(len(row) != 3 for row in rows):
        missing.append("nvidia-smi is here but did not answer: GPUs and their driver are unknown.")
        return []
    return [{"name": name, "driver": driver, "memory": memory} for name, driver, memory in rows[1:]]


def _packages(missing: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Versions by canonical name, and where those come from that no registry gave; the first on the path counts."""
    packages: dict[str, str] = {}
    direct: dict[str, str] = {}
    for distribution in metadata.distributions():
        facts = distribution.metadata
        if not facts or "Name" not in facts or "Version" not in facts:
            missing.append("an installed package does not tell its name and version: its metadata are damaged.")
            continue
        name, version = facts["Name"], facts["Version"]
        canonical = re.sub(r"[-_.]+", "-", name).lower()
        if canonical not in packages:
            packages[canonical] = version
            origin = distribution.read_text("direct_url.json")
            direct |= {canonical: _origin(origin)} if origin else {}
    return dict(sorted(packages.items())), dict(sorted(direct.items()))


def _origin(direct_url: str) -> str:
    """Where a local or version-controlled install came from (direct_url.json); never a path, user or password."""
    try:
        facts = json.loads(direct_url)
        url, commit = facts["url"], facts.get("vcs_info", {}).get("commit_id")
        if facts.get("dir_info", {}).get("editable"):
            place = "editable"
        elif url.startswith("file:") or "dir_info" in facts:
            place = "local file" if "archive_info" in facts else "local folder"
        else:
            place = without_credentials(url)
    except (ValueError, TypeError, KeyError, AttributeError):
        return "a place that its metadata do not tell"
    return f"{place} at commit {commit}" if commit else place


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that can change bits, without anything that may be secret."""
    return {name: _without_secrets(environ[name]) for name in sorted(environ) if _is_recorded(name)}


def _is_recorded(name: str) -> bool:
    is_secret = any(word in name.upper() for word in SECRETS)
    return name.startswith(VARIABLES) and name not in SET_BY_LIBRARIES and not is_secret


def _without_secrets(value: str) -> str:
    return files.hide_home(re.sub(r"(://)[^/@\s]*@", r"\1", value))


def _output(*command: str) -> str | None:
    """What a program prints; None when it is absent, fails, or says nothing for 20 seconds."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
