"""Requests: what may be asked of a robot between two frames. Teach, predict, save, correct."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np

from plr_edge.errors import StreamError
from plr_edge.robot.calls import then
from plr_edge.robot.correcting import DIGEST, Correcting
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.recent_frames import NoveltyDetector, RecentFrame, RecentFrames, thumbnail
from plr_edge.robot.status import ANSWERED, FrameStats
from plr_edge.robot.taught_frames import TaughtFrames
from plr_edge.runtime.prediction import UNKNOWN, FrozenOutput, answer
from plr_edge.store import MAX_REQUESTS, QUARANTINED, Label, TeachRequest
from plr_edge.stream.base import Frame
from plr_edge.stream.names import check_label, known_name

_HTTP = "http"  # kind of source of images in requests


class Requests(Correcting):
    """Answers requests. All methods but `encode` belong to the thread of the frames.

    Attributes:
        answers: answers to requests to teach by their keys, the newest last.
        thumbnails: a picture of each class that was taught since the start.
        are_frames: whether images to predict are the frames of this robot, because it has no other
            source.
        saw_frame: called for each of them.
        taught: frames that were taught since the start.
    """

    def __init__(
        self,
        model: OnlineModel,
        recent: RecentFrames,
        novelty: NoveltyDetector,
        stats: FrameStats,
        emit: Callable[[str, dict[str, Any]], None],
        answer_frame: Callable[[FrozenOutput, str], dict[str, Any]],
    ) -> None:
        """Take the answers to requests with a key from the store.

        Args:
            model: what answers and learns.
            recent: frames that can be taught.
            novelty: runs of frames that the operator was asked about.
            stats: counts the images answered.
            emit: called with the kind and the payload of an event.
            answer_frame: answers the frozen output of one frame, given the kind of its source.
        """
        self._model, self._recent, self._novelty = model, recent, novelty
        self._stats, self._emit, self._answer_frame = stats, emit, answer_frame
        self.are_frames = False
        self.saw_frame: Callable[[], None] = lambda: None
        self.answers = model.store.requests.answers()
        self.thumbnails: dict[str, np.ndarray] = {}
        self.taught = TaughtFrames()

    def encode(
        self, images: Sequence[np.ndarray], source: str = "api", stamp_ns: int | None = None
    ) -> list[FrozenOutput]:
        """Run images through the frozen part. Any thread may do it, while frames are answered.

        Args:
            images: (H, W, 3) uint8 each.
            source: who gave them.
            stamp_ns: time stamp of the first, now by default; the others follow by a nanosecond.
        """
        stamp_ns = time.time_ns() if stamp_ns is None else stamp_ns
        frames = [Frame(image, None, stamp_ns + i, source, i) for i, image in enumerate(images)]
        return [self._model.perception.encode([frame]) for frame in frames]

    def teach(
        self,
        label: str,
        *,
        last: int = 1,
        stamp_ns: int | None = None,
        sequence: int | None = None,
        key: str | None = None,
        digest: str = "",
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
            digest: identifies the request apart from its key.
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
            KeyReusedError: the key came with another request before.
        """
        label = known_name(check_label(label), self._model.learned.classes, new_class)
        self._check_learning()
        if (known := self._known(key, digest)) is not None:
            return known
        if images is not None:
            encoded = self.encode(images, source)
        if encoded is None:
            encoded = [each.encoded for each in self._chosen(last, stamp_ns, sequence)]
        if not encoded:
            which = "the newest frames" if len(self._recent) else "frames, once there are some,"
            raise StreamError(f"no such frame; {which} can be taught")
        return self._teach(label, encoded, source, (key, digest), sequence)

    def predict(
        self, images: Sequence[np.ndarray] = (), encoded: Sequence[FrozenOutput] | None = None
    ) -> list[dict[str, Any]]:
        """Answer images, or what `encode` returned for them.

        Without another source they are the frames of this robot: they can be taught, shown, and
        asked about, and count like those of a camera.
        """
        answers = []
        for one in self.encode(images) if encoded is None else encoded:
            if self.are_frames:
                self.saw_frame()
                answers.append(self._answer_frame(one, _HTTP))
                continue
            features = self._model.perception.extract(one)
            (prediction,) = answer(self._model.learned, one.frames, features)
            age_ms = (time.time_ns() - prediction.stamp_ns) / 1e6
            latency_ms = (time.perf_counter_ns() - one.began_ns) / 1e6
            self._stats.count(_HTTP, UNKNOWN if prediction.label == UNKNOWN else ANSWERED)
            facts = replace(prediction, latency_ms=latency_ms).to_dict()
            answers.append({**facts, "age_ms": round(age_ms, 1)})
        return answers

    def classes(self) -> list[dict[str, Any]]:
        """Return the classes, and how many labels of each there are. Any thread may ask."""
        counts, classes = self._model.counts, list(self._model.learned.classes)
        return [
            {"name": n, "taught": counts.learned[n]}
            | ({"quarantined": counts.quarantined[n]} if counts.quarantined[n] else {})
            for n in classes
        ]

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

    def reload(self) -> None:
        """Take everything remembered from the store again, which was replaced by another."""
        self.answers = self._model.store.requests.answers()
        known = self._model.learned.classes
        self.thumbnails = {n: image for n, image in self.thumbnails.items() if n in known}
        self.taught.clear()

    def _keep(self, key: str | None, digest: str, answer: dict[str, Any]) -> None:
        """Remember an answer that is on disk already."""
        if key is None:
            return
        self.answers[key] = {**answer, DIGEST: digest} if digest else answer
        while len(self.answers) > MAX_REQUESTS:
            del self.answers[next(iter(self.answers))]

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
        identity: tuple[str | None, str],
        sequence: int | None,
    ) -> Future[dict[str, Any]]:
        """Acknowledge and learn frames. Return the answer to the request."""
        model, (key, digest) = self._model, identity
        frames = [
            replace(
                frame,
                label=label,
                source=f"{source} {frame.source}",
                doubt=self.taught.doubt(each, label),
            )
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
            return {**reply, DIGEST: digest} if digest else reply

        def finish(_: object) -> dict[str, Any]:
            self._keep(key, digest, reply)
            self.taught.add(encoded, label)
            self.thumbnails.setdefault(label, thumbnail(frames[-1].image))
            self._novelty.asked.pop(-1 if sequence is None else sequence, None)
            self._emit("taught", reply)
            return reply

        request = TeachRequest(key, label, complete)
        return then(model.teach(frames, encoded, {"request": request}), finish)
