#!/bin/sh
# Install plr-edge on a board into PREFIX (default /opt/plr-edge): sudo sh deploy/install.sh
# The virtual environment sees the system's packages, so that JetPack's CUDA build of torch and its
# TensorRT stay in use. pip is told to keep the torch that is there.
set -eu
prefix=${1:-/opt/plr-edge}
source=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
python3 -m venv --system-site-packages "$prefix"
keep="$prefix/keep.txt"
"$prefix/bin/python" - > "$keep" <<'PYTHON'
from importlib.metadata import PackageNotFoundError, version

for name in ("torch", "onnxruntime", "numpy"):
    try:
        print(f"{name}=={version(name)}")
    except PackageNotFoundError:
        pass
PYTHON
"$prefix/bin/python" -m pip install --upgrade-strategy only-if-needed -c "$keep" "$source"
"$prefix/bin/plr-edge" --version
