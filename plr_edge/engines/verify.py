"""Comparing an engine of the frozen part with ONNX Runtime on the CPU, and with the float network.

ONNX Runtime runs the network of the bundle, which may be quantised. Where the engine is ONNX
Runtime too, only the float network can tell whether its answers are right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.engines.choice import make_frozen_engine
from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.engines.parity_limits import PARITY_LIMITS, ParityLimits

MIN_COSINE, MIN_AGREEMENT = 0.999, 0.95
_BATCH = 8


def verify_engine(
    bundle: Bundle,
    images: Sequence[np.ndarray],
    engine: str,
    providers: Sequence[str] = (),
    float_part: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, Any]:
    """Compare an engine's latents with those of ONNX Runtime on the CPU.

    Args:
        bundle: the bundle.
        images: (H, W, 3) uint8 RGB images.
        engine: see `make_frozen_engine`.
        providers: see `make_frozen_engine`.
        float_part: the frozen part in float32, from images (n, 3, S, S) to latents.

    Returns:
        A JSON-serialisable dict. `cosine` is the smallest cosine similarity of an image's latents,
        `max_abs` their largest absolute difference, `top1_agreement` the share of images whose
        adaptive feature is largest at the same index, and `passed` whether these are good enough.
        `float` is the same against the float network, None without it.

    Raises:
        ConfigError, EngineError: the engine cannot be made; see `make_frozen_engine`.
    """
    x = bundle.preprocessing(list(images))
    tested, onnx = make_frozen_engine(bundle, engine, providers), make_frozen_engine(bundle)
    ours = _in_batches(lambda part: tested.run(part)[0], x)
    theirs = _in_batches(lambda part: onnx.run(part)[0], x)
    adaptive = OnnxEngine(bundle.read("adaptive.onnx"))
    limits = ParityLimits(0.0, MIN_COSINE, MIN_AGREEMENT)
    found = _compared(ours, theirs, adaptive, limits)
    by_float = None
    if float_part is not None:
        limits = PARITY_LIMITS[bundle.manifest["precision"]]
        by_float = _compared(ours, _in_batches(float_part, x), adaptive, limits)
    return {
        "bundle": bundle.name,
        "precision": bundle.precision,
        "engine": engine,
        "providers": list(providers),
        "n_images": len(x),
        **found,
        "passed": found["passed"] and (by_float is None or by_float["passed"]),
        "float": by_float,
        "export_parity": bundle.manifest["parity"],
    }


def _in_batches(run: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    return np.concatenate([run(x[i : i + _BATCH]) for i in range(0, len(x), _BATCH)])


def _compared(
    ours: np.ndarray, theirs: np.ndarray, adaptive: OnnxEngine, limits: ParityLimits
) -> dict[str, Any]:
    """Compare latents (n, ...), and the features that the adaptive part makes of them."""
    answers = [adaptive.run(part)[0].argmax(1) for part in (ours, theirs)]
    flat = [part.reshape(len(part), -1).astype(np.float64) for part in (ours, theirs)]
    norms = np.linalg.norm(flat[0], axis=1) * np.linalg.norm(flat[1], axis=1)
    cosine = float(((flat[0] * flat[1]).sum(1) / np.maximum(norms, 1e-30)).min())
    agreement = float((answers[0] == answers[1]).mean())
    return {
        "cosine": cosine,
        "max_abs": float(np.abs(flat[0] - flat[1]).max()),
        "top1_agreement": agreement,
        "passed": cosine >= limits.cosine and agreement >= limits.top1_agreement,
    }
