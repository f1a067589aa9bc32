#!/usr/bin/env bash
# Sets up .venv with Outcrop and what it needs, and says what it is doing, how large that is and how far it is. `make` calls it.
#
#   deploy/install.sh [EXTRAS]     extras of pyproject.toml, separated by commas
#
# PYTHON       which Python makes .venv (python3)
# TORCH_INDEX  a package index with other builds of PyTorch; the page "Get started" of pytorch.org gives its address. Without it, the
#              build for the processor alone is taken where this machine has no NVIDIA driver and pip's own indexes have that build.
set -euo pipefail
cd "$(dirname "$0")/.."
extras=${1:-}
python=.venv/bin/python
install=("$python" -m pip --disable-pip-version-check install --quiet -c constraints.txt)

nvidia() { [ -e /proc/driver/nvidia/version ] || nvidia-smi -L >/dev/null 2>&1; }

# GB that .venv and the packages on their way there take: measured on Linux with Python 3.11, rounded up.
cuda_gb=10 cpu_gb=6
[ -z "$extras" ] || cuda_gb=12 cpu_gb=8

megabytes() { { du -sm .venv 2>/dev/null || echo 0; } | sed 's/[^0-9].*//'; }

# Runs a command, and says every ten seconds how much is there: pip's own progress would be hundreds of lines. The command stays
# in front, so that Ctrl-C reaches it.
reporter=
trap '[ -z "$reporter" ] || kill "$reporter" 2>/dev/null || true' EXIT
watched() {
  local what=$1 begun=$SECONDS status=0
  shift
  echo "$what" >&2
  while sleep 1; do
    [ $(((SECONDS - begun) % 10)) != 9 ] || echo "  … $((SECONDS - begun)) s, .venv has $(megabytes) MB" >&2
  done &
  reporter=$!
  "$@" || status=$?
  kill "$reporter" 2>/dev/null || true
  wait "$reporter" 2>/dev/null || true
  reporter=
  [ "$status" != 0 ] || echo "  done in $((SECONDS - begun)) s, .venv has $(megabytes) MB" >&2
  return "$status"
}

# What constraints.txt names for a package on this machine, as in torch==2.9.1.
pinned() {
  "$python" - "$1" <<'PY'
import sys
from pip._vendor.packaging.requirements import Requirement

for line in open("constraints.txt", encoding="utf-8"):
    if line.startswith(f"{sys.argv[1]}=="):
        one = Requirement(line.strip())
        if one.marker is None or one.marker.evaluate():
            print(f"{one.name}{one.specifier}")
PY
}

# Whether .venv has the PyTorch of constraints.txt, in whichever build.
has_torch() {
  [ "torch==$("$python" -c 'import importlib.metadata as m; print(m.version("torch").partition("+")[0])' 2>/dev/null)" = "$(pinned torch)" ]
}

# PyTorch, the largest part. Where another build was asked for, or would do, and cannot be had, the one of constraints.txt comes
# with everything else.
torch() {
  if has_torch; then return; fi
  if [ -n "${TORCH_INDEX:-}" ]; then
    watched "PyTorch from TORCH_INDEX" "${install[@]}" --no-deps --index-url "$TORCH_INDEX" torch torchvision ||
      echo "TORCH_INDEX cannot be reached, or has no $(pinned torch) for this machine: taking the usual build" >&2
  elif [ "$(uname -s)" = Linux ] && ! nvidia; then
    watched "PyTorch for the processor alone, since this machine has no NVIDIA driver" processor_build ||
      echo "  pip's indexes have no such build: taking the usual one, with 3.3 GB of NVIDIA's libraries (TORCH_INDEX names another index)" >&2
  fi
}

processor_build() {
  "${install[@]}" --no-deps "$(pinned torch)+cpu" "$(pinned torchvision)+cpu" 2>/dev/null
}

# What is needed, said before anything is fetched; refused where it does not fit.
free=$(($(df -Pk . | awk 'NR == 2 { print $4 }') / 1024 / 1024))
need=$cuda_gb
if [ "$(uname -s)" != Linux ]; then need=$cpu_gb; fi
if [ ! -x "$python" ] || [ "$(megabytes)" -lt 2000 ]; then
  echo "setting up .venv, once: about $need GB of disk ($free GB are free), up to 3 GB to download, some minutes" >&2
  if [ "$free" -lt "$need" ]; then
    echo "error: $PWD has $free GB free and $need GB are needed; make room, or use another disk" >&2
    exit 3
  fi
fi
[ -x "$python" ] || "${PYTHON:-python3}" -m venv .venv
torch
watched "Outcrop and the packages it needs${extras:+, with $extras}" "${install[@]}" -e ".${extras:+[$extras]}"
