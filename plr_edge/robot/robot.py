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
from plr_edge.robot import counts
from plr_edge.robot.counts import FrameStats
from plr_edge.robot.drift import Drift, NoveltyDetector, RecentFrame
from plr_edge.robot.governor import Governor
from plr_edge.robot.governor_loop import GovernorLoop
from plr_edge.robot.health import health_of
from plr_edge.robot.live import Live
from plr_edge.robot.requests import Request, Requests
from plr_edge.robot.restart_guard import HEALTHY_S
from plr_edge.robot.sensors import Sensors
from plr_edge.robot.states import STARTING, RobotStatus, state_of
from plr_edge.robot.systemd import notify
from plr_edge.runtime.perception import UNKNOWN, Prediction
from plr_edge.stream.base import Frame, check_image

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
        self.counts = FrameStats(governor.budget.deadline_ms)
        self.drift, self.strangers = Drift(), NoveltyDetector()
        self.sensors = Sensors()
        self.overseer = GovernorLoop(live, governor, self.sensors, self.counts)
        self.state, self.reason = STARTING, ""
        self.disk_trouble = ""
        self.n_frames = 0
        self.latest: tuple[Frame, Prediction] | None = None
        self.thumbnails: dict[str, np.ndarray] = {}
        self.listeners: list[Callable[[str, dict[str, Any]], None]] = []
        self.ring: deque[RecentFrame] = deque(maxlen=_RING)
        self.stopping = threading.Event()
        self._condition = threading.Condition()
        self._newest: Frame | None = None
        self._woken = False
        self._requests: deque[Request] = deque()
        self._source: Any = None
        self._kind, self._source_trouble = "stream", ""
        self._started, self.began_ns = False, time.time_ns()
        self._began_s = 0.0
        self._last_tick = time.monotonic()
        self.answers = live.store.requests.answers() if live.store else {}
        live.wake = live.trainer.wake = self._wake

    # for other threads

    def call(self, act: Callable[[], Any], *, changes: bool = True) -> Future[Any]:
        """Have something done between two frames.

        Args:
            act: what; where it returns a future, that one's result is waited for.
            changes: whether it changes what was taught: such requests wait for one another.
        """
        request = Request(act, changes)
        with self._condition:
            self._requests.append(request)
            self._condition.notify()
        return request.outcome

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
        self._started, self._began_s = True, time.monotonic()
        self.live.starts.answered = True
        self._update_state()
        notify("READY=1")
        while not self.stopping.is_set():
            frame, request = self._next()
            if frame is not None:
                self._see(frame)
            if request is not None:
                request.answer()
            self._poll()
            if time.monotonic() - self._last_tick >= _TICK_S:
                self._tick()
        self._update_state()
        notify("STOPPING=1")
        self._end()
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
        return health_of(self)

    def emit(self, kind: str, facts: dict[str, Any]) -> None:
        """Tell the listeners; they must not wait."""
        for listener in list(self.listeners):
            listener(kind, facts)

    def pause(self, paused: bool) -> dict[str, Any]:
        """Stop training, or go on; teaching and answering are not touched."""
        self.overseer.paused = paused
        self.overseer.tell()
        self._update_state()
        return self.health()

    # inside

    def _next(self) -> tuple[Frame | None, Request | None]:
        """Wait for something to do, not for long; a frame comes before requests."""
        with self._condition:
            if self._newest is None and self._chosen_request() is None and not self._woken:
                self._condition.wait(_IDLE_S)
            frame, self._newest, self._woken = self._newest, None, False
            request = self._chosen_request()
            if request is not None:
                self._requests.remove(request)
            return frame, request

    def _chosen_request(self) -> Request | None:
        """Return the oldest request that need not wait for a change under way."""
        free = (r for r in self._requests if not (r.changes and self.live.changing))
        return next(free, None)

    def _wake(self) -> None:
        with self._condition:
            self._woken = True
            self._condition.notify()

    def _end(self) -> None:
        """Let the trainer go, finish the change under way, and save."""
        self.overseer.tick(self.n_frames)
        for request in self._requests:
            request.outcome.cancel()
        self.live.trainer.dismiss()
        self.live.hurry()
        while self.live.changing:
            self._poll()
            time.sleep(0.001)
        if self.live.unsaved:
            self.live.save("at the end").result()
        self.live.started_well()

    def _poll(self) -> None:
        try:
            self.live.poll()
        except StateError as error:  # answering goes on
            self.disk_trouble = str(error)

    def _see(self, frame: Frame) -> None:
        try:
            self._answer(frame)
        except Exception as error:  # whatever is wrong with a frame, it costs that frame alone
            self.counts.count(self._kind, counts.FAILED)
            if self.counts.total(counts.FAILED) in (1, 10, 100):
                _log.warning("%s cannot be answered (%s)", frame.source, error)

    def _answer(self, frame: Frame) -> None:
        check_image(frame.image)
        start = time.perf_counter()
        looked = self.live.perception.look([frame])
        seen = self.live.perception.finish(looked)
        (prediction,) = self.live.perception.answer([frame], seen)
        latency_ms = (time.perf_counter() - start) * 1e3
        age_ms = (time.time_ns() - frame.stamp_ns) / 1e6
        prediction = replace(prediction, latency_ms=latency_ms)
        unknown = prediction.label == UNKNOWN
        self.n_frames += 1
        self.counts.saw(self._kind, unknown=unknown, latency_ms=latency_ms, age_ms=age_ms)
        self.latest = (frame, prediction)
        facts = {**prediction.to_dict(), "sequence": self.n_frames, "age_ms": round(age_ms, 1)}
        self.emit("prediction", facts)
        self._remember(RecentFrame.of(self.n_frames, looked, seen.features[0]), prediction, unknown)

    def _remember(self, glimpse: RecentFrame, prediction: Prediction, unknown: bool) -> None:
        """Keep what teaching may ask for; ask the operator about what comes again and again."""
        confidence, now_s = prediction.confidence, time.monotonic()
        self.drift.add(unknown=unknown, confidence=confidence, now_s=now_s)
        while self.ring and (len(self.ring) + 1) * glimpse.n_bytes > _RING_BYTES:
            self.ring.popleft()
        self.ring.append(glimpse)
        if self.strangers.look(glimpse, unknown=unknown):
            facts = {
                "sequence": self.n_frames,
                "stamp_ns": prediction.stamp_ns,
                "source": prediction.source,
                "frames": NoveltyDetector.RUN,
                "thumbnail": f"/asked/{self.n_frames}.jpg",
            }
            self.emit("what is this", facts)
            self.live.note("unknown", f"a run of {NoveltyDetector.RUN} frames that look alike")

    def _tick(self) -> None:
        self._last_tick = time.monotonic()
        self.overseer.tick(self.n_frames)
        if self._began_s and self._last_tick - self._began_s > HEALTHY_S:
            self._began_s = 0.0
            self.live.started_well()
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

    @property
    def _factory_trouble(self) -> str:
        damaged = "what was learned is damaged; learning it again from its labels"
        return self.live.starts.trouble or (damaged if self.live.fell_back else "")

    def _update_state(self) -> None:
        trouble = self._source_trouble or getattr(self._source, "trouble", "")
        trainer = self.live.trainer
        condition = RobotStatus(
            started=self._started,
            stopping=self.stopping.is_set(),
            source_trouble="the source hangs" if self._stuck else trouble,
            disk_trouble=self.disk_trouble,
            trainer_given_up=trainer.given_up,
            factory_trouble=self._factory_trouble,
            paused=self.overseer.paused,
            to_train=bool(self.live.report.get("to_go", 0)) and trainer.alive,
        )
        before = self.state, self.reason
        self.state, self.reason = state_of(condition)
        if (self.state, self.reason) != before:
            self.emit("state", {"state": self.state, "reason": self.reason})
