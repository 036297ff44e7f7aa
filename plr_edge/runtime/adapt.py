"""The loop of `plr-edge adapt`: a finite stream through a session, interruptible at any time."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from plr_edge.errors import StreamError
from plr_edge.runtime.session import Session
from plr_edge.stream.base import Skipped, Stream, in_chunks

_SAVE_EVERY_S = 300.0  # 2 GB a day on a board that never stops


@dataclass(frozen=True, kw_only=True)
class AdaptSummary:
    """What `adapt` did.

    Attributes:
        n_frames: number of frames answered.
        n_taught: number of labels learned, those of earlier runs included.
        n_quarantined: number of labels that look like mistakes and were not learned.
        n_classes: number of classes known.
        prequential_accuracy: share of labelled frames answered correctly before they were learned.
            None without labels.
        seconds: duration.
        frames_per_s: rate of frames.
        learn_share: share of the time spent on learning.
        frozen_s: seconds spent in the frozen part.
        adaptive_s: seconds spent in the adaptive part.
        version: number of published candidates.
        n_latents: number of latents in the latent memory.
        latent_bytes: size of the latent memory.
        cache_mean_age_steps: mean age of the cached features used for training.
        cache_max_age_steps: largest age of them.
        train_macs: multiply-adds of training.
        refresh_macs: multiply-adds of recomputing features.
        steps_per_level: number of training steps by level entered.
        skipped: frames that could not be read, with the reason.
        interrupted: whether the stream was not read to its end.
    """

    n_frames: int
    n_taught: int
    n_quarantined: int
    n_classes: int
    prequential_accuracy: float | None
    seconds: float
    frames_per_s: float
    learn_share: float
    frozen_s: float
    adaptive_s: float
    version: int
    n_latents: int
    latent_bytes: int
    cache_mean_age_steps: float
    cache_max_age_steps: int
    train_macs: int
    refresh_macs: int
    steps_per_level: Sequence[int]
    skipped: Sequence[Skipped] = ()
    interrupted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return what `plr-edge adapt --json` prints."""
        return {
            "n_frames": self.n_frames,
            "n_taught": self.n_taught,
            "n_quarantined": self.n_quarantined,
            "n_classes": self.n_classes,
            "prequential_accuracy": self.prequential_accuracy,
            "seconds": self.seconds,
            "frames_per_s": self.frames_per_s,
            "learn_share": self.learn_share,
            "frozen_s": self.frozen_s,
            "adaptive_s": self.adaptive_s,
            "version": self.version,
            "memory": {"n": self.n_latents, "bytes": self.latent_bytes},
            "cache": {
                "mean_age_steps": self.cache_mean_age_steps,
                "max_age_steps": self.cache_max_age_steps,
            },
            "macs": {"train": self.train_macs, "refresh": self.refresh_macs},
            "steps_per_level": list(self.steps_per_level),
            "skipped": [{"source": s.source, "reason": s.reason} for s in self.skipped],
            "interrupted": self.interrupted,
        }

    def __getitem__(self, name: str) -> Any:
        """Return an entry of `to_dict`. Deprecated, as of the time when `adapt` returned a dict."""
        warnings.warn(
            f"the summary of adapt() is not a dict any more; use its attributes, not [{name!r}]",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.to_dict()[name]


def adapt(
    session: Session,
    stream: Stream,
    *,
    key: str | None = None,
    on_chunk: Callable[[int, AdaptSummary], None] | None = None,
) -> AdaptSummary:
    """Predict and learn a stream to its end, or until Ctrl-C or SIGTERM. Save in either case.

    Args:
        session: what learns.
        stream: frames, some with labels.
        key: name under which the position is kept, so that a second call with the same state
            continues where the first was interrupted.
        on_chunk: called with the position and the summary so far.

    Raises:
        StreamError: the stream holds no readable frame, or no label though nothing was learned
            before. Or it is strict and a frame cannot be read.
    """
    start = session.position(key) if key else 0
    progress = _Progress(session)
    saved, position, interrupted = time.perf_counter(), start, False
    try:
        with _stoppable() as stop:
            size = session.config.chunk if stream.chunked else 1
            for frames in in_chunks(stream.frames_from(start), size):
                position = frames[-1].index + 1
                session.observe_many(frames, {key: position} if key else None)
                progress.n_frames += len(frames)
                if on_chunk:
                    on_chunk(position, progress.summary())
                if stop.is_set():
                    interrupted = True
                    break
                if time.perf_counter() - saved > _SAVE_EVERY_S:
                    session.save(within_budget=True)
                    saved = time.perf_counter()
    except StreamError:
        _keep_position(session, key, position)
        session.save("the stream broke")
        raise
    if progress.n_frames == 0 and start == 0:
        bad = f" ({len(stream.skipped)} unreadable, the first: {stream.skipped[0].reason})"
        raise StreamError(f"the stream holds no frame{bad if stream.skipped else ''}")
    if not session.learned.classes and not interrupted:
        raise StreamError(
            f"none of {progress.n_frames} frames has a label, and nothing was learned before; give "
            "labels by folders, a .csv, `path<TAB>label` lines or --labels of a ROS bag"
        )
    _keep_position(session, key, position if interrupted else 0)
    if interrupted:
        session.save("interrupted")
    else:
        session.finish()
    return replace(progress.summary(), skipped=tuple(stream.skipped), interrupted=interrupted)


def _keep_position(session: Session, key: str | None, position: int) -> None:
    if key and session.store:
        session.store.facts.keep(positions={key: position} if position else {})


class _Progress:
    """How far a stream was learned."""

    def __init__(self, session: Session) -> None:
        self.n_frames = 0
        self._session = session
        self._began, self._learned_before = time.perf_counter(), session.learn_s

    def summary(self) -> AdaptSummary:
        """Return the summary so far."""
        session, learned, memory = (
            self._session,
            self._session.learned,
            self._session.training.memory,
        )
        cost = session.learner.features.cost
        elapsed_s = max(time.perf_counter() - self._began, 1e-9)
        return AdaptSummary(
            n_frames=self.n_frames,
            n_taught=learned.n_taught,
            n_quarantined=learned.n_quarantined,
            n_classes=len(learned.classes),
            prequential_accuracy=learned.history.accuracy,
            seconds=elapsed_s,
            frames_per_s=self.n_frames / elapsed_s,
            learn_share=(session.learn_s - self._learned_before) / elapsed_s,
            frozen_s=session.perception.frozen_s,
            adaptive_s=session.perception.adaptive_s,
            version=learned.version,
            n_latents=len(memory),
            latent_bytes=memory.n_bytes,
            cache_mean_age_steps=cost.age_sum_steps / max(cost.n_cached, 1),
            cache_max_age_steps=cost.age_max_steps,
            train_macs=cost.train_macs,
            refresh_macs=cost.refresh_macs,
            steps_per_level=tuple(cost.steps_per_level),
        )


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop. The second one acts as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
