"""Robot: the loop of `plr-edge run`. The newest frame wins, and nothing waits for training.

One thread owns perception, the model and the store. A source thread hands it the newest frame, and
other threads hand it calls. It takes one of each between two frames.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from plr_edge.errors import StateError
from plr_edge.robot.answering import Answering
from plr_edge.robot.calls import Call
from plr_edge.robot.disk_watch import DiskWatch
from plr_edge.robot.drift import Drift
from plr_edge.robot.feeding import Feeder
from plr_edge.robot.governor import Governor
from plr_edge.robot.governor_loop import GovernorLoop
from plr_edge.robot.health import health_of, status_of
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.operations import Operations
from plr_edge.robot.recent_frames import NoveltyDetector, RecentFrames
from plr_edge.robot.requests import Requests
from plr_edge.robot.sensors import Sensors
from plr_edge.robot.status import DROPPED, FAILED, STARTING, FrameStats, state_of
from plr_edge.robot.systemd import notify
from plr_edge.runtime.prediction import Prediction
from plr_edge.stream.base import Frame, one_line

_log = logging.getLogger(__name__)
_TICK_S = 1.0
_IDLE_S = 0.05
_ALIVE_S = 10.0  # since the last turn of the loop that took stock; WatchdogSec of the unit


class Robot:
    """Answers frames as they come, and learns meanwhile.

    Attributes:
        model: what answers and learns.
        governor: keeps training within its budget.
        stats: outcomes and latencies of the frames.
        drift: how answers change over an hour.
        recent: frames that can be taught.
        novelty: runs of unknown frames that the operator was asked about.
        sensors: measure the board.
        governor_loop: measures and decides once a second.
        requests: answers requests. Pass its methods to `call`.
        operations: changes that were asked for, which can be asked about.
        state: one of `STATES`.
        reason: why it is in this state, if a reason is due.
        answering: answers frames, and keeps what may be taught.
        listeners: called with kind and payload of each event. They must not wait.
        stopping: set when the robot is asked to end.
        began_ns: wall clock when it was made.
        feeder: reads the source of frames.
        troubles: what is wrong elsewhere, by who says so, e.g. that an address cannot be listened
            on. Empty texts and a missing entry say that nothing is.
        serves: whether it answers what it sees with what it was taught.
    """

    def __init__(self, model: OnlineModel, governor: Governor) -> None:
        """Start nothing yet. `run` does."""
        self.model, self.governor = model, governor
        self.stats = FrameStats(governor.budget.deadline_ms)
        self.drift, self.novelty, self.recent = Drift(), NoveltyDetector(), RecentFrames()
        self.sensors, self._told = Sensors(), ""  # the decision that listeners know
        self.governor_loop = GovernorLoop(model, governor, self.sensors, self.stats)
        self.answering = Answering(
            model, self.stats, self.drift, self.recent, self.novelty, self.emit
        )
        self.requests = Requests(
            model, self.recent, self.novelty, self.stats, self.emit, self.answering.answer
        )
        self.operations = Operations(self.call)
        model.on_restored += [self.requests.reload, self.operations.forget_answers]
        self.state, self.reason, self.serves = STARTING, "", False
        self.listeners: list[Callable[[str, dict[str, Any]], None]] = []
        self.stopping = threading.Event()
        self.began_ns = time.time_ns()
        self._condition = threading.Condition()
        self._newest: Frame | None = None
        self._woken = False
        self._calls: deque[Call] = deque()
        self.feeder = Feeder(self.put)
        self.requests.saw_frame = lambda: self.feeder.sight.saw(time.monotonic())
        self.troubles: dict[str, str] = {}
        self._disk_watch = DiskWatch(model, self.troubles)
        self._started, self._began_s = False, 0.0
        self._last_tick = time.monotonic()
        model.workers.wake = model.trainer.process.wake = self._wake
        model.on_event = self.emit

    @property
    def latest(self) -> tuple[Frame, Prediction] | None:
        """The newest frame that was answered, and the answer."""
        return self.answering.latest

    # for other threads

    def call(self, act: Callable[[], Any], *, changes: bool = True) -> Future[Any]:
        """Have something done between two frames.

        Args:
            act: what to do. If it returns a future, the result of that one is waited for.
            changes: whether it changes what was taught. Such calls wait for one another.
        """
        call = Call(act, changes)
        with self._condition:
            self._calls.append(call)
            self._condition.notify()
        return call.outcome

    def put(self, frame: Frame) -> None:
        """Hand over a frame. The one before is dropped if it was not taken yet."""
        self.feeder.sight.saw(time.monotonic())
        with self._condition:
            if self._newest is not None:
                self.stats.count(self.feeder.kind, DROPPED)
            self._newest = frame
            self._condition.notify()

    def feed(self, source: Iterable[Frame]) -> None:
        """Read any frames to their end on this thread. `feeder.start` reads a live source."""
        self.feeder.read(source)

    def stop(self) -> None:
        """Ask the loop to end."""
        self.stopping.set()
        self.feeder.stop()
        with self._condition:
            self._condition.notify()

    def health(self) -> dict[str, Any]:
        """Return the state of the whole, for people and machines."""
        age_s = self.feeder.sight.age_s(time.monotonic())
        return {
            "state": self.state,
            "reason": self.reason,
            "serves": self.serves,
            "frame_age_s": None if age_s is None else round(age_s, 2),
            **health_of(self.governor_loop, self.drift, self.novelty),
        }

    @property
    def is_alive(self) -> bool:
        """Whether the loop turns."""
        return time.monotonic() - self._last_tick < _ALIVE_S

    # the loop

    def run(self) -> None:
        """Answer until `stop`, then save."""
        self.sensors.start()
        self._started, self._began_s = True, time.monotonic()
        self.model.restarts.answered = True
        self._disk_watch.look()
        self._update_state()
        notify("READY=1")
        while not self.stopping.is_set():
            frame, call = self._next()
            if frame is not None:
                self._take_frame(frame)
            if call is not None:
                call.run()
            self._poll()
            if time.monotonic() - self._last_tick >= _TICK_S:
                self._tick()
        self._update_state()
        notify("STOPPING=1")
        self._end()
        self.sensors.stop()

    def emit(self, kind: str, payload: dict[str, Any]) -> None:
        """Pass an event to the listeners."""
        for listener in list(self.listeners):
            listener(kind, payload)

    def pause(self, paused: bool) -> dict[str, Any]:
        """Pause training or continue it, and return the health. Teaching is not affected."""
        self.governor_loop.paused = paused
        self.governor_loop.update_trainer()
        self._update_state()
        return self.health()

    # inside

    def _next(self) -> tuple[Frame | None, Call | None]:
        """Wait for something to do, but not for long. A frame comes before a call."""
        with self._condition:
            if self._newest is None and self._next_call() is None and not self._woken:
                self._condition.wait(_IDLE_S)
            frame, self._newest, self._woken = self._newest, None, False
            call = self._next_call()
            if call is not None:
                self._calls.remove(call)
            return frame, call

    def _next_call(self) -> Call | None:
        """Return what to do next: the oldest change that may begin, else the oldest question."""
        changing = self.model.workers.changing
        may = [call for call in self._calls if not (call.changes and changing)]
        return min(may, key=lambda call: not call.changes, default=None)

    def _wake(self) -> None:
        with self._condition:
            self._woken = True
            self._condition.notify()

    def _end(self) -> None:
        """End the trainer, finish the change under way, and save."""
        self.governor_loop.tick()
        for call in self._calls:
            call.outcome.cancel()
        self.model.trainer.process.dismiss()
        self.model.workers.hurry()
        while self.model.workers.changing:
            self._poll()
            time.sleep(0.001)
        if self.model.is_unsaved:
            self.model.save("at the end").result()
        self._succeeded()

    def _stayed_healthy(self) -> None:
        """Count this start as a success, or load what failed starts kept out of use."""
        restarts, model = self.model.restarts, self.model
        if not restarts.trouble:
            self._began_s = 0.0
            self._succeeded()
        elif not model.workers.changing:
            self._began_s = self._last_tick
            rebuilt = model.rebuild_after(lambda: None)
            rebuilt.add_done_callback(restarts.loaded)

    def _succeeded(self) -> None:
        """Count this start as a success."""
        self.model.workers.disk.submit(self.model.restarts.succeeded)

    def _poll(self) -> None:
        try:
            self.model.poll()
        except StateError as error:  # answering goes on
            self.model.disk_trouble = str(error)

    def _take_frame(self, frame: Frame) -> None:
        try:
            self.answering.answer(self.model.perception.encode([frame]), self.feeder.kind)
            self.feeder.answered()
        except Exception as error:  # whatever is wrong with a frame costs that frame alone
            self.feeder.answered(one_line(error, 160))
            self.stats.count(self.feeder.kind, FAILED)
            if self.stats.total(FAILED) in (1, 10, 100):
                _log.warning("%s cannot be answered (%s)", frame.source, error)

    def _tick(self) -> None:
        self._last_tick = time.monotonic()
        self.feeder.check(self._last_tick)
        self.troubles["picture"] = self.feeder.still()
        self._disk_watch.look()
        self.governor_loop.tick()
        if self._began_s and self._last_tick - self._began_s > self.model.restarts.healthy_s:
            self._stayed_healthy()
        self._update_state()
        self._tell()

    def _tell(self) -> None:
        """Tell systemd and listeners the figures of the last second, and a new decision."""
        sensors, loop = self.sensors, self.governor_loop
        reason = f" ({self.reason[:200]})" if self.reason else ""
        notify(f"WATCHDOG=1\nSTATUS={self.state}, {loop.frames_per_s:.0f} frames/s{reason}")
        figures = {"power_w": sensors.now.power_w, "energy_j": sensors.energy_j}
        figures |= {"consolidation": loop.consolidation.facts()["now"]}
        self.emit("status", {"frames_per_s": loop.frames_per_s, **figures})
        if loop.decision is not None and str(loop.decision) != self._told:
            self._told = str(loop.decision)
            self.emit("budget", {**vars(loop.decision), "text": self._told})

    def _update_state(self) -> None:
        status = status_of(
            self.governor_loop,
            self.feeder.trouble(time.monotonic()),
            self.troubles,
            started=self._started,
            stopping=self.stopping.is_set(),
        )
        before = self.state, self.reason
        self.state, self.reason, self.serves = *state_of(status), status.serves
        if (self.state, self.reason) != before:
            if status.is_troubled:
                _log.warning("%s: %s", self.state, self.reason)
            self.emit("state", {"state": self.state, "reason": self.reason})
