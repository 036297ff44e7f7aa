"""Robot: the loop of `plr-edge run`. The newest frame wins; nothing it does waits for training.

One thread owns perception, the classifier and the store. A source thread leaves it the newest
frame, others leave it requests; it takes them between two frames.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from plr_edge.errors import PlrEdgeError, StreamError
from plr_edge.governor import Decision, Governor, Reading
from plr_edge.meters import cpu_quota, find_power_meters, process_memory, read_temperatures_c
from plr_edge.runtime.live import Live
from plr_edge.runtime.perception import UNKNOWN, Prediction, Seen
from plr_edge.store import LEARNED, UNDONE
from plr_edge.stream.base import Frame, check_label

_log = logging.getLogger(__name__)
_RING = 150  # frames that can be taught after they were seen: five seconds
_TICK_S = 1.0
_IDLE_S = 0.05
_QUOTA_MARGIN, _LEAST_SHARE = 0.7, 0.02
_LATENCIES = 300
_ALIKE = 0.6  # cosine of features of unknown frames that look alike; of a film, 0.63 to 0.99
_RUN_OF_UNKNOWN = 15
STATES = (
    "starting", "serving", "learning", "paused", "degraded", "factory fallback", "stopping",
)  # fmt: skip


class Robot:
    """Answer frames as they come, and teach while doing so."""

    def __init__(self, live: Live, governor: Governor) -> None:
        self.live, self.governor = live, governor
        self.state, self.reason = "starting", ""
        self.n_frames = self.n_dropped = self.n_unknown = 0
        self.latest: tuple[Frame, Prediction] | None = None
        self.thumbnails: dict[str, np.ndarray] = {}
        self.decision: Decision | None = None
        self.power_w: float | None = None
        self.energy_j: float | None = None
        self.frames_per_s = 0.0
        self.listeners: list[Callable[[str, dict[str, Any]], None]] = []
        self.paused = False
        self.latencies_ms: deque[float] = deque(maxlen=_LATENCIES)
        self._ring: deque[tuple[int, Frame, Seen]] = deque(maxlen=_RING)
        self._strange: deque[tuple[Frame, np.ndarray]] = deque(maxlen=_RUN_OF_UNKNOWN)
        self._keys: dict[str, dict[str, Any]] = {}
        self._condition = threading.Condition()
        self._newest: Frame | None = None
        self._requests: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self.stopping = threading.Event()
        self._source_error = ""
        self._meters, _ = find_power_meters()
        self._quota, self._cpu_s = cpu_quota(), time.process_time()
        self._last_tick, self._frames_at_tick, self._steps_at_tick = time.monotonic(), 0, 0

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
            self.n_dropped += self._newest is not None
            self._newest = frame
            self._condition.notify()

    def feed(self, source: Iterator[Frame]) -> None:
        """Read a source to its end on this thread, leaving the newest frame for the loop."""
        try:
            for frame in source:
                self.put(frame)
                if self.stopping.is_set():
                    return
        except PlrEdgeError as error:
            self._source_error = str(error)
        _log.info("the source ended")

    def stop(self) -> None:
        """Wish the loop to end."""
        self.stopping.set()
        with self._condition:
            self._condition.notify()

    # the loop

    def run(self) -> None:
        """Answer until `stop`; then save."""
        notify("READY=1")
        for meter in self._meters:
            meter.start()
        self._set_state("serving")
        while not self.stopping.is_set():
            with self._condition:
                if self._newest is None and not self._requests:
                    self._condition.wait(_IDLE_S)
                frame, self._newest = self._newest, None
                requests = [self._requests.popleft() for _ in range(len(self._requests))]
            if frame is not None:
                self._see(frame)
            for act, future in requests:
                self._answer(act, future)
            self.live.poll()
            if time.monotonic() - self._last_tick >= _TICK_S:
                self._tick()
        self._set_state("stopping")
        notify("STOPPING=1")
        for _, future in self._requests:
            future.cancel()
        self.live.trainer.kill()
        if self.live.store and self.live.n_taught:
            self.live.save("at the end", wait=True)

    # what may be asked; call these through `call`

    def teach(
        self, label: str, *, last: int = 1, stamp_ns: int | None = None, key: str | None = None,
        images: list[np.ndarray] | None = None, source: str = "api",
    ) -> dict[str, Any]:  # fmt: skip
        """Teach frames just seen, the one of a stamp, or images.

        Args:
            label: the class.
            last: how many of the newest frames.
            stamp_ns: of one frame in the ring, instead.
            key: a request with a key that was used before teaches nothing.
            images: (H, W, 3) uint8, instead.
            source: who teaches.

        Raises:
            LabelError: the label cannot be used.
            StreamError: there is no such frame.
            StateError: the disk refuses; nothing was taught.
        """
        check_label(label)
        if key is not None:
            done = self._keys.get(key) or self._kept_key(key)
            if done:
                return done
        if images is not None:
            frames = [Frame(image, None, time.time_ns(), source, 0) for image in images]
            chosen = [(frame, self.live.perception.see([frame])) for frame in frames]
        elif stamp_ns is not None:
            chosen = [(f, s) for _, f, s in self._ring if f.stamp_ns == stamp_ns][-1:]
        else:
            chosen = [(f, s) for _, f, s in list(self._ring)[-last:]]
        if not chosen:
            raise StreamError("no such frame; the newest five seconds can be taught")
        frames = [replace(f, label=label, source=f"{source} {f.source}") for f, _ in chosen]
        parts = zip(*((s.latents, s.taps, s.features) for _, s in chosen), strict=True)
        seen = Seen(*(np.concatenate(part) for part in parts))
        before = self.live.n_quarantined
        first = self.live.store.last_seq + 1 if self.live.store else 0
        answer = {"taught": len(frames), "first": first, "label": label}
        facts = {f"key {key}": answer} if key is not None else {}
        _, taught = self.live.answer(frames, seen, facts)
        if taught and taught.labels:
            self.live.learn_fast(taught)
            self.live.classifier.settle()
            self.live.learn_slow(taught)
        answer["quarantined"] = self.live.n_quarantined - before
        if key is not None:
            self._keys[key] = answer
        self.thumbnails.setdefault(label, frames[-1].image)
        self.emit("taught", answer)
        return answer

    def predict(self, images: list[np.ndarray]) -> list[dict[str, Any]]:
        """Answer images that came by the API."""
        frames = [Frame(image, None, time.time_ns(), "api", 0) for image in images]
        return [p.to_dict() for p in self.live.perception.predict_many(frames)]

    def classes(self) -> list[dict[str, Any]]:
        """Return the classes that are known, and how often each was taught."""
        counts: Counter[int] = Counter(self.live.history.labels)
        return [{"name": n, "taught": counts[i]} for i, n in enumerate(self.live.classes)]

    def undo(self, *, last: int | None = None, name: str | None = None) -> dict[str, Any]:
        """Mark labels as undone; what answers is rebuilt from those that are left.

        Raises:
            StreamError: there are none.
        """
        store = self.live.store
        assert store is not None
        labels = [x for x in store.labels() if x.status == LEARNED and name in (None, x.name)]
        seqs = [x.seq for x in labels][-last:] if last else [x.seq for x in labels]
        if not seqs:
            raise StreamError("no such label; GET /classes lists what was taught")
        store.mark(seqs, UNDONE, "undone through the API")
        self._rebuild()
        self.emit("undone", {"undone": len(seqs)})
        return {"undone": len(seqs)}

    def rollback(self) -> dict[str, Any]:
        """Go back to the generation before the newest.

        Raises:
            StateError: there is none.
        """
        assert self.live.store is not None
        n_aside = self.live.store.rollback()
        self._rebuild()
        return {"undone": n_aside}

    def pause(self, paused: bool) -> dict[str, Any]:
        """Stop training, or go on; teaching and answering are not touched."""
        self.paused = paused
        self.live.set_budget(0.0 if paused else self._steps_per_s(), paused=paused)
        self._update_state()
        return self.health()

    def save(self) -> dict[str, Any]:
        """Write a generation now, if there is one; labels are on disk already."""
        saved = self.live.save("on request", wait=True)
        return {"saved": saved, "version": self.live.version, "taught": self.live.n_taught}

    def health(self) -> dict[str, Any]:
        """Return the state of the whole, for people and machines."""
        live = self.live
        latencies = sorted(self.latencies_ms)
        store = live.store
        return {
            "state": self.state,
            "reason": self.reason,
            "version": live.version,
            "classes": len(live.classes),
            "taught": live.n_taught,
            "quarantined": live.n_quarantined,
            "frames": self.n_frames,
            "dropped": self.n_dropped,
            "unknown": self.n_unknown,
            "frames_per_s": round(self.frames_per_s, 2),
            "latency_ms_p50": _percentile(latencies, 0.5),
            "latency_ms_p99": _percentile(latencies, 0.99),
            "power_w": self.power_w,
            "energy_j": self.energy_j,
            "rss_bytes": process_memory().get("rss_bytes"),
            "canary": vars(live.verdict) if live.verdict else None,
            "generations_dropped": live.n_dropped,
            "trainer": {
                "alive": live.trainer.alive,
                "deaths": live.trainer.n_deaths,
                **live.report,
            },
            "governor": str(self.decision) if self.decision else None,
            "state_bytes": store.n_bytes if store else 0,
            "written_today_bytes": store.written_today if store else 0,
        }

    def emit(self, kind: str, facts: dict[str, Any]) -> None:
        """Tell the listeners; they must not wait."""
        for listener in list(self.listeners):
            listener(kind, facts)

    # inside

    def _see(self, frame: Frame) -> None:
        start = time.perf_counter()
        seen = self.live.perception.see([frame])
        (prediction,) = self.live.perception.answer([frame], seen)
        latency_ms = (time.perf_counter() - start) * 1e3
        prediction = replace(prediction, latency_ms=latency_ms)
        self.latencies_ms.append(latency_ms)
        self.n_frames += 1
        self._ring.append((self.n_frames, frame, seen))
        self.latest = (frame, prediction)
        if prediction.label == UNKNOWN:
            self.n_unknown += 1
            self._look_strange(frame, seen.features[0])
        else:
            self._strange.clear()
        age_ms = (time.time_ns() - frame.stamp_ns) / 1e6
        facts = {**prediction.to_dict(), "sequence": self.n_frames, "age_ms": round(age_ms, 1)}
        self.emit("prediction", facts)

    def _look_strange(self, frame: Frame, feature: np.ndarray) -> None:
        """Ask the operator, once, about a run of unknown frames that look alike."""
        unit = feature / max(float(np.linalg.norm(feature)), 1e-9)
        if self._strange and float(unit @ self._strange[-1][1]) < _ALIKE:
            self._strange.clear()
        self._strange.append((frame, unit))
        if len(self._strange) == _RUN_OF_UNKNOWN:
            self._strange.clear()
            self.thumbnails[UNKNOWN] = frame.image
            self.emit("what is this", {"stamp_ns": frame.stamp_ns, "source": frame.source})
            self.live.note("unknown", f"a run of {_RUN_OF_UNKNOWN} frames that look alike")

    def _answer(self, act: Callable[[], Any], future: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(act())
        except Exception as error:
            future.set_exception(error)

    def _tick(self) -> None:
        now = time.monotonic()
        passed = now - self._last_tick
        self.frames_per_s = (self.n_frames - self._frames_at_tick) / passed
        steps = sum(self.live.report.get("steps_per_level", [0]))
        reading = Reading(
            power_w=self._read_power(),
            temp_c=max(read_temperatures_c().values(), default=None),
            # old ones say nothing of now: a robot that sees nothing has time to consolidate
            latency_ms=_percentile(sorted(self.latencies_ms), 0.99) if self.frames_per_s else None,
            pressure=_pressure(),
            steps_per_s=max(0.0, (steps - self._steps_at_tick) / passed),
        )
        if self.live.report.get("step_s"):
            self.governor.observe_cost(float(self.live.report["step_s"]))
        before = self.decision
        self.decision = self.governor.decide(reading, passed)
        if before is None or before.reason.split()[0] != self.decision.reason.split()[0]:
            _log.info("%s", self.decision)
        self.live.set_budget(self._steps_per_s(), paused=self.paused)
        self._quota = cpu_quota()
        if self._quota is not None:
            self._share_quota(passed)
        self._last_tick, self._frames_at_tick, self._steps_at_tick = now, self.n_frames, steps
        self._update_state()
        notify(f"WATCHDOG=1\nSTATUS={self.state}, {self.frames_per_s:.0f} frames/s")
        self.emit("status", {"frames_per_s": self.frames_per_s, "power_w": self.power_w})

    def _share_quota(self, passed_s: float) -> None:
        """Leave the trainer what the cgroup's quota has left beside perception."""
        assert self._quota is not None
        used_s, self._cpu_s = time.process_time() - self._cpu_s, time.process_time()
        left = _QUOTA_MARGIN * self._quota - used_s / passed_s
        self.live.share = min(max(left, _LEAST_SHARE), 1.0)
        self.live.trainer.limit(self.live.share)

    def _steps_per_s(self) -> float:
        return self.decision.steps_per_s if self.decision else 1e6

    def _read_power(self) -> float | None:
        """Mean watts since the last look; None where nothing measures them."""
        total = None
        for meter in self._meters:
            reading = meter.stop()
            meter.start()
            if reading.mean_w is not None:
                total = (total or 0.0) + reading.mean_w
                self.energy_j = (self.energy_j or 0.0) + (reading.total_mj or 0.0) / 1e3
        self.power_w = total
        return total

    def _update_state(self) -> None:
        trainer = self.live.trainer
        if self._source_error:
            self._set_state("degraded", self._source_error)
        elif trainer.given_up:
            self._set_state("degraded", "the trainer keeps dying; answering without learning")
        elif self.paused:
            self._set_state("paused")
        elif self.live.report.get("to_go", 0) and trainer.alive:
            self._set_state("learning")
        else:
            self._set_state("serving")

    def _set_state(self, state: str, reason: str = "") -> None:
        assert state in STATES
        if (state, reason) != (self.state, self.reason):
            self.state, self.reason = state, reason
            self.emit("state", {"state": state, "reason": reason})

    def _rebuild(self) -> None:
        """Open the knowledge anew on the same state, with the trainer told from the start."""
        self.live.reopen()
        self._ring.clear()

    def _kept_key(self, key: str) -> dict[str, Any] | None:
        return self.live.store.get(f"key {key}") if self.live.store else None


def notify(message: str) -> None:
    """Tell systemd, where it listens (sd_notify)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message.encode(), "\0" + address[1:] if address[0] == "@" else address)


def _pressure() -> float | None:
    """Share of the last ten seconds in which some task waited for a processor."""
    with suppress(OSError, ValueError, IndexError), open("/proc/pressure/cpu") as file:
        return float(file.readline().split()[1].partition("=")[2]) / 100
    return None


def _percentile(values: list[float], share: float) -> float | None:
    if not values:
        return None
    return round(values[min(int(share * len(values)), len(values) - 1)], 2)
