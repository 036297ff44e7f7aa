"""Engines of the frozen part by name.

`ENGINES` maps names to engines; add a new one there. Special libraries are imported only when an
engine that needs them is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.engines import Engine
from plr_edge.errors import ConfigError

_SLICE = 4  # images at once on a CPU; more overflow its cache and are 1.2 times slower


class _SlicedEngine:
    """Runs a batch a few images at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run one batch; see `Engine.run`."""
        starts = range(0, max(len(batch), 1), _SLICE)
        parts = [self._engine.run(batch[i : i + _SLICE]) for i in starts]
        return parts[0] if len(parts) == 1 else tuple(map(np.concatenate, zip(*parts, strict=True)))


def _onnx(bundle: Bundle, providers: Sequence[str], n_threads: int) -> Engine:
    from plr_edge.engines.onnx_engine import OnnxEngine, provider_names

    made = OnnxEngine(bundle.read("frozen.onnx"), n_threads, provider_names(providers))
    return made if set(providers) - {"cpu"} else _SlicedEngine(made)


def _tensorrt(bundle: Bundle, providers: Sequence[str], n_threads: int) -> Engine:
    from plr_edge.engines.plan_cache import load_tensorrt_engine

    if providers:
        raise ConfigError(
            f"providers are {', '.join(providers)}, but TensorRT has none; leave --providers out"
        )
    return load_tensorrt_engine(bundle)


ENGINES: dict[str, Callable[[Bundle, Sequence[str], int], Engine]] = {
    "onnx": _onnx,
    "tensorrt": _tensorrt,
}


def make_frozen_engine(
    bundle: Bundle, engine: str = "onnx", providers: Sequence[str] = (), n_threads: int = 1
) -> Engine:
    """Build the engine of a bundle's frozen part.

    Args:
        bundle: the bundle.
        engine: `onnx` for ONNX Runtime, or `tensorrt`, which builds a plan if none fits.
        providers: execution providers of ONNX Runtime, best first: `cpu`, `cuda`, `tensorrt`. The
            default is the CPU.
        n_threads: threads of ONNX Runtime on the CPU.

    Raises:
        ConfigError: the engine or a provider is unknown.
        EngineError: the engine is not installed, or cannot run the part.
    """
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine {engine!r}; choose one of {', '.join(ENGINES)}")
    return ENGINES[engine](bundle, providers, n_threads)
