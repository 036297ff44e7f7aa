"""Answering: a frame becomes a prediction, is counted, and is kept to be taught or asked about."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from plr_edge.robot.drift import Drift
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.recent_frames import NoveltyDetector, RecentFrame, RecentFrames
from plr_edge.robot.status import FrameStats
from plr_edge.runtime.prediction import UNKNOWN, FrozenOutput, Prediction, answer
from plr_edge.stream.base import Frame


class Answering:
    """Answers frames, wherever they come from. It belongs to the thread of the frames.

    Attributes:
        latest: the newest frame that was answered, and the answer.
    """

    def __init__(
        self,
        model: OnlineModel,
        stats: FrameStats,
        drift: Drift,
        recent: RecentFrames,
        novelty: NoveltyDetector,
        emit: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """Answer nothing yet.

        Args:
            model: answers.
            stats: outcomes and latencies of the frames.
            drift: how answers change over an hour.
            recent: frames that can be taught.
            novelty: finds runs of unknown frames to ask the operator about.
            emit: called with the kind and the payload of an event.
        """
        self._model, self._stats, self._drift = model, stats, drift
        self._recent, self._novelty, self._emit = recent, novelty, emit
        self.latest: tuple[Frame, Prediction] | None = None

    def answer(self, encoded: FrozenOutput, kind: str) -> dict[str, Any]:
        """Answer a frame.

        Args:
            encoded: output of the frozen part for this one frame.
            kind: type of its source.

        Returns:
            The payload of the event `prediction`.
        """
        (frame,) = encoded.frames
        features = self._model.perception.extract(encoded)
        (prediction,) = answer(self._model.learned, [frame], features)
        latency_ms = (time.perf_counter_ns() - encoded.began_ns) / 1e6
        age_ms = (time.time_ns() - frame.stamp_ns) / 1e6
        prediction = replace(prediction, latency_ms=latency_ms)
        unknown = prediction.label == UNKNOWN
        self._stats.add(kind, unknown=unknown, latency_ms=latency_ms, age_ms=age_ms)
        self.latest = (frame, prediction)
        sequence = self._stats.n_frames
        payload = {**prediction.to_dict(), "sequence": sequence, "age_ms": round(age_ms, 1)}
        self._emit("prediction", payload)
        self._remember(RecentFrame.of(sequence, encoded, features.features[0]), prediction)
        return payload

    def _remember(self, recent: RecentFrame, prediction: Prediction) -> None:
        """Keep a frame that may be taught, and ask the operator about a run of unknown ones."""
        confidence, unknown = prediction.confidence, prediction.label == UNKNOWN
        self._drift.add(unknown=unknown, confidence=confidence, now_s=time.monotonic())
        self._recent.add(recent)
        if self._novelty.update(recent, unknown=unknown):
            self._emit("what is this", NoveltyDetector.question(recent))
            self._model.note("unknown", f"a run of {NoveltyDetector.RUN} frames that look alike")
