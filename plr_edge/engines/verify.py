"""Comparing an engine of the frozen part with ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.engines.choice import make_frozen_engine
from plr_edge.engines.onnx_engine import OnnxEngine

MIN_COSINE, MIN_AGREEMENT = 0.999, 0.95
_BATCH = 8


def verify_engine(
    bundle: Bundle, images: Sequence[np.ndarray], engine: str, providers: Sequence[str] = ()
) -> dict[str, Any]:
    """Compare an engine's latents with those of ONNX Runtime on the CPU.

    Args:
        bundle: the bundle.
        images: (H, W, 3) uint8 RGB images.
        engine: see `make_frozen_engine`.
        providers: see `make_frozen_engine`.

    Returns:
        A JSON-serialisable dict. `cosine` is the smallest cosine similarity of an image's latents,
        `max_abs` their largest absolute difference, `top1_agreement` the share of images whose
        adaptive feature is largest at the same index, and `passed` whether these are good enough.

    Raises:
        ConfigError, EngineError: the engine cannot be made; see `make_frozen_engine`.
    """
    x = bundle.preprocessing(list(images))
    latents = [
        np.concatenate([one.run(x[i : i + _BATCH])[0] for i in range(0, len(x), _BATCH)])
        for one in (make_frozen_engine(bundle, engine, providers), make_frozen_engine(bundle))
    ]
    adaptive = OnnxEngine(bundle.read("adaptive.onnx"))
    answers = [adaptive.run(part)[0].argmax(1) for part in latents]
    flat = [part.reshape(len(part), -1).astype(np.float64) for part in latents]
    norms = np.linalg.norm(flat[0], axis=1) * np.linalg.norm(flat[1], axis=1)
    cosine = float(((flat[0] * flat[1]).sum(1) / np.maximum(norms, 1e-30)).min())
    agreement = float((answers[0] == answers[1]).mean())
    return {
        "bundle": bundle.name,
        "precision": bundle.precision,
        "engine": engine,
        "providers": list(providers),
        "n_images": len(x),
        "cosine": cosine,
        "max_abs": float(np.abs(flat[0] - flat[1]).max()),
        "top1_agreement": agreement,
        "passed": cosine >= MIN_COSINE and agreement >= MIN_AGREEMENT,
        "export_parity": bundle.manifest["parity"],
    }
