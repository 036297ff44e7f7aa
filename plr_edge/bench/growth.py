"""Growth: what a step costs as classes and latents become many. Synthetic latents."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import psutil

from plr_edge.bundle import Bundle
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.config import AdaptConfig
from plr_edge.learner import Learner
from plr_edge.memory import LatentMemory
from plr_edge.runtime.session import adaptive_blocks
from plr_edge.schedule import make_schedule

CLASSES = (10, 100, 1000)
LATENTS = (1_000, 10_000, 100_000, 1_000_000)
_DIFFERENT = 512  # latents that are made; records repeat them
_STEPS = 120
_WARM_UP = 40
Row = dict[str, Any]


def grow(bundle: Bundle, config: AdaptConfig, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure steps at growing numbers of classes and of latents.

    Returns:
        rows, and the exponent of time and memory fitted on a logarithmic scale; fits JSON.
    """
    by_classes = [_measured(bundle, config, n, 10_000, say) for n in CLASSES]
    by_latents = [_measured(bundle, config, 100, n, say) for n in LATENTS]
    return {
        "by_classes": by_classes,
        "by_latents": by_latents,
        "exponents": {
            f"{key} over {axis}": exponent([r[axis] for r in rows], [r[key] for r in rows])
            for axis, rows in (("classes", by_classes), ("latents", by_latents))
            for key in ("step_ms", "step_macs", "add_us", "bytes", "answer_us")
        },
    }


def exponent(x: list[float], y: list[float]) -> float:
    """Return p of the best fit y = c x^p."""
    slope, _ = np.polyfit(np.log(x), np.log(np.maximum(y, 1e-9)), 1)
    return float(slope)


def _measured(
    bundle: Bundle, config: AdaptConfig, n_classes: int, n_latents: int,
    say: Callable[[str], None],
) -> Row:  # fmt: skip
    rng = np.random.default_rng(0)
    codec = bundle.codec(config.bits)
    shape = (_DIFFERENT, *bundle.latent_shape)
    records = codec.encode(np.abs(rng.standard_normal(shape)).astype(np.float32))
    rss = psutil.Process().memory_info().rss
    config = replace(config, memory_bytes=n_latents * (codec.record_bytes + 4))
    memory = LatentMemory(codec.record_bytes, config.memory_bytes)
    learner = Learner(
        adaptive_blocks(bundle), bundle.levels, memory, codec,
        make_schedule(config.schedule, bundle.levels), config,
    )  # fmt: skip
    for i in range(n_latents - n_classes):
        memory.add(records[i % _DIFFERENT], i % n_classes)
    for c in range(n_classes):  # each class gets its row
        learner.learn_many(records[c % _DIFFERENT][None], np.array([c]))
    kept = psutil.Process().memory_info().rss - rss
    add_us = _median_us(lambda: memory.add(records[0], int(rng.integers(n_classes))), 2000)
    for _ in range(_WARM_UP):
        learner.step()
    before = learner.cost.macs
    start = time.perf_counter()
    for _ in range(_STEPS):
        learner.step()
    row = {
        "classes": n_classes,
        "latents": len(memory),
        "step_ms": 1e3 * (time.perf_counter() - start) / _STEPS,
        "step_macs": (learner.cost.macs - before) / _STEPS,
        "sample_us": _median_us(lambda: memory.sample(48, rng), 200),
        "add_us": add_us,
        "answer_us": _answer_us(bundle, n_classes, rng),
        "bytes": memory.n_bytes,
        "rss_growth_bytes": kept,
    }
    say("  ".join(f"{key} {value:,.4g}" for key, value in row.items()))
    return row


def _answer_us(bundle: Bundle, n_classes: int, rng: np.random.Generator) -> float:
    classifier = CombinedClassifier(bundle.taps_width, bundle.feature_width)
    labels = np.arange(2 * n_classes) % n_classes
    taps = rng.standard_normal((len(labels), bundle.taps_width)).astype(np.float32)
    features = rng.standard_normal((len(labels), bundle.feature_width)).astype(np.float32)
    classifier.learn_many(taps, features, labels)
    classifier.rehearsed = np.array(features[:n_classes])
    classifier.settle()
    return _median_us(lambda: classifier.answer_many(taps[:1], features[:1]), 50)


def _median_us(call: Callable[[], object], n: int) -> float:
    times = []
    for _ in range(n):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)
