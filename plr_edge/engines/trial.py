"""Trial run: the first run of a bundle's parts takes place in a child process with limits.

If a model takes all memory, never ends or crashes the runtime, only the child dies. Parts that
passed are remembered by digest in the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from plr_edge.bundle.bundle import Bundle
from plr_edge.errors import BundleError

_MEMORY_BYTES = 4 << 30
_CPU_S, _WALL_S = 20, 60
_FILES = 256


def try_bundle(bundle: Bundle, *, again: bool = False) -> None:
    """Run both parts once on zeros, unless the same bytes have passed before.

    Args:
        bundle: the bundle.
        again: run them even if they have passed before.

    Raises:
        BundleError: a part crashes, does not end, takes too much memory, or returns wrong shapes.
    """
    parts = [
        ("frozen.onnx", (1, *bundle.preprocessing.input_shape)),
        ("adaptive.onnx", (1, *bundle.latent_shape)),
    ]
    expected = [[1, *bundle.latent_shape], [1, bundle.taps_width], [1, bundle.feature_width]]
    digests = [bundle.manifest["files"][name]["sha256"] for name, _ in parts]
    key = hashlib.sha256(json.dumps([digests, expected, parts]).encode()).hexdigest()
    passed = user_cache_path("plr-edge") / "tried" / key
    with suppress(OSError):
        if passed.is_file() and not again:
            return
    job = json.dumps([[str(bundle.path / name), sha, list(shape)]
                      for (name, shape), sha in zip(parts, digests, strict=True)])  # fmt: skip
    try:
        child = subprocess.run(
            [sys.executable, "-m", "plr_edge.engines.trial", job],
            capture_output=True,
            timeout=_WALL_S,
            text=True,
        )
    except subprocess.TimeoutExpired:
        raise BundleError(
            f"{bundle.path} did not finish its trial run in {_WALL_S} s; do not use it"
        ) from None
    if child.returncode != 0:
        reason = (child.stderr.strip().splitlines() or [f"signal {-child.returncode}"])[-1]
        raise BundleError(f"{bundle.path} failed its trial run ({reason[:160]}); do not use it")
    shapes = json.loads(
        child.stdout.splitlines()[-1]
    )  # the runtime may have printed something before
    if shapes != expected:
        raise BundleError(
            f"{bundle.path} returns shapes {shapes}; its manifest says {expected}; export it again"
        )
    with suppress(OSError):
        passed.parent.mkdir(parents=True, exist_ok=True)
        passed.touch()


def main(job: str) -> None:
    """Run parts on zeros within the limits, and print the shapes of their outputs."""
    from plr_edge.engines.onnx_engine import OnnxEngine

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    shapes = []
    for file, digest, shape in json.loads(job):
        data = Path(file).read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise BundleError(f"{file} changed while it was opened")
        for output in OnnxEngine(data).run(np.zeros(shape, np.float32)):
            if not np.isfinite(output).all():
                raise BundleError(f"{file} returns values that are not finite")
            shapes.append(list(output.shape))
    print(json.dumps(shapes))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
