#!/usr/bin/env bash
# Sets up diva: makes .venv in this folder and installs diva with everything it needs. Run it again at any time.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: ./setup_environment.sh [--dev] [--cpu | --gpu] [--python PATH]

Makes .venv in diva's folder, installs diva in it and ends with `diva doctor`. A second run checks and repairs.
Nothing outside the folder is changed, except pip's own cache. Linux and macOS, with or without a GPU.

  --dev           also install what is needed to test diva, to check it and to build its documentation, and all extras
  --cpu, --gpu    the build of PyTorch; default: the GPU build where nvidia-smi finds a GPU, else the CPU build
  --python PATH   the Python to use, 3.11 or newer; default: the first of python3.13, 3.12, 3.11, python3, python
  -h, --help      show this
EOF
}

say() { printf '%s\n' "$*"; }
fail() {
  printf 'setup_environment.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

# What a shell may carry over from another environment, and what would make pip install elsewhere.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV __PYVENV_LAUNCHER__ PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV

python=""
extras=""
build="auto"
wanted_python=""
while [ $# -gt 0 ]; do
  case "$1" in
    --dev) extras="dev,docs,hpo,sigopt,cluster,cuda" ;;
    --cpu) build="cpu" ;;
    --gpu) build="gpu" ;;
    --python)
      [ $# -ge 2 ] || fail "--python needs a path, for example: --python /usr/bin/python3.12" 2
      wanted_python="$2"
      shift
      ;;
    --python=*) wanted_python="${1#--python=}" ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) fail "unknown option $1; see: ./setup_environment.sh --help" 2 ;;
  esac
  shift
done

# A relative --python is relative to where the user is; everything else happens in diva's folder.
case "$wanted_python" in
  /* | "") ;;
  */*) wanted_python="$PWD/$wanted_python" ;;
esac
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
here="$(pwd -P)"
system="$(uname -s)"
case "$system" in
  Linux | Darwin) ;;
  *) fail "$system is not supported; on Windows use WSL 2" ;;
esac

# --- Python ---------------------------------------------------------------------------------------------------------

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
makes_venvs() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

how_to_get_python() {
  if command -v apt-get >/dev/null 2>&1; then
    say "Install it with: sudo apt-get install python3 python3-venv"
  elif [ "$system" = Darwin ]; then
    say "Install it from python.org, or with: brew install python@3.12"
  else
    say "Install it with your system's package manager"
  fi
  say "or name one that is elsewhere: ./setup_environment.sh --python PATH"
}

# Prints the first Python that is recent enough and can make virtual environments. A name on PATH proves nothing (pyenv
# leaves shims for versions that are not active), so each is run.
find_python() {
  local name without_venv=""
  for name in ${wanted_python:+"$wanted_python"} python3.13 python3.12 python3.11 python3 python; do
    if is_recent "$name"; then
      if makes_venvs "$name"; then
        command -v "$name"
        return
      fi
      without_venv="${without_venv:-$name}"
    fi
    [ -z "$wanted_python" ] || break
  done
  if [ -n "$without_venv" ]; then
    name="$("$without_venv" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')"
    fail "$without_venv has no venv module. On Ubuntu and Debian: sudo apt-get install $name-venv; then run this again"
  fi
  if [ -n "$wanted_python" ]; then
    fail "$wanted_python is no Python 3.11 or newer that runs. $(how_to_get_python)"
  fi
  fail "no Python 3.11 or newer was found. $(how_to_get_python)"
}

# Prints why the .venv that is here cannot be used, or nothing when it can.
fault_of_venv() {
  if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c '' >/dev/null 2>&1; then
    say "its Python does not run"
  elif ! is_recent .venv/bin/python; then
    say "its Python is older than 3.11"
  elif ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    say "its pip does not run"
  elif ! grep -qF -e "$here/.venv" -e "$PWD/.venv" .venv/bin/activate 2>/dev/null; then
    say "it was made for another folder"
  elif [ -n "$wanted_python" ] && ! same_version "$wanted_python" .venv/bin/python; then
    say "it is not of the Python that --python names"
  fi
}

same_version() {
  local program='import sys; print(sys.version_info[:3], sys.implementation.name)'
  [ "$("$1" -c "$program" 2>/dev/null)" = "$("$2" -c "$program")" ]
}

if [ -n "$wanted_python" ]; then
  python="$(find_python)" # a wrong --python is an error even where .venv is fine
fi
if [ -e .venv ] || [ -L .venv ]; then
  fault="$(fault_of_venv)"
  if [ -n "$fault" ]; then
    python="$(find_python)" # before anything is deleted
    say "Making .venv again: $fault"
    rm -rf .venv
  fi
fi
if [ ! -e .venv ]; then
  python="${python:-$(find_python)}"
  say "Making .venv with $("$python" --version) ($python)"
  "$python" -m venv .venv || {
    rm -rf .venv
    fail "$python -m venv failed (see above). On Ubuntu and Debian: sudo apt-get install python3-venv; then run this again"
  }
fi
python="$here/.venv/bin/python"

# --- Packages -------------------------------------------------------------------------------------------------------

# Prints what is missing, or nothing when diva is installed from this folder with all its requirements. A change of what
# is built or installed (pyproject.toml, native code) counts as missing. Argument: `seal` to record the present state.
missing() {
  "$python" - "$here" "$extras" "${1:-}" <<'EOF'
import hashlib, json, sys, tomllib
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlparse

from pip._vendor.packaging.requirements import Requirement

here, extras, seal = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
project = tomllib.loads((here / "pyproject.toml").read_text(encoding="utf-8"))["project"]
sources = [p for folder in ("native", "cuda") for p in (here / "diva/kernels" / folder).rglob("*") if p.is_file()]
inputs = [here / "pyproject.toml", *sorted(sources)]
state = hashlib.sha256(b"".join(p.read_bytes() for p in inputs)).hexdigest()
sealed = Path(sys.prefix, "diva-setup")
if seal:
    sealed.write_text(state)
groups = [project["dependencies"], *(project["optional-dependencies"][name] for name in extras.split(",") if name)]
missing = []
for requirement in map(Requirement, sum(groups, [])):
    try:
        if not requirement.specifier.contains(metadata.version(requirement.name), prereleases=True):
            missing.append(requirement.name)
    except metadata.PackageNotFoundError:
        missing.append(requirement.name)
try:
    origin = json.loads(metadata.distribution("diva").read_text("direct_url.json") or "{}")
    source = Path(unquote(urlparse(origin.get("url", "")).path))
    installed = source == here and Path(sys.prefix, "bin/diva").exists()
except metadata.PackageNotFoundError:
    installed = False
if not installed or not sealed.exists() or sealed.read_text() != state:
    missing.append("diva")
print(" ".join(missing))
EOF
}

# `pip install -e` with a pyproject.toml needs pip 21.3; 22.3 is the first made for Python 3.11.
pip_is_old() {
  "$python" -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) >= (22, 3))'
}

has_gpu() { nvidia-smi -L 2>/dev/null | grep -q GPU; }

# PyTorch's own index of small CPU builds; asked with a time limit, for many networks do not reach it. SIGALRM ends the
# question even while a name is being looked up.
cpu_index="https://download.pytorch.org/whl/cpu"
cpu_index_answers() {
  "$python" - "$cpu_index/torch/" >/dev/null 2>&1 <<'EOF'
import signal, sys, urllib.request
signal.alarm(3)
urllib.request.urlopen(urllib.request.Request(sys.argv[1], method="HEAD"), timeout=3)
EOF
}

# CMake, which compiles the kernels, looks for one of these.
has_compiler() { [ -n "${CXX:-}" ] || command -v c++ || command -v g++ || command -v clang++; }

lacking="$(missing)"
if [ -n "$lacking" ]; then
  has_compiler >/dev/null ||
    fail "diva's kernels are C++ and this machine has no C++ compiler. Debian, Ubuntu: sudo apt-get install g++. Fedora: sudo dnf install gcc-c++. macOS: xcode-select --install. Then run this again"
  if pip_is_old; then
    say "Upgrading $("$python" -m pip --version | cut -d ' ' -f 1-2) inside .venv"
    "$python" -m pip install --quiet --disable-pip-version-check --upgrade "pip>=22.3" ||
      say "pip could not be upgraded (see above); going on with the one that is there"
  fi
  index=()
  case " $lacking " in
    *" torch "*)
      chosen="$build"
      if [ "$chosen" = auto ]; then
        chosen="cpu"
        if [ "$system" = Linux ] && has_gpu; then chosen="gpu"; fi
      fi
      case ",$extras," in  # what compiles the exact kernels for a GPU; PyTorch's build for it brings most of that
        *,cuda,*) ;;
        *) if [ "$chosen" = gpu ]; then extras="${extras:+$extras,}cuda"; fi ;;
      esac
      if [ "$system" = Linux ] && [ "$chosen" = cpu ]; then
        if cpu_index_answers; then
          index=(--extra-index-url "$cpu_index")
        else
          say "PyTorch's index of CPU builds does not answer; taking the build that pip is offered here"
          chosen="default"
        fi
      fi
      say "Installing diva and PyTorch ($chosen build)${extras:+ with the extras $extras}; this takes minutes"
      ;;
    *) say "Installing $lacking" ;;
  esac
  emulator=()  # in which the tests run the GPU's kernels
  case ",$extras," in *,dev,*) emulator=(--config-settings=cmake.define.DIVA_EMULATOR=ON) ;; esac
  "$python" -m pip install --quiet --disable-pip-version-check --no-input --no-warn-script-location \
    ${index[@]+"${index[@]}"} ${emulator[@]+"${emulator[@]}"} --editable "$here${extras:+[$extras]}" ||
    fail "pip could not install diva (see above). Check the network and the free disk space, then run this again"
  lacking="$(missing seal)"
  [ -z "$lacking" ] || fail "pip has installed, but these are still missing: $lacking. Delete .venv and run this again"
else
  say "Everything is installed in .venv"
fi
if [ "$build" != auto ] && [ "$system" = Linux ]; then
  has="$("$python" -c 'from importlib import metadata; print("cpu" if "+cpu" in metadata.version("torch") else "gpu")')"
  [ "$has" = "$build" ] || say "Note: .venv holds a $has build of PyTorch. To choose again: delete .venv, then run this with --$build"
fi

exec "$here/.venv/bin/diva" doctor
