"""Robot: the loop of `plr-edge run`. The newest frame wins; nothing it does waits for training.

One thread owns perception, the classifier and the store. A source thread leaves it the newest
frame, others leave it requests; it takes one of them between two frames.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np

from plr_edge.errors import StateError
from plr_edge.governor import Governor
from plr_edge.runtime import counts
from plr_edge.runtime.counts import Counts
from plr_edge.runtime.drift import Drift, Glimpse, Strangers
from plr_edge.runtime.live import Live
from plr_edge.runtime.overseer import Overseer
from plr_edge.runtime.perception import UNKNOWN, Prediction, Seen
from plr_edge.runtime.requests import Requests
from plr_edge.runtime.sensors import Sensors
from plr_edge.runtime.states import STARTING, Condition, state_of
from plr_edge.runtime.systemd import notify
from plr_edge.stream.base import Frame

_log = logging.getLogger(__name__)
_RING, _RING_BYTES = 150, 24 << 20  # frames that can be taught after they were seen: five seconds
_TICK_S = 1.0
_IDLE_S = 0.05
_STUCK_S = 20.0  # a source that says nothing for so long hangs in its driver


class Robot(Requests):
    """Answer frames as they come, and teach while doing so."""

    def __init__(self, live: Live, governor: Governor) -> None:
        """Start nothing yet; `run` does."""
        self.live, self.governor = live, governor
        self.counts = Counts(governor.budget.deadline_ms)
        self.drift, self.strangers = Drift(), Strangers()
        self.sensors = Sensors()
        self.overseer = Overseer(live, governor, self.sensors, self.counts)
        self.state, self.reason = STARTING, ""
        self.disk_trouble = ""
        self.n_frames = 0
        self.latest: tuple[Frame, Prediction] | None = None
        self.thumbnails: dict[str, np.ndarray] = {}
        self.listeners: list[Callable[[str, dict[str, Any]], None]] = []
        self.ring: deque[Glimpse] = deque(maxlen=_RING)
        self.stopping = threading.Event()
        self._condition = threading.Condition()
        self._newest: Frame | None = None
        self._requests: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._source: Any = None
        self._kind, self._source_trouble = "stream", ""
        self._started, self.began_ns = False, time.time_ns()
        self._last_tick = time.monotonic()

    # for other threads

    def call(self, act: Callable[[], Any]) -> Future[Any]:
        """Have something done between two frames."""
        future: Future[Any] = Future()
        with self._condition:
            self._requests.append((act, future))
            self._condition.notify()
        return future

    def put(self, frame: Frame) -> None:
        """Leave a frame for the loop; one that was not taken yet is dropped."""
        with self._condition:
            if self._newest is not None:
                self.counts.count(self._kind, counts.DROPPED)
            self._newest = frame
            self._condition.notify()

    def feed(self, source: Iterable[Frame]) -> None:
        """Read a source to its end on this thread, leaving the newest frame for the loop.

        Args:
            source: a `LiveSource`, or any frames.
        """
        self._source, self._kind = source, getattr(source, "kind", "stream")
        try:
            for frame in source:
                self.put(frame)
                if self.stopping.is_set():
                    return
        except Exception as error:  # a driver may raise whatever it likes; answering goes on
            _log.exception("the source failed")
            self._source_trouble = f"the source failed: {error}"
        self._source = None
        _log.info("the source ended")

    def stop(self) -> None:
        """Wish the loop to end."""
        self.stopping.set()
        with self._condition:
            self._condition.notify()

    # the loop

    def run(self) -> None:
        """Answer until `stop`; then save."""
        self.sensors.start()
        self._started = True
        self._update_state()
        notify("READY=1")
        while not self.stopping.is_set():
            frame, request = self._next()
            if frame is not None:
                self._see(frame)
            if request is not None:
                _answer(*request)
            self._poll()
            if time.monotonic() - self._last_tick >= _TICK_S:
                self._tick()
        self._update_state()
        notify("STOPPING=1")
        for _, future in self._requests:
            future.cancel()
        self.live.trainer.kill()
        if self.live.unsaved:
            self.live.save("at the end", wait=True)
        self.sensors.stop()

    @property
    def n_dropped(self) -> int:
        """Frames that a newer one replaced."""
        return self.counts.total(counts.DROPPED)

    @property
    def n_unknown(self) -> int:
        """Frames answered with `unknown`."""
        return self.counts.total(counts.UNKNOWN)

    def health(self) -> dict[str, Any]:
        """Return the state of the whole, for people and machines; any thread may ask."""
        live, overseer = self.live, self.overseer
        return {
            "state": self.state,
            "reason": self.reason,
            "version": live.version,
            "classes": len(live.classes),
            "taught": live.n_taught,
            "quarantined": live.n_quarantined,
            "frames": self.n_frames,
            "dropped": self.n_dropped,
            "failed": self.counts.total(counts.FAILED),
            "unknown": self.n_unknown,
            "unknown_ratio": self.drift.unknown_ratio,
            "unknown_per_hour": self.drift.unknown_per_hour,
            "confidence_per_hour": self.drift.confidence_per_hour,
            "asked": list(self.strangers.asked),
            "frames_per_s": round(overseer.frames_per_s, 2),
            "latency_ms_p50": self.counts.percentile_ms(0.5),
            "latency_ms_p99": self.counts.percentile_ms(0.99),
            "late": self.counts.n_late,
            "power_w": self.sensors.now.power_w,
            "energy_j": self.sensors.energy_j,
            "rss_bytes": self.sensors.now.memory_bytes.get("rss"),
            "canary": vars(live.verdict) if live.verdict else None,
            "generations_dropped": live.n_dropped,
            "trainer": {
                "alive": live.trainer.alive,
                "deaths": live.trainer.n_deaths,
                "steps_per_level": list(live.n_steps),
                **live.report,
            },
            "governor": str(overseer.decision) if overseer.decision else None,
            "state_bytes": overseer.state_bytes,
            "written_today_bytes": overseer.written_bytes,
        }

    def emit(self, kind: str, facts: dict[str, Any]) -> None:
        """Tell the listeners; they must not wait."""
        for listener in list(self.listeners):
            listener(kind, facts)

    def rebuild(self) -> None:
        """Open the knowledge anew on the same state, with the trainer told from the start."""
        self.live.reopen()
        self.ring.clear()

    def pause(self, paused: bool) -> dict[str, Any]:
        """Stop training, or go on; teaching and answering are not touched."""
        self.overseer.paused = paused
        self.overseer.tell()
        self._update_state()
        return self.health()

    # inside

    def _next(self) -> tuple[Frame | None, tuple[Callable[[], Any], Future[Any]] | None]:
        """Wait for something to do, not for long; a frame comes before requests."""
        with self._condition:
            if self._newest is None and not self._requests:
                self._condition.wait(0 if self.live.busy else _IDLE_S)
            frame, self._newest = self._newest, None
            return frame, self._requests.popleft() if self._requests else None

    def _poll(self) -> None:
        try:
            self.live.poll()
        except StateError as error:  # answering goes on
            self.disk_trouble = str(error)

    def _see(self, frame: Frame) -> None:
        start = time.perf_counter()
        try:
            seen = self.live.perception.see([frame])
            (prediction,) = self.live.perception.answer([frame], seen)
        except Exception as error:  # whatever is wrong with a frame, it costs that frame alone
            self.counts.count(self._kind, counts.FAILED)
            if self.counts.total(counts.FAILED) in (1, 10, 100) or not self.n_frames:
                _log.warning("%s cannot be answered (%s)", frame.source, error)
            return
        latency_ms = (time.perf_counter() - start) * 1e3
        age_ms = (time.time_ns() - frame.stamp_ns) / 1e6
        prediction = replace(prediction, latency_ms=latency_ms)
        unknown = prediction.label == UNKNOWN
        self.n_frames += 1
        self.counts.saw(self._kind, unknown=unknown, latency_ms=latency_ms, age_ms=age_ms)
        self.latest = (frame, prediction)
        facts = {**prediction.to_dict(), "sequence": self.n_frames, "age_ms": round(age_ms, 1)}
        self.emit("prediction", facts)
        self._remember(frame, seen, prediction, unknown)

    def _remember(self, frame: Frame, seen: Seen, prediction: Prediction, unknown: bool) -> None:
        """Keep what teaching may ask for; ask the operator about what comes again and again."""
        confidence, now_s = prediction.confidence, time.monotonic()
        self.drift.add(unknown=unknown, confidence=confidence, now_s=now_s)
        glimpse = Glimpse.of(self.n_frames, frame, seen)
        while self.ring and (len(self.ring) + 1) * glimpse.n_bytes > _RING_BYTES:
            self.ring.popleft()
        self.ring.append(glimpse)
        if self.strangers.look(glimpse, unknown=unknown):
            facts = {
                "sequence": self.n_frames,
                "stamp_ns": frame.stamp_ns,
                "source": frame.source,
                "frames": Strangers.RUN,
                "thumbnail": f"/asked/{self.n_frames}.jpg",
            }
            self.emit("what is this", facts)
            self.live.note("unknown", f"a run of {Strangers.RUN} frames that look alike")

    def _tick(self) -> None:
        self._last_tick = time.monotonic()
        self.overseer.tick(self.n_frames)
        self._update_state()
        rate = self.overseer.frames_per_s
        if not self._stuck:
            notify(f"WATCHDOG=1\nSTATUS={self.state}, {rate:.0f} frames/s")
        self.emit("status", {"frames_per_s": rate, "power_w": self.sensors.now.power_w})

    @property
    def _stuck(self) -> bool:
        """Whether the source hangs in its driver, so that systemd must start us again."""
        heard_s = getattr(self._source, "heard_s", None)
        return heard_s is not None and time.monotonic() - heard_s > _STUCK_S

    def _update_state(self) -> None:
        trouble = self._source_trouble or getattr(self._source, "trouble", "")
        trainer = self.live.trainer
        condition = Condition(
            started=self._started,
            stopping=self.stopping.is_set(),
            source_trouble="the source hangs" if self._stuck else trouble,
            disk_trouble=self.disk_trouble,
            trainer_given_up=trainer.given_up,
            factory=self.live.fell_back,
            paused=self.overseer.paused,
            to_train=bool(self.live.report.get("to_go", 0)) and trainer.alive,
        )
        before = self.state, self.reason
        self.state, self.reason = state_of(condition)
        if (self.state, self.reason) != before:
            self.emit("state", {"state": self.state, "reason": self.reason})


def _answer(act: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(act())
    except Exception as error:
        future.set_exception(error)
