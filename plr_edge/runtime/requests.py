"""Requests: what may be asked of a robot between two frames; teach, predict, undo, save."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from plr_edge.errors import StateError, StreamError
from plr_edge.runtime.counts import ANSWERED, Counts
from plr_edge.runtime.drift import Glimpse, Strangers, thumbnail
from plr_edge.runtime.live import Live
from plr_edge.runtime.perception import UNKNOWN, Looked, Seen
from plr_edge.store import LEARNED, UNDONE
from plr_edge.stream.base import Frame, check_label

_KEYS = 64  # of teaching that are remembered, also over a restart
_HTTP = "http"  # the kind of source that images of requests are


class Requests(ABC):
    """The part of a robot that is asked; what it needs of the rest stands below."""

    live: Live
    counts: Counts
    strangers: Strangers
    disk_trouble: str
    thumbnails: dict[str, np.ndarray]
    ring: Sequence[Glimpse]

    @abstractmethod
    def emit(self, kind: str, facts: dict[str, Any]) -> None:
        """Tell the listeners."""

    @abstractmethod
    def rebuild(self) -> None:
        """Open the knowledge anew on the same state, with the trainer told from the start."""

    def look(
        self, images: Sequence[np.ndarray], source: str = "api", stamp_ns: int | None = None
    ) -> list[Looked]:
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
        images: Sequence[np.ndarray] | None = None, looked: Sequence[Looked] | None = None,
        source: str = "api",
    ) -> dict[str, Any]:  # fmt: skip
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

        Raises:
            LabelError: the label cannot be used.
            StreamError: there is no such frame.
            StateError: the disk refuses; nothing was taught.
        """
        check_label(label)
        if key is not None and (done := self._keys.get(key)):
            return done
        if images is not None:
            looked = self.look(images, source)
        if looked is not None:
            chosen = [(x.frames[0], self.live.perception.finish(x)) for x in looked]
        else:
            chosen = [(g.frame, g.seen) for g in self._chosen(last, stamp_ns, sequence)]
        if not chosen:
            seconds = "the newest frames" if self.ring else "frames, once there are some,"
            raise StreamError(f"no such frame; {seconds} can be taught")
        answer = self._taught(label, chosen, source, key)
        self.strangers.asked.pop(sequence or -1, None)
        self.emit("taught", answer)
        return answer

    def predict(
        self, images: Sequence[np.ndarray] = (), looked: Sequence[Looked] | None = None
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
        self.rebuild()
        answer = {"undone": len(seqs)}
        self.emit("undone", answer)
        return answer

    def rollback(self) -> dict[str, Any]:
        """Go back to the generation before the newest.

        Raises:
            StreamError: there is none.
        """
        store = self.live.store
        assert store is not None
        if len(store.generations()) < 2:
            raise StreamError("there is no generation older than the newest")
        n_aside = store.rollback()
        self.rebuild()
        answer = {"undone": n_aside}
        self.emit("undone", answer)
        return answer

    def save(self) -> dict[str, Any]:
        """Write a generation now, if there is one; labels are on disk already."""
        saved = self.live.save("on request", wait=True)
        return {"saved": saved, "version": self.live.version, "taught": self.live.n_taught}

    def _chosen(self, last: int, stamp_ns: int | None, sequence: int | None) -> list[Glimpse]:
        ring = list(self.ring)
        if stamp_ns is not None:
            return [g for g in ring if g.frame.stamp_ns == stamp_ns][-1:]
        if sequence is not None:
            run = self.strangers.asked.get(sequence)
            return run or [g for g in ring if g.sequence == sequence]
        return ring[-last:]

    def _taught(
        self, label: str, chosen: list[tuple[Frame, Seen]], source: str, key: str | None
    ) -> dict[str, Any]:
        """Acknowledge and learn frames; returns the answer to the request."""
        live = self.live
        frames = [replace(f, label=label, source=f"{source} {f.source}") for f, _ in chosen]
        parts = zip(*((s.latents, s.taps, s.features) for _, s in chosen), strict=True)
        seen = Seen(*(np.concatenate(part) for part in parts))
        before = live.n_quarantined
        first = live.store.last_seq + 1 if live.store else 0
        answer = {"taught": len(frames), "first": first, "label": label}
        try:
            _, taught = live.answer(frames, seen, self._with_key(key, answer))
        except StateError as error:
            self.disk_trouble = f"labels are refused: {error}"
            raise
        self.disk_trouble = ""
        if taught and taught.labels:
            live.learn_fast(taught)
            live.classifier.settle()
            live.learn_slow(taught)
        answer["quarantined"] = live.n_quarantined - before
        if key is not None:
            self._keys[key] = answer
            while len(self._keys) > _KEYS:
                self._keys.popitem(last=False)
        self.thumbnails.setdefault(label, thumbnail(frames[-1].image))
        return answer

    def _with_key(self, key: str | None, answer: dict[str, Any]) -> dict[str, Any]:
        """Return what is to be kept in the same transaction as the labels."""
        if key is None:
            return {}
        return {"keys": [*list(self._keys.items())[-_KEYS + 1 :], (key, answer)]}

    @property
    def _keys(self) -> OrderedDict[str, dict[str, Any]]:
        """The newest keys and what was answered to them."""
        if self._kept_keys is None:
            kept = self.live.store.get("keys", []) if self.live.store else []
            self._kept_keys = OrderedDict((key, answer) for key, answer in kept)
        return self._kept_keys

    _kept_keys: OrderedDict[str, dict[str, Any]] | None = None
