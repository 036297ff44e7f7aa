"""Requests: what may be asked of a robot between two frames; teach, predict, undo, save."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from plr_edge.errors import StateError, StreamError
from plr_edge.robot.counts import ANSWERED, FrameStats
from plr_edge.robot.drift import NoveltyDetector, RecentFrame, thumbnail
from plr_edge.robot.live import Live
from plr_edge.runtime.perception import UNKNOWN, FrozenOutput
from plr_edge.store import LEARNED, MAX_REQUESTS, QUARANTINED, UNDONE, Label, TeachRequest, select
from plr_edge.stream.base import Frame, check_label

T = TypeVar("T")
_HTTP = "http"  # the kind of source that images of requests are


class Requests(ABC):
    """The part of a robot that is asked; what it needs of the rest stands below."""

    live: Live
    counts: FrameStats
    strangers: NoveltyDetector
    disk_trouble: str
    thumbnails: dict[str, np.ndarray]
    ring: Sequence[RecentFrame]
    answers: dict[str, dict[str, Any]]  # to requests to teach, by their keys, the newest last

    @abstractmethod
    def emit(self, kind: str, facts: dict[str, Any]) -> None:
        """Tell the listeners."""

    def look(
        self, images: Sequence[np.ndarray], source: str = "api", stamp_ns: int | None = None
    ) -> list[FrozenOutput]:
        """Run images through the frozen part; any thread may, while frames are answered.

        Args:
            images: (H, W, 3) uint8 each.
            source: who gave them.
            stamp_ns: when; now by default.
        """
        stamp_ns = time.time_ns() if stamp_ns is None else stamp_ns
        frames = [Frame(image, None, stamp_ns, source, i) for i, image in enumerate(images)]
        return [self.live.perception.look([frame]) for frame in frames]

    def teach(
        self, label: str, *, last: int = 1, stamp_ns: int | None = None,
        sequence: int | None = None, key: str | None = None,
        images: Sequence[np.ndarray] | None = None, looked: Sequence[FrozenOutput] | None = None,
        source: str = "api",
    ) -> Future[dict[str, Any]]:  # fmt: skip
        """Teach frames just seen, one of them, a run that was asked about, or images.

        Args:
            label: the class.
            last: how many of the newest frames.
            stamp_ns: of one frame in the ring, instead.
            sequence: number of one frame in the ring, instead; or of a run of unknown frames that
                was asked about, which is taught whole.
            key: a request with a key that was used before teaches nothing.
            images: (H, W, 3) uint8, instead.
            looked: what `look` made of images, instead.
            source: who teaches.

        Returns:
            What was taught, once it is durable and answers; or a StateError: the disk refuses, and
            nothing was taught.

        Raises:
            LabelError: the label cannot be used.
            StreamError: there is no such frame.
        """
        check_label(label)
        self._must_learn()
        if key is not None and key in self.answers:
            return _at_once(self.answers[key])
        if images is not None:
            looked = self.look(images, source)
        if looked is None:
            looked = [glimpse.looked for glimpse in self._chosen(last, stamp_ns, sequence)]
        if not looked:
            which = "the newest frames" if self.ring else "frames, once there are some,"
            raise StreamError(f"no such frame; {which} can be taught")
        return self._taught(label, looked, source, key, sequence)

    def predict(
        self, images: Sequence[np.ndarray] = (), looked: Sequence[FrozenOutput] | None = None
    ) -> list[dict[str, Any]]:
        """Answer images that came by the API, or what `look` made of them."""
        answers = []
        for one in self.look(images) if looked is None else looked:
            (prediction,) = self.live.perception.answer(
                one.frames, self.live.perception.finish(one)
            )
            age_ms = (time.time_ns() - prediction.stamp_ns) / 1e6
            latency_ms = (time.perf_counter_ns() - one.began_ns) / 1e6
            self.counts.count(_HTTP, UNKNOWN if prediction.label == UNKNOWN else ANSWERED)
            facts = replace(prediction, latency_ms=latency_ms).to_dict()
            answers.append({**facts, "age_ms": round(age_ms, 1)})
        return answers

    def classes(self) -> list[dict[str, Any]]:
        """Return the classes that are known, and how often each was taught."""
        counts: Counter[int] = Counter(self.live.history.labels)
        return [{"name": n, "taught": counts[i]} for i, n in enumerate(list(self.live.classes))]

    def undo(self, **filters: Any) -> Future[dict[str, Any]]:
        """Mark labels as undone; what answers is rebuilt beside it from those that are left.

        Args:
            filters: which labels, as `store.select` takes them, e.g. `last` or `name`.

        Returns:
            How many, once they no longer answer; or a StreamError: there are none.
        """
        store = self.live.store
        assert store is not None

        def change() -> int:
            seqs = select(store.labels.read(status=LEARNED), **filters)
            if not seqs:
                raise StreamError("no such label; GET /classes lists what was taught")
            return len(store.mark(seqs, UNDONE, "undone through the API"))

        return self._undone(change)

    def rollback(self) -> Future[dict[str, Any]]:
        """Go back to the generation before the newest.

        Returns:
            How many labels that undoes, once they no longer answer; or a StreamError: there is no
            such generation.
        """
        store = self.live.store
        assert store is not None

        def change() -> int:
            if len(store.generations) < 2:
                raise StreamError("there is no generation older than the newest")
            return store.rollback()

        return self._undone(change)

    def save(self) -> Future[dict[str, Any]]:
        """Write a generation now, if there is one; labels are on disk already."""
        self._must_learn()
        return _then(
            self.live.save("on request"),
            lambda saved: {
                "saved": saved, "version": self.live.version, "taught": self.live.n_taught,
            },
        )  # fmt: skip

    def _must_learn(self) -> None:
        if self.live.starts.trouble:
            raise StreamError(self.live.starts.trouble)

    def _undone(self, change: Callable[[], int]) -> Future[dict[str, Any]]:
        self._must_learn()

        def tell(n: int) -> dict[str, Any]:
            self.emit("undone", {"undone": n})
            return {"undone": n}

        return _then(self.live.restart_after(change), tell)

    def _chosen(self, last: int, stamp_ns: int | None, sequence: int | None) -> list[RecentFrame]:
        ring = list(self.ring)
        if stamp_ns is not None:
            return [g for g in ring if g.frame.stamp_ns == stamp_ns][-1:]
        if sequence is not None:
            run = self.strangers.asked.get(sequence)
            return run or [g for g in ring if g.sequence == sequence]
        return ring[-last:]

    def _taught(
        self, label: str, looked: Sequence[FrozenOutput], source: str, key: str | None,
        sequence: int | None,
    ) -> Future[dict[str, Any]]:  # fmt: skip
        """Acknowledge and learn frames; returns the answer to the request."""
        live = self.live
        seen = [frame for one in looked for frame in one.frames]
        frames = [replace(f, label=label, source=f"{source} {f.source}") for f in seen]
        answer = {"taught": len(frames), "first": live.last_seq + 1, "label": label}
        answer["quarantined"] = 0

        def complete(labels: Sequence[Label]) -> dict[str, Any]:
            answer["quarantined"] = sum(x.status == QUARANTINED for x in labels)
            return answer

        def tell(_: object) -> dict[str, Any]:
            self.disk_trouble = ""
            if key is not None:
                self.answers[key] = answer
                while len(self.answers) > MAX_REQUESTS:
                    del self.answers[next(iter(self.answers))]
            self.thumbnails.setdefault(label, thumbnail(frames[-1].image))
            self.strangers.asked.pop(sequence or -1, None)
            self.emit("taught", answer)
            return answer

        def refused(error: Exception) -> None:
            if isinstance(error, StateError):
                self.disk_trouble = f"labels are refused: {error}"

        request = TeachRequest(key, label, complete)
        return _then(live.teach(frames, looked, {"request": request}), tell, refused)


def _at_once(value: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(value)
    return future


def _then(
    done: Future[Any],
    make: Callable[[Any], T],
    refused: Callable[[Exception], None] = lambda _: None,
) -> Future[T]:
    """Return what `make` makes of a result, or the error, which `refused` is told of."""
    outcome: Future[T] = Future()

    def take(done: Future[Any]) -> None:
        try:
            outcome.set_result(make(done.result()))
        except Exception as error:
            refused(error)
            outcome.set_exception(error)

    done.add_done_callback(take)
    return outcome


class Request:
    """Something to do between two frames, and what comes of it."""

    def __init__(self, act: Callable[[], Any], changes: bool) -> None:
        """Do nothing yet; `changes` says whether it changes what was taught."""
        self.changes, self.outcome = changes, Future[Any]()
        self._act = act

    def answer(self) -> None:
        """Do it; the outcome comes now, or when a future that it returned is done."""
        if not self.outcome.set_running_or_notify_cancel():
            return
        try:
            result = self._act()
        except Exception as error:
            self.outcome.set_exception(error)
            return
        if isinstance(result, Future):
            result.add_done_callback(self._pass_on)
        else:
            self.outcome.set_result(result)

    def _pass_on(self, done: Future[Any]) -> None:
        if (error := done.exception()) is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(done.result())
