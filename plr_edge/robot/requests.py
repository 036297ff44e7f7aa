"""Requests: what may be asked of a robot between two frames. Teach, predict, undo, save."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np

from plr_edge.errors import StreamError
from plr_edge.robot.calls import done, then
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.recent_frames import NoveltyDetector, RecentFrame, RecentFrames, thumbnail
from plr_edge.robot.status import ANSWERED, FrameStats
from plr_edge.runtime.prediction import UNKNOWN, FrozenOutput, answer
from plr_edge.runtime.undo import mark_undone
from plr_edge.store import LEARNED, MAX_REQUESTS, QUARANTINED, Label, TeachRequest
from plr_edge.stream.base import Frame
from plr_edge.stream.names import check_label, known_name

_HTTP = "http"  # kind of source of images in requests


class Requests:
    """Answers requests. All methods but `encode` belong to the thread of the frames.

    Attributes:
        answers: answers to requests to teach by their keys, the newest last.
        thumbnails: a picture of each class that was taught since the start.
    """

    def __init__(
        self,
        model: OnlineModel,
        recent: RecentFrames,
        novelty: NoveltyDetector,
        stats: FrameStats,
        emit: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """Take the answers to requests with a key from the store.

        Args:
            model: what answers and learns.
            recent: frames that can be taught.
            novelty: runs of frames that the operator was asked about.
            stats: counts the images answered.
            emit: called with the kind and the payload of an event.
        """
        self._model, self._recent, self._novelty = model, recent, novelty
        self._stats, self._emit = stats, emit
        self.answers = model.store.requests.answers()
        self.thumbnails: dict[str, np.ndarray] = {}

    def encode(
        self, images: Sequence[np.ndarray], source: str = "api", stamp_ns: int | None = None
    ) -> list[FrozenOutput]:
        """Run images through the frozen part. Any thread may do it, while frames are answered.

        Args:
            images: (H, W, 3) uint8 each.
            source: who gave them.
            stamp_ns: time stamp, now by default.
        """
        stamp_ns = time.time_ns() if stamp_ns is None else stamp_ns
        frames = [Frame(image, None, stamp_ns, source, i) for i, image in enumerate(images)]
        return [self._model.perception.encode([frame]) for frame in frames]

    def teach(
        self,
        label: str,
        *,
        last: int = 1,
        stamp_ns: int | None = None,
        sequence: int | None = None,
        key: str | None = None,
        images: Sequence[np.ndarray] | None = None,
        encoded: Sequence[FrozenOutput] | None = None,
        source: str = "api",
        new_class: bool = False,
    ) -> Future[dict[str, Any]]:
        """Teach recent frames, a run that was asked about, or images.

        Args:
            label: the class.
            last: number of the newest frames to teach.
            stamp_ns: time stamp of one recent frame to teach instead.
            sequence: number of one recent frame to teach instead. Or of a run of unknown frames
                that was asked about, which is taught as a whole.
            key: a request with a key that was used before teaches nothing.
            images: (H, W, 3) uint8 each, to teach instead.
            encoded: what `encode` returned for images, to teach instead.
            source: who teaches.
            new_class: a label that looks like a known class is one of its own.

        Returns:
            What was taught, once it is durable and answers. Or a StateError if the disk refuses,
            and nothing was taught.

        Raises:
            LabelError: the label cannot be used.
            StreamError: there is no such frame.
        """
        label = known_name(check_label(label), self._model.learned.classes, new_class)
        self._check_learning()
        if key is not None and key in self.answers:
            return done(self.answers[key])
        if images is not None:
            encoded = self.encode(images, source)
        if encoded is None:
            encoded = [each.encoded for each in self._chosen(last, stamp_ns, sequence)]
        if not encoded:
            which = "the newest frames" if len(self._recent) else "frames, once there are some,"
            raise StreamError(f"no such frame; {which} can be taught")
        return self._teach(label, encoded, source, key, sequence)

    def predict(
        self, images: Sequence[np.ndarray] = (), encoded: Sequence[FrozenOutput] | None = None
    ) -> list[dict[str, Any]]:
        """Answer images, or what `encode` returned for them."""
        answers = []
        for one in self.encode(images) if encoded is None else encoded:
            features = self._model.perception.extract(one)
            (prediction,) = answer(self._model.learned, one.frames, features)
            age_ms = (time.time_ns() - prediction.stamp_ns) / 1e6
            latency_ms = (time.perf_counter_ns() - one.began_ns) / 1e6
            self._stats.count(_HTTP, UNKNOWN if prediction.label == UNKNOWN else ANSWERED)
            facts = replace(prediction, latency_ms=latency_ms).to_dict()
            answers.append({**facts, "age_ms": round(age_ms, 1)})
        return answers

    def classes(self) -> list[dict[str, Any]]:
        """Return the classes, and how many labels of each were taught. Any thread may ask."""
        learned = self._model.learned
        counts: Counter[int] = Counter(learned.history.labels)
        return [{"name": n, "taught": counts[i]} for i, n in enumerate(learned.classes)]

    def undo(self, **filters: Any) -> Future[dict[str, Any]]:
        """Undo labels that were learned.

        What answers is rebuilt from the labels that are left, while frames are answered.

        Args:
            filters: filters of `store.select`, e.g. `last` or `name`.

        Returns:
            How many, once they no longer answer. Or a StreamError if there are none.
        """

        def change() -> int:
            reason = "undone through the API"
            undone = mark_undone(self._model.store, reason, statuses=(LEARNED,), **filters)
            if not undone:
                raise StreamError("no such label; GET /classes lists what was taught")
            return len(undone)

        return self._rebuild_after(change)

    def rollback(self) -> Future[dict[str, Any]]:
        """Go back to the generation before the newest.

        Returns:
            How many labels that undoes, once they no longer answer. Or a StreamError if there is no
            such generation.
        """
        store = self._model.store

        def change() -> int:
            if len(store.generations) < 2:
                raise StreamError("there is no generation older than the newest")
            return store.rollback()

        return self._rebuild_after(change)

    def save(self) -> Future[dict[str, Any]]:
        """Write a generation now. Labels are on disk already.

        Returns:
            Whether it was written, and if not, the reason.
        """
        self._check_learning()
        model = self._model
        return then(
            model.save("on request"),
            lambda refusal: {
                "saved": not refusal,
                "reason": refusal,
                "version": model.learned.version,
                "taught": model.learned.n_taught,
            },
        )

    def _check_learning(self) -> None:
        """Refuse to change anything while nothing learned is used."""
        if trouble := self._model.restarts.trouble:
            raise StreamError(trouble)

    def _rebuild_after(self, change: Callable[[], int]) -> Future[dict[str, Any]]:
        self._check_learning()

        def finish(n: int) -> dict[str, Any]:
            self._emit("undone", {"undone": n})
            return {"undone": n}

        return then(self._model.rebuild_after(change), finish)

    def _chosen(self, last: int, stamp_ns: int | None, sequence: int | None) -> list[RecentFrame]:
        if stamp_ns is not None:
            return self._recent.with_stamp(stamp_ns)
        if sequence is not None:
            return self._novelty.asked.get(sequence) or self._recent.with_sequence(sequence)
        return self._recent.newest(last)

    def _teach(
        self,
        label: str,
        encoded: Sequence[FrozenOutput],
        source: str,
        key: str | None,
        sequence: int | None,
    ) -> Future[dict[str, Any]]:
        """Acknowledge and learn frames. Return the answer to the request."""
        model = self._model
        frames = [
            replace(frame, label=label, source=f"{source} {frame.source}")
            for each in encoded
            for frame in each.frames
        ]
        reply: dict[str, Any] = {
            "taught": len(frames),
            "first": model.last_seq + 1,
            "label": label,
            "quarantined": 0,
        }

        def complete(labels: Sequence[Label]) -> dict[str, Any]:
            reply["quarantined"] = sum(x.status == QUARANTINED for x in labels)
            return reply

        def finish(_: object) -> dict[str, Any]:
            if key is not None:
                self.answers[key] = reply
                while len(self.answers) > MAX_REQUESTS:
                    del self.answers[next(iter(self.answers))]
            self.thumbnails.setdefault(label, thumbnail(frames[-1].image))
            self._novelty.asked.pop(-1 if sequence is None else sequence, None)
            self._emit("taught", reply)
            return reply

        request = TeachRequest(key, label, complete)
        return then(model.teach(frames, encoded, {"request": request}), finish)
