"""Perception: frame to prediction. ONNX Runtime and NumPy; a test says that torch stays out.

Owns the two engines and the classifier; knows nothing of how they come to change.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.config import EngineConfig
from plr_edge.engines import Engine
from plr_edge.engines.choice import make_frozen_engine
from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.engines.trial import try_bundle
from plr_edge.errors import StateError
from plr_edge.store import read_state
from plr_edge.stream.base import Frame

UNKNOWN = "unknown"
_TOP_K = 5
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of mallopt(3)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What perception answers to one frame.

    Attributes:
        source: the frame's.
        label: the class, `unknown` where the frame is like nothing learned.
        confidence: of the best class, 0..1; it is not calibrated.
        top: the best classes and their confidences, best first, whatever `label` says.
        similarity: largest cosine to a class mean.
        stamp_ns: the frame's.
        latency_ms: from image to answer, an equal part for each frame of a batch.
        version: generation that answered.
    """

    source: str
    label: str
    confidence: float
    top: tuple[tuple[str, float], ...]
    similarity: float
    stamp_ns: int
    latency_ms: float
    version: int

    def to_dict(self) -> dict[str, Any]:
        """Return what `plr-edge predict` prints."""
        return {
            "source": self.source,
            "class": self.label,
            "confidence": round(self.confidence, 4),
            "top": [[name, round(p, 4)] for name, p in self.top],
            "stamp_ns": self.stamp_ns,
            "latency_ms": round(self.latency_ms, 2),
            "version": self.version,
        }


@dataclass(frozen=True)
class Features:
    """What the frozen and the adaptive part made of a batch.

    Attributes:
        latents: (n, *latent shape) float32.
        taps: (n, T) float32, pooled outputs of frozen blocks.
        features: (n, D) float32, of the generation that answers.
    """

    latents: np.ndarray
    taps: np.ndarray
    features: np.ndarray

    def take(self, rows: slice | Sequence[int] | np.ndarray) -> Features:
        """Return some rows of each."""
        return Features(self.latents[rows], self.taps[rows], self.features[rows])


@dataclass(frozen=True)
class FrozenOutput:
    """What the frozen part made of frames; it never changes, so any thread may make this.

    Attributes:
        frames: n of them.
        latents: (n, *latent shape) float32.
        taps: (n, T) float32.
        began_ns: of `time.perf_counter_ns`, before the first pixel was looked at.
    """

    frames: tuple[Frame, ...]
    latents: np.ndarray
    taps: np.ndarray
    began_ns: int


class Perception:
    """Answer frames with one generation at a time."""

    def __init__(
        self,
        bundle: Bundle,
        classifier: CombinedClassifier,
        classes: list[str],
        engines: EngineConfig | None = None,
        *,
        unknown: bool = True,
        weights: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Build the engines of a bundle, with learned weights or those it was exported with."""
        engines = engines or EngineConfig()
        self.bundle, self.classifier, self.classes = bundle, classifier, classes
        self.version, self.unknown = 0, unknown
        self.frozen_s = self.adaptive_s = self.prepare_s = 0.0
        self._n_threads = engines.n_threads
        try_bundle(bundle)
        self.engine = self.engine_of(weights or {})
        self._frozen = make_frozen_engine(
            bundle, engines.engine, engines.providers, engines.n_threads
        )
        # ONNX Runtime runs one session on several threads; TensorRT's buffers are one frame's
        self._frozen_alone: AbstractContextManager[Any] = (
            nullcontext() if engines.engine == "onnx" else threading.Lock()
        )

    @classmethod
    def from_state(
        cls,
        bundle: Bundle,
        path: str | Path,
        *,
        n_threads: int = 1,
        unknown: bool = True,
        engine: str = "onnx",
        providers: Sequence[str] = (),
    ) -> Perception:
        """Answer with the newest generation of a state.

        Raises:
            StateError: there is none, it is damaged, or its latents are of another frozen part.
        """
        with _large_blocks_mapped():
            state = read_state(path, groups=("adaptive", "classifier"))
            check_state_fits(bundle, state.facts, Path(path))
            classifier = CombinedClassifier(bundle.taps_width, bundle.feature_width)
            classifier.restore(state.arrays["classifier"])
            self = cls(
                bundle,
                classifier,
                list(state.facts["classes"]),
                EngineConfig(engine=engine, providers=tuple(providers), n_threads=n_threads),
                unknown=unknown,
                weights=state.arrays["adaptive"] if state.facts["version"] else None,
            )
        self.version = int(state.facts["version"])
        return self

    def engine_of(
        self, weights: Mapping[str, np.ndarray], rest: Callable[[], None] = lambda: None
    ) -> Engine:
        """Build an adaptive part.

        Args:
            weights: by name; those it was exported with if none.
            rest: called where there is a moment to.
        """
        model = self.bundle.splice(weights) if weights else self.bundle.read("adaptive.onnx")
        rest()
        return OnnxEngine(model, self._n_threads)

    def publish(self, weights: Mapping[str, np.ndarray], version: int) -> None:
        """Answer with other weights from the next batch on."""
        self.engine, self.version = self.engine_of(weights), version

    def see(self, frames: Sequence[Frame]) -> Features:
        """Run frames through the engines."""
        return self.finish(self.look(frames))

    def look(self, frames: Sequence[Frame]) -> FrozenOutput:
        """Run frames through the frozen part; safe on any thread."""
        t0 = time.perf_counter_ns()
        x = self.bundle.preprocessing([frame.image for frame in frames])  # (n, 3, S, S)
        t1 = time.perf_counter_ns()
        with self._frozen_alone:
            latents, taps = self._frozen.run(x)
        self.prepare_s += (t1 - t0) / 1e9
        self.frozen_s += (time.perf_counter_ns() - t1) / 1e9
        return FrozenOutput(tuple(frames), latents, taps, t0)

    def finish(self, looked: FrozenOutput) -> Features:
        """Run the adaptive part on what was looked at."""
        start = time.perf_counter()
        features = self.features_of(looked.latents)
        self.adaptive_s += time.perf_counter() - start
        return Features(looked.latents, looked.taps, features)

    def features_of(self, latents: np.ndarray) -> np.ndarray:
        """Run the adaptive part alone: (n, *latent shape) to (n, D) float32."""
        return self.engine.run(latents)[0]

    def answer(
        self, frames: Sequence[Frame], seen: Features, cosines: np.ndarray | None = None
    ) -> list[Prediction]:
        """Turn features into predictions; see `CombinedClassifier.answer_many`."""
        parts = self.classifier.answer_many(seen.taps, seen.features, cosines)
        return [
            self._prediction(frame, probabilities, float(similarity))
            for frame, probabilities, similarity in zip(frames, *parts, strict=True)
        ]

    def predict_many(self, frames: Sequence[Frame]) -> list[Prediction]:
        """Answer a batch of frames."""
        start = time.perf_counter()
        predictions = self.answer(frames, self.see(frames))
        each_ms = (time.perf_counter() - start) * 1e3 / max(len(frames), 1)
        return [replace(prediction, latency_ms=each_ms) for prediction in predictions]

    def _prediction(self, frame: Frame, probabilities: np.ndarray, similarity: float) -> Prediction:
        """Answer one frame; `unknown` where it is like nothing learned, or nothing was learned."""
        best = np.argsort(-probabilities, kind="stable")[:_TOP_K]
        top = tuple(
            (self.classes[k], float(probabilities[k])) for k in best if probabilities[k] > 0
        )
        strange = self.unknown and similarity < self.classifier.unknown_below
        return Prediction(
            source=frame.source,
            label=top[0][0] if top and not strange else UNKNOWN,
            confidence=top[0][1] if top else 0.0,
            top=top,
            similarity=similarity,
            stamp_ns=frame.stamp_ns,
            latency_ms=0.0,
            version=self.version,
        )


def check_state_fits(bundle: Bundle, facts: Mapping[str, Any], path: Path) -> None:
    """Refuse a state whose latents another frozen part made.

    Raises:
        StateError: it does not fit.
    """
    if facts.get("frozen_sha256") != bundle.frozen_sha256:
        raise StateError(
            f"{path} was learned with another frozen part ({facts.get('bundle')}); its "
            f"latents mean nothing to {bundle.name} in {bundle.precision}; use that bundle, or "
            "another --state"
        )


def return_memory_at_once(n_arenas: int = 2) -> None:
    """Let glibc give large blocks back for good, and share heaps between threads.

    For a process that lives long and builds engines now and then: 60 MB of PSS.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 64 << 10)
        mallopt(_M_ARENA_MAX, n_arenas)


@contextmanager
def _large_blocks_mapped() -> Iterator[None]:
    """Let glibc give back at once what loading a network copies: 15 MB of RSS."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another libc
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, 64 << 10)
    try:
        yield
    finally:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # where glibc's own adjustment ends
