"""Perception: from frames to predictions, with ONNX Runtime and NumPy. It never imports torch.

It owns the engines of the frozen and the adaptive part, and answers with one model at a time. How
a model is learned is not known here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.bundle.bundle import Bundle, splice
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.config import EngineConfig
from plr_edge.engines import Engine
from plr_edge.engines.choice import make_frozen_engine
from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.engines.trial import try_bundle
from plr_edge.errors import StateError
from plr_edge.runtime.malloc import large_blocks_mapped
from plr_edge.runtime.prediction import (
    AnsweringModel,
    Features,
    FrozenOutput,
    Prediction,
    answer,
)
from plr_edge.runtime.window_engine import WindowEngine
from plr_edge.store import read_state
from plr_edge.stream.base import Frame


@dataclass(frozen=True)
class _StoredModel:
    """A model that only answers, read from a state."""

    classes: Sequence[str]
    classifier: CombinedClassifier
    version: int = 0
    has_moved: bool = False


class Perception:
    """Answer frames with one model at a time.

    Attributes:
        model: the model that answers.
        engine: the adaptive part with the weights of this model.
        prepare_s: seconds spent on preparing images so far.
        frozen_s: seconds spent in the frozen part so far.
        adaptive_s: seconds spent in the adaptive part so far.
    """

    def __init__(
        self,
        bundle: Bundle,
        model: AnsweringModel | None = None,
        engines: EngineConfig | None = None,
        *,
        weights: Mapping[str, np.ndarray] | None = None,
        window: int | None = 0,
        unknown: bool = True,
    ) -> None:
        """Build the engines of a bundle.

        Args:
            bundle: from `open_bundle`.
            model: what answers. One that knows no class by default.
            engines: what the networks run on.
            weights: weights of the adaptive part by name. Those of the bundle by default.
            window: see `LearningConfig`.
            unknown: whether a frame that resembles no class is answered with `unknown`.

        Raises:
            PlrEdgeError: an engine cannot be built.
        """
        engines = engines or EngineConfig()
        blank = CombinedClassifier(bundle.taps_width, bundle.feature_width)
        self.bundle, self.unknown = bundle, unknown
        self.model: AnsweringModel = model or _StoredModel((), blank)
        self._window = bundle.window(window)
        self.prepare_s = self.frozen_s = self.adaptive_s = 0.0
        self._n_threads = engines.n_threads
        self._exported: Engine | None = None
        try_bundle(bundle)
        self.engine = self.build_engine({} if weights is None else weights)
        self._frozen = make_frozen_engine(
            bundle, engines.engine, engines.providers, engines.n_threads
        )
        # one ONNX Runtime session may run on several threads; TensorRT's buffers hold one frame
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
        false_unknown: float | None = None,
        engine: str = "onnx",
        providers: Sequence[str] = (),
    ) -> Perception:
        """Answer with the newest generation of a state.

        Args:
            bundle: from `open_bundle`.
            path: directory of the state.
            n_threads: threads of the engines.
            unknown: whether a frame that resembles no class is answered with `unknown`.
            false_unknown: share of the frames of known classes that may be answered so, 0..1. That
                of the state by default.
            engine: engine of the frozen part, `onnx` or `tensorrt`.
            providers: execution providers of ONNX Runtime, best first.

        Raises:
            StateError: there is no generation, it is damaged, or another frozen part wrote it.
        """
        with large_blocks_mapped():
            state = read_state(path, groups=("adaptive", "classifier"))
            check_state_fits(bundle, state.facts, Path(path))
            classifier = CombinedClassifier(
                bundle.taps_width, bundle.feature_width, tap_shapes=bundle.tap_shapes
            )
            classifier.restore(state.arrays["classifier"])
            if false_unknown is not None:
                classifier.mixing.allow_unknown(false_unknown)
            version = int(state.facts["version"])
            has_moved = bool(state.facts.get("has_moved", False))
            return cls(
                bundle,
                _StoredModel(list(state.facts["classes"]), classifier, version, has_moved),
                EngineConfig(engine=engine, providers=tuple(providers), n_threads=n_threads),
                weights=state.arrays["adaptive"] if version else None,
                window=state.facts.get("window", 0),
                unknown=unknown,
            )

    def build_engine(
        self, weights: Mapping[str, np.ndarray], rest: Callable[[], None] = lambda: None
    ) -> Engine:
        """Build an engine of the adaptive part. Any thread may do it.

        Args:
            weights: weights by name. Those of the bundle if empty.
            rest: called between two expensive steps.
        """
        exported = self.bundle.read("adaptive.onnx")
        model = exported
        if weights:
            model = splice(exported, self.bundle.manifest["adaptive_slots"], weights)
        rest()
        if self._window is None or model == exported:  # blocks that did not move take whole maps
            return OnnxEngine(model, self._n_threads)
        small = self.bundle.with_side(model, self._window.side)
        return WindowEngine(OnnxEngine(small, self._n_threads), self._window)

    def perceive(self, frames: Sequence[Frame]) -> Features:
        """Run frames through both parts."""
        return self.extract(self.encode(frames))

    def encode(self, frames: Sequence[Frame]) -> FrozenOutput:
        """Run frames through the frozen part. Any thread may do it."""
        t0 = time.perf_counter_ns()
        x = self.bundle.preprocessing([frame.image for frame in frames])  # (n, 3, S, S)
        t1 = time.perf_counter_ns()
        with self._frozen_alone:
            latents, taps = self._frozen.run(x)
        self.prepare_s += (t1 - t0) / 1e9
        self.frozen_s += (time.perf_counter_ns() - t1) / 1e9
        return FrozenOutput(tuple(frames), latents, taps, t0)

    def extract(self, encoded: FrozenOutput) -> Features:
        """Run the output of the frozen part through the adaptive part."""
        start = time.perf_counter()
        features = self.features(encoded.latents, encoded.taps)
        self.adaptive_s += time.perf_counter() - start
        return features

    def features(self, latents: np.ndarray, taps: np.ndarray) -> Features:
        """Run latents (n, *latent shape) with their taps (n, T) through the adaptive part."""
        return self.features_with(self.engine, latents, taps, self.model.has_moved)

    def features_with(
        self, engine: Engine, latents: np.ndarray, taps: np.ndarray, has_moved: bool
    ) -> Features:
        """Do as `features` with another engine. Any thread may do it.

        Args:
            engine: the adaptive part.
            latents: (n, *latent shape) float32.
            taps: (n, T) float32.
            has_moved: whether its weights are others than those of the bundle.
        """
        exported = self.exported_engine().run(latents)[0] if has_moved else None
        return Features(latents, taps, engine.run(latents)[0], exported)

    def exported_engine(self) -> Engine:
        """Return the adaptive part with the weights of the bundle, which the mix reads."""
        if self._exported is None:
            self._exported = self.build_engine({})
        return self._exported

    def features_of(self, latents: np.ndarray) -> np.ndarray:
        """Run latents (n, *latent shape) through the adaptive part: (n, D) float32."""
        return self.engine.run(latents)[0]

    def predict_many(self, frames: Sequence[Frame]) -> list[Prediction]:
        """Answer a batch of frames."""
        start = time.perf_counter()
        features = self.perceive(frames)
        predictions = answer(self.model, frames, features, unknown=self.unknown)
        each_ms = (time.perf_counter() - start) * 1e3 / max(len(frames), 1)
        return [replace(prediction, latency_ms=each_ms) for prediction in predictions]


def check_state_fits(bundle: Bundle, identity: Mapping[str, Any], path: Path) -> None:
    """Refuse a state whose latents were computed by another frozen part.

    Args:
        bundle: what is to read the state.
        identity: `frozen_sha256` and `bundle` of the state.
        path: directory of the state, for the message.

    Raises:
        StateError: the state does not fit.
    """
    if identity.get("frozen_sha256") != bundle.frozen_sha256:
        raise StateError(
            f"{path} was learned with another frozen part ({identity.get('bundle')}); its latents "
            f"are incompatible with {bundle.name} in {bundle.precision}; use that bundle, or "
            "another --state"
        )
